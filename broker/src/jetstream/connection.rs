//! The one connection of an engine, and the three ways to speak over it: publish, ask, look.
//!
//! What matters to callers is kept apart here: whether a failed publish can have reached the server.

use std::time::{Duration, SystemTime};

use async_nats::connection::State;
use async_nats::header::{NATS_EXPECTED_STREAM, NATS_MESSAGE_ID};
use async_nats::jetstream::Context;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Request, RequestErrorKind, ServerAddr,
};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::address::{servers, unreachable, with_credentials};
use super::{Settings, Timeouts};
use crate::{Cause, OpenError};

mod heartbeat;

/// Room kept for headers beside a payload within the server's `max_payload`.
const HEADER_ROOM: usize = 2 * 1024;

/// One of several servers is tried so long at least, where there is so much time at all.
const SERVER_TRIED: Duration = Duration::from_secs(2);

/// How many new connections a question is repeated over: with more, the server has other worries.
const REPEATS: usize = 3;

/// A connection that comes back by itself.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) context: Context,
    pub(super) timeouts: Timeouts,
    /// Counts connections made; a change tells followers to start anew.
    connects: watch::Receiver<u64>,
    _heartbeat: AbortOnDropHandle<()>,
}

/// The server's answer to a stored publish.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Stored {
    #[serde(rename = "seq")]
    pub(super) sequence: u64,
    #[serde(default)]
    pub(super) duplicate: bool,
}

/// The server's refusal, as it words it.
#[derive(Debug, Clone, Deserialize, thiserror::Error)]
#[error("{description} ({err_code})")]
pub(super) struct Refusal {
    pub(super) code: u16,
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    description: String,
}

impl Refusal {
    /// No such stream, consumer or message.
    pub(super) fn is_not_found(&self) -> bool {
        self.code == 404
    }
}

