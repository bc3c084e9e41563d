//! What the broker gives: one conditional publish per operation with `async-nats`, nothing else.

use anyhow::Context as _;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Context, stream};
use async_trait::async_trait;
use bytes::Bytes;
use jetstream_extra::batch_publish::BatchPublishExt;

use super::dispatch;
use crate::bench::load::{BoxedWorker, Worker};

/// A stream as ours, beside ours.
pub(super) async fn stream(url: &str) -> anyhow::Result<Context> {
    let client = async_nats::connect(url).await.context("the NATS server")?;
    let context = jetstream::new(client);
    let config = stream::Config {
        name: "RAW".to_owned(),
        subjects: vec!["raw.>".to_owned()],
        allow_atomic_publish: true,
        ..stream::Config::default()
    };
    context.get_or_create_stream(config).await?;
    Ok(context)
}

/// Workers that each publish to a subject of their own, under the expectation that the last message is theirs. The
/// message is as large as ours for the same command.
pub(super) async fn workers(url: &str, count: usize) -> anyhow::Result<Vec<BoxedWorker>> {
    let context = stream(url).await?;
    let payload = Bytes::from(dispatch::example_record()?);
    let worker = |number| Publisher {
        context: context.clone(),
        subject: format!("raw.worker.{number}"),
        last: 0,
        turns: 0,
        payload: payload.clone(),
    };
    Ok((0..count)
        .map(|number| Box::new(worker(number)) as BoxedWorker)
        .collect())
}

struct Publisher {
    context: Context,
    subject: String,
    last: u64,
    turns: u64,
    payload: Bytes,
}

#[async_trait]
impl Worker for Publisher {
    async fn turn(&mut self) -> anyhow::Result<u64> {
        self.turns += 1;
        let message = PublishMessage::build()
            .message_id(format!("{}:{}", self.subject, self.turns))
            .expected_last_subject_sequence(self.last)
            .payload(self.payload.clone());
        let acknowledgement = self.context.send_publish(self.subject.clone(), message).await?;
        self.last = acknowledgement.await?.sequence;
        Ok(1)
    }
}

/// How many messages an atomic batch of [`batching`] has.
const BATCH: usize = 256;

/// One worker that publishes atomic batches, one after the other, each message on a subject of its own under the
/// expectation that the last message is its own: the most the server gives to a single writer of so many.
pub(super) async fn batching(url: &str) -> anyhow::Result<Vec<BoxedWorker>> {
    let publisher = Batching {
        context: stream(url).await?,
        first: None,
        payload: Bytes::from(dispatch::example_record()?),
    };
    Ok(vec![Box::new(publisher)])
}

struct Batching {
    context: Context,
    /// The sequence of the first message of the last batch.
    first: Option<u64>,
    payload: Bytes,
}

#[async_trait]
impl Worker for Batching {
    async fn turn(&mut self) -> anyhow::Result<u64> {
        let mut batch = self.context.batch_publish().ack_first(false).build();
        for number in 0..BATCH {
            let subject = format!("raw.batch.{number}");
            let last = self.first.map_or(0, |first| first + number as u64);
            let message = PublishMessage::build()
                .expected_last_subject_sequence(last)
                .payload(self.payload.clone())
                .outbound_message(subject);
            if number + 1 < BATCH {
                batch.add_message(message).await?;
            } else {
                let acknowledgement = batch.commit_message(message).await?;
                self.first = Some(acknowledgement.sequence + 1 - BATCH as u64);
                break;
            }
        }
        Ok(BATCH as u64)
    }
}
