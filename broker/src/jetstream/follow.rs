//! Following a stream: history, then live, without gap or repeat, across reconnects and server restarts.
//!
//! An ephemeral pull consumer feeds the follower; whenever anything about it is odd (the connection came anew, a
//! consumer sequence is missing, the server is silent) it is thrown away and another is made from the last record
//! delivered. Consumer sequences tell what was lost between server and client; stream sequences tell a stream
//! that went backwards. The client's own ordered consumer is not used: it checks consumer sequences only, and can
//! miss a silent server.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind};
use async_nats::jetstream::{Context, Message};
use async_nats::{StatusCode, Subject, Subscriber};
use futures::StreamExt;
use tokio::sync::watch;

use super::connection::Connection;
use super::log::Parts;
use super::names::Space;
use crate::{Cause, ReadError, Record, RecordStream};

/// Messages asked for at once; more are asked for when half of them have come.
const BATCH: usize = 1_000;
/// The most bytes of one request, unless a single message may have more: the server sends at once all that was asked
/// for, and what is not taken yet lies in this process's memory.
const BATCH_BYTES: usize = 8 << 20;
/// How long one request for messages stands.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long a silent server is believed in.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the server keeps a consumer that nobody asks.
const INACTIVE: Duration = Duration::from_mins(1);
/// The longest pause between two tries to start anew.
const PAUSE: Duration = Duration::from_secs(1);