/// Why a publish was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    /// The server answered no; nothing was stored.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It certainly was not stored.
    #[error("the publish could not be sent")]
    NotSent(#[source] Cause),
    /// It may have been stored, or may yet be.
    #[error("the publish was not answered")]
    NoAnswer(#[source] Cause),
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The server answered no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing came back.
    #[error(transparent)]
    Unanswered(Cause),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Refused { error: Refusal },
    Given(T),
}

impl Connection {
    /// Connects; does not retry, so that nothing listening is told at once.
    pub(super) async fn open(settings: &Settings) -> Result<Self, OpenError> {
        let servers = servers(&settings.url)
            .map_err(|error| unreachable(settings, ConnectErrorKind::ServerParse, error.into()))?;
        let (connected, connects) = watch::channel(0);
        let options = ConnectOptions::new()
            .name("tidings")
            .ping_interval(Duration::from_secs(5))
            .connection_timeout(for_each_server(&servers, settings.timeouts.connect))
            .request_timeout(Some(settings.timeouts.request))
            .reconnect_delay_callback(reconnect_delay)
            .event_callback(move |event| {
                match event {
                    Event::Connected => connected.send_modify(|count| *count += 1),
                    event => tracing::warn!(%event, "the connection to NATS changed"),
                }
                std::future::ready(())
            });
        let options = with_credentials(options, &settings.url);
        let connecting = tokio::time::timeout(settings.timeouts.connect, options.connect(servers));
        let client = match connecting.await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(unreachable(settings, error.kind(), error.into())),
            Err(elapsed) => return Err(unreachable(settings, ConnectErrorKind::TimedOut, elapsed.into())),
        };
        // The event comes a moment after the connection; awaited here, a later one means a new connection.
        let mut connects = connects;
        tokio::time::timeout(settings.timeouts.request, connects.wait_for(|count| *count > 0))
            .await
            .ok();
        let mut context = async_nats::jetstream::new(client.clone());
        context.set_timeout(settings.timeouts.request);
        let heartbeat = tokio::spawn(heartbeat::watch(client.clone()));
        Ok(Self {
            _heartbeat: AbortOnDropHandle::new(heartbeat),
            client,
            context,
            timeouts: settings.timeouts,
            connects,
        })
    }

    /// Flushes what was sent and closes.
    pub(super) async fn close(&self) {
        // A connection that is down has nothing left to flush.
        tokio::time::timeout(self.timeouts.request, self.client.drain())
            .await
            .ok();
    }

    /// A receiver that changes with every new connection.
    pub(super) fn connects(&self) -> watch::Receiver<u64> {
        self.connects.clone()
    }

    /// The largest payload that fits a message with this crate's headers.
    pub(super) fn max_payload(&self) -> usize {
        self.client.max_payload().saturating_sub(HEADER_ROOM)
    }

    /// Publishes one message and waits for the stream's acknowledgement, until `deadline` at the latest.
    ///
    /// Whatever stream has the subject would take it: it is told for which one it is, so that another one to which
    /// somebody gave the subject refuses.
    pub(super) async fn publish(
        &self,
        stream: &str,
        subject: String,
        mut headers: HeaderMap,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Stored, PublishError> {
        headers.insert(NATS_EXPECTED_STREAM, stream);
        self.connected(deadline).await.map_err(PublishError::NotSent)?;
        let mut connects = self.connects();
        connects.mark_unchanged();
        let left = deadline
            .saturating_duration_since(Instant::now())
            .min(self.timeouts.attempt);
        let request = Request::new()
            .headers(headers)
            .payload(payload)
            .timeout(Some(left));
        // The client bounds only the waiting for an answer, not the room in its queue.
        let sending = tokio::time::timeout(left, self.client.send_request(subject, request));
        let answer = tokio::select! {
            biased;
            answer = sending => answer.map_err(|elapsed| PublishError::NoAnswer(elapsed.into()))?,
            // The answer, if there was one, went with the connection.
            Ok(()) = connects.changed() => {
                return Err(PublishError::NoAnswer("the connection to NATS was lost".into()));
            }
        };
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders | RequestErrorKind::InvalidSubject => {
                PublishError::NotSent(error.into())
            }
            RequestErrorKind::TimedOut | RequestErrorKind::Other => PublishError::NoAnswer(error.into()),
        })?;
        match serde_json::from_slice(&answer.payload) {
            Ok(Answer::Given(stored)) => Ok(stored),
            Ok(Answer::Refused { error }) => Err(error.into()),
            Err(error) => Err(PublishError::NoAnswer(error.into())),
        }
    }

    /// Sends one message that nobody acknowledges: the earlier part of an atomic batch.
    pub(super) async fn send(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<(), PublishError> {
        let sending = self.client.publish_with_headers(subject, headers, payload);
        match tokio::time::timeout_at(deadline, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(PublishError::NotSent(error.into())),
            Err(elapsed) => Err(PublishError::NotSent(elapsed.into())),
        }
    }

    /// A text nobody else on the server uses.
    pub(super) fn unique(&self) -> String {
        let inbox = self.client.new_inbox();
        inbox.rsplit('.').next().unwrap_or(&inbox).to_owned()
    }

    /// Asks the JetStream API.
    pub(super) async fn ask<T: DeserializeOwned>(&self, subject: &str, body: &Value) -> Result<T, AskError> {
        match self.context.request(subject.to_owned(), body).await {
            Ok(Answer::Given(answer)) => Ok(answer),
            Ok(Answer::Refused { error }) => Err(error.into()),
            Err(error) => Err(AskError::Unanswered(error.into())),
        }
    }

    /// The first message on a subject of a log from a sequence on, asked of the stream's leader, who must count it as
    /// stored.
    pub(super) async fn first_from(
        &self,
        stream: &str,
        sequence: u64,
        subject: &str,
    ) -> Result<Option<StreamMessage>, Cause> {
        let handle = self.context.get_stream_no_info(stream).await?;
        let first = self
            .repeat(|| {
                handle
                    .raw_message_builder()
                    .sequence(sequence)
                    .next_by_subject(subject)
                    .send()
            })
            .await;
        self.kept(stream, found(first)?).await
    }

    /// The last message on a subject, asked of the stream's leader.
    pub(super) async fn last_on(&self, stream: &str, subject: &str) -> Result<Option<StreamMessage>, Cause> {
        let stream = self.context.get_stream_no_info(stream).await?;
        found(
            self.repeat(|| stream.raw_message_builder().last_by_subject(subject).send())
                .await,
        )
    }

    /// The last message on a subject of a log, asked of the stream's leader, who must count it as stored.
    pub(super) async fn last_kept_on(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<StreamMessage>, Cause> {
        let last = self.last_on(stream, subject).await?;
        self.kept(stream, last).await
    }

    /// What was found by its subject, if the stream has it.
    ///
    /// A server that could not sync a message to its disk acknowledges nothing, does not count the message and does not
    /// give it by its sequence; but until it is started again it gives it by its subject (nats-server 2.15.1). Nobody may
    /// take that for stored: it is an error here.
    async fn kept(&self, stream: &str, found: Option<StreamMessage>) -> Result<Option<StreamMessage>, Cause> {
        let Some(message) = found else { return Ok(None) };
        if self.message_at(stream, message.sequence).await?.is_none() {
            let number = message.sequence;
            return Err(format!(
                "NATS gives message {number} of the stream {stream} by its subject and has none of that number: its \
                 disk failed, or the message was deleted just now"
            )
            .into());
        }
        Ok(Some(message))
    }

    /// The message at a sequence, asked of the stream's leader.
    pub(super) async fn message_at(
        &self,
        stream: &str,
        sequence: u64,
    ) -> Result<Option<StreamMessage>, Cause> {
        let stream = self.context.get_stream_no_info(stream).await?;
        found(
            self.repeat(|| stream.raw_message_builder().sequence(sequence).send())
                .await,
        )
    }

    /// Asks a question again whose answer was lost together with the connection. For questions that change nothing.
    pub(super) async fn repeat<F: Future>(&self, ask: impl Fn() -> F) -> F::Output {
        let mut connects = self.connects();
        for _ in 0..REPEATS {
            connects.mark_unchanged();
            tokio::select! {
                biased;
                answer = ask() => return answer,
                Ok(()) = connects.changed() => {}
            }
        }
        ask().await
    }

    /// Deletes the message at a sequence; `false` where it is gone already.
    pub(super) async fn delete(&self, stream: &str, sequence: u64) -> Result<bool, Cause> {
        let body = json!({ "seq": sequence, "no_erase": true });
        let Err(error) = self
            .ask::<Value>(&format!("STREAM.MSG.DELETE.{stream}"), &body)
            .await
        else {
            return Ok(true);
        };
        match (error, self.message_at(stream, sequence).await?) {
            (AskError::Refused(_), None) => Ok(false),
            (error, _) => Err(error.into()),
        }
    }

    /// Waits until the client is connected; the client would queue a publish without saying so otherwise.
    async fn connected(&self, deadline: Instant) -> Result<(), Cause> {
        let mut connects = self.connects.clone();
        connects.mark_unchanged();
        while self.client.connection_state() != State::Connected {
            if Instant::now() >= deadline {
                return Err("the connection to NATS is down".into());
            }
            // The client tells of a new connection a moment before its state says so: look again soon.
            let soon = deadline.min(Instant::now() + Duration::from_millis(50));
            tokio::time::timeout_at(soon, connects.changed()).await.ok();
        }
        Ok(())
    }
}

/// The id a message was published under.
pub(super) fn message_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(NATS_MESSAGE_ID).map(async_nats::HeaderValue::as_str)
}

