//! What a log held at a moment, as its server tells it.

use std::time::SystemTime;

use async_nats::jetstream::{self, message::StreamMessage, stream::Stream};

use crate::faults::cases::operators::STREAM;

/// Everything in the log.
pub(super) struct Held {
    created: SystemTime,
    records: Vec<StreamMessage>,
}

impl Held {
    /// Reads the log of the server at this address.
    pub(super) async fn by(url: &str) -> anyhow::Result<Self> {
        let mut stream = stream(url).await?;
        let (created, last) = {
            let info = stream.info().await?;
            (info.created.into(), info.state.last_sequence)
        };
        let mut records = Vec::new();
        for sequence in 1..=last {
            records.push(stream.get_raw_message(sequence).await?);
        }
        Ok(Self { created, records })
    }

    /// When the log was made that the server has, if it has one.
    pub(super) async fn created(url: &str) -> Option<SystemTime> {
        let mut stream = stream(url).await.ok()?;
        let info = stream.info().await.ok()?;
        Some(info.created.into())
    }

    /// Whether the server has all of it still; what it cannot read it does not have.
    pub(super) async fn is_held_by(&self, url: &str) -> bool {
        Self::by(url).await.is_ok_and(|now| {
            let all = now.records.get(..self.records.len());
            now.created == self.created
                && all.is_some_and(|all| all.iter().zip(&self.records).all(|(one, other)| same(one, other)))
        })
    }
}

async fn stream(url: &str) -> anyhow::Result<Stream> {
    let context = jetstream::new(async_nats::connect(url).await?);
    Ok(context.get_stream(STREAM).await?)
}

fn same(one: &StreamMessage, other: &StreamMessage) -> bool {
    one.sequence == other.sequence
        && one.subject == other.subject
        && one.headers == other.headers
        && one.payload == other.payload
}