/// See [`crate::EventLog::follow`].
pub(super) async fn follow(
    connection: Arc<Connection>,
    stream: String,
    space: Space,
    wire_filter: Option<String>,
    after: u64,
) -> Result<RecordStream, ReadError> {
    let mut connects = connection.connects();
    connects.mark_unchanged();
    let created = created(&connection, &stream).await?;
    let mut follower = Follower {
        created,
        connection,
        connects,
        stream,
        space,
        wire_filter,
        last: after,
        feed: None,
    };
    let feed = Feed::open(&follower)
        .await
        .map_err(|error| ReadError::Unavailable(error.into()))?;
    follower.feed = Some(feed);
    Ok(futures::stream::unfold(Some(follower), |follower| async move {
        let mut follower = follower?;
        match follower.next().await {
            Ok(record) => Some((Ok(record), Some(follower))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed())
}

/// When a stream was made.
async fn created(connection: &Connection, stream: &str) -> Result<SystemTime, ReadError> {
    let asked = connection.repeat(|| connection.context.get_stream(stream)).await;
    let stream = asked.map_err(|error| ReadError::Unavailable(error.into()))?;
    Ok(stream.cached_info().created.into())
}

struct Follower {
    /// When the stream was made that is followed.
    created: SystemTime,
    connection: Arc<Connection>,
    connects: watch::Receiver<u64>,
    stream: String,
    space: Space,
    wire_filter: Option<String>,
    /// The last sequence delivered.
    last: u64,
    feed: Option<Feed>,
}

impl Follower {
    async fn next(&mut self) -> Result<Record, ReadError> {
        loop {
            let mut feed = match self.feed.take() {
                Some(feed) => feed,
                None => self.reopen().await?,
            };
            let delivery = tokio::select! {
                biased;
                delivery = feed.next() => delivery,
                Ok(()) = self.connects.changed() => None,
            };
            if let Some(delivery) = delivery {
                let record = self.record(delivery)?;
                self.last = record.sequence;
                self.feed = Some(feed);
                return Ok(record);
            }
        }
    }

    /// Makes a new feed after the last record, for as long as it takes.
    async fn reopen(&mut self) -> Result<Feed, ReadError> {
        let mut pause = Duration::from_millis(20);
        loop {
            self.connects.mark_unchanged();
            let error = match Feed::open(self).await {
                Ok(feed) => {
                    self.check_end().await?;
                    return Ok(feed);
                }
                Err(error) if is_gone(&error) => return Err(ReadError::Unavailable(error.into())),
                Err(error) => error,
            };
            tracing::debug!(stream = self.stream, %error, "cannot follow now, trying again");
            // A new connection is worth a try at once.
            tokio::time::timeout(pause, self.connects.changed()).await.ok();
            tokio::time::sleep(Duration::from_millis(10)).await;
            pause = (pause * 2).min(PAUSE);
        }
    }

    /// A stream that ends before the last record delivered is another one, or has lost its end: a feed after that
    /// record would be silent, and what is appended meanwhile would be passed over.
    async fn check_end(&self) -> Result<(), ReadError> {
        let asking = || self.connection.context.get_stream(&self.stream);
        let stream = self.connection.repeat(asking).await;
        let stream = stream.map_err(|error| ReadError::Unavailable(error.into()))?;
        let info = stream.cached_info();
        let sequence = info.state.last_sequence;
        if SystemTime::from(info.created) != self.created {
            let cause: Cause = "the stream was made anew while it was followed".into();
            return Err(ReadError::Damaged { sequence, cause });
        }
        if sequence < self.last {
            let cause: Cause = format!(
                "the stream ends there, after {} was delivered: it has gone backwards",
                self.last
            )
            .into();
            return Err(ReadError::Damaged { sequence, cause });
        }
        Ok(())
    }

    fn record(&self, delivery: Delivery) -> Result<Record, ReadError> {
        let Delivery {
            sequence,
            stored_at,
            message,
        } = delivery;
        if sequence <= self.last {
            let cause: Cause = format!("it came after {}: the stream has gone backwards", self.last).into();
            return Err(ReadError::Damaged { sequence, cause });
        }
        let parts = Parts {
            sequence,
            subject: &message.subject,
            headers: message.headers.as_ref(),
            stored_at,
        };
        parts.into_record(&self.space, message.payload)
    }
}

/// A message of the stream, as the consumer delivered it.
struct Delivery {
    sequence: u64,
    stored_at: SystemTime,
    message: async_nats::Message,
}

/// One consumer on the server and the subscription it answers to.
struct Feed {
    consumer: Consumer<pull::Config>,
    context: Context,
    inbox: Subject,
    messages: Subscriber,
    /// Messages asked for that have not come.
    wanted: usize,
    /// The most bytes to ask for at once.
    bytes: usize,
    /// The consumer's sequence of the last message.
    delivered: u64,
}

impl Feed {
    async fn open(follower: &Follower) -> Result<Self, ConsumerError> {
        let config = pull::Config {
            // Only a named consumer's filter stands in the request's subject, where a server can grant or refuse it.
            name: Some(follower.connection.unique()),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: follower.last.saturating_add(1),
            },
            ack_policy: AckPolicy::None,
            filter_subject: follower.wire_filter.clone().unwrap_or_default(),
            inactive_threshold: INACTIVE,
            memory_storage: true,
            num_replicas: 1,
            ..Default::default()
        };
        let context = follower.connection.context.clone();
        let consumer = context
            .create_consumer_on_stream(config, &follower.stream)
            .await?;
        let client = &follower.connection.client;
        let inbox = Subject::from(client.new_inbox());
        let subscribed = client.subscribe(inbox.clone()).await;
        let messages =
            subscribed.map_err(|error| ConsumerError::with_source(ConsumerErrorKind::Other, error))?;
        Ok(Self {
            consumer,
            context,
            inbox,
            messages,
            wanted: 0,
            bytes: BATCH_BYTES.max(2 * client.max_payload()),
            delivered: 0,
        })
    }

    /// The next message; `None` when this feed is of no more use.
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            if self.wanted <= BATCH / 2 {
                self.want().await?;
            }
            let message = tokio::time::timeout(SILENCE, self.messages.next()).await.ok()??;
            match message.status.unwrap_or(StatusCode::OK) {
                StatusCode::OK => return self.delivery(message),
                StatusCode::IDLE_HEARTBEAT => {}
                // A request has run out of time or bytes; it says how much of it was left.
                StatusCode::TIMEOUT | StatusCode::REQUEST_TERMINATED => {
                    let headers = message.headers.as_ref();
                    let left = headers.and_then(|headers| headers.get("Nats-Pending-Messages"));
                    let left = left.and_then(|left| left.as_str().parse::<usize>().ok())?;
                    self.wanted = self.wanted.saturating_sub(left);
                }
                _ => return None,
            }
        }
    }

    async fn want(&mut self) -> Option<()> {
        let request = pull::BatchConfig {
            batch: BATCH,
            max_bytes: self.bytes,
            expires: Some(EXPIRES),
            idle_heartbeat: HEARTBEAT,
            ..Default::default()
        };
        let asking = self.consumer.request_batch(request, self.inbox.clone());
        tokio::time::timeout(SILENCE, asking).await.ok()?.ok()?;
        self.wanted += BATCH;
        Some(())
    }

    fn delivery(&mut self, message: async_nats::Message) -> Option<Delivery> {
        let message = Message {
            message,
            context: self.context.clone(),
        };
        let (sequence, delivered, stored_at) = {
            let info = message.info().ok()?;
            (
                info.stream_sequence,
                info.consumer_sequence,
                SystemTime::from(info.published),
            )
        };
        if delivered != self.delivered + 1 {
            return None;
        }
        self.delivered = delivered;
        self.wanted = self.wanted.saturating_sub(1);
        Some(Delivery {
            sequence,
            stored_at,
            message: message.message,
        })
    }
}

/// Whether the stream itself is not there any more.
fn is_gone(error: &ConsumerError) -> bool {
    matches!(error.kind(), ConsumerErrorKind::JetStream(refusal) if refusal.code() == 404)
}
