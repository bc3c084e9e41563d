//! What the broker gives: one conditional publish per operation with `async-nats`, nothing else.

use anyhow::Context as _;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Context, stream};
use async_trait::async_trait;
use bytes::Bytes;

use super::dispatch;
use crate::bench::load::{BoxedWorker, Worker};

/// A stream as ours, beside ours.
pub(super) async fn stream(url: &str) -> anyhow::Result<Context> {
    let client = async_nats::connect(url).await.context("the NATS server")?;
    let context = jetstream::new(client);
    let config = stream::Config {
        name: "RAW".to_owned(),
        subjects: vec!["raw.>".to_owned()],
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