/// The server's time of a message.
pub(super) fn stored_at(message: &StreamMessage) -> SystemTime {
    message.time.into()
}

fn found(
    answer: Result<StreamMessage, async_nats::jetstream::stream::RawMessageError>,
) -> Result<Option<StreamMessage>, Cause> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How long the client tries one server before it goes on to the next: one that stands still takes connections, and
/// must not keep it from those that answer.
fn for_each_server(servers: &[ServerAddr], whole: Duration) -> Duration {
    let count = u32::try_from(servers.len()).unwrap_or(u32::MAX).max(1);
    (whole / count).max(SERVER_TRIED.min(whole))
}

/// At once, then slower, at most a second apart: a restarted server is found soon.
fn reconnect_delay(attempts: usize) -> Duration {
    let step = u64::try_from(attempts).unwrap_or(u64::MAX).saturating_sub(1);
    Duration::from_millis(step.saturating_mul(50).min(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_servers_share_the_time_of_a_connection() {
        let tried = |url: &str| for_each_server(&servers(url).unwrap(), Duration::from_secs(5));
        assert_eq!(tried("nats://a:1"), Duration::from_secs(5));
        assert_eq!(tried("nats://a:1,nats://b:1"), Duration::from_millis(2_500));
        assert_eq!(tried("nats://a:1,nats://b:1,nats://c:1"), SERVER_TRIED);
        let short = Duration::from_millis(300);
        assert_eq!(
            for_each_server(&servers("nats://a:1,nats://b:1").unwrap(), short),
            short
        );
    }

    #[test]
    fn reconnecting_slows_down_to_a_second() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        assert_eq!(reconnect_delay(3), Duration::from_millis(100));
        assert_eq!(reconnect_delay(usize::MAX), Duration::from_secs(1));
    }
}
