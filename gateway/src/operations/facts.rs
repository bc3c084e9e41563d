//! Following the platform's facts about one kind of thing.

use std::sync::Arc;

use broker::{EventLog, Filter, ReadError, Record};
use domain::{Root, TenantId};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::PAUSE;

/// Facts that wait to be looked at; their sender waits too then.
const WAITING: usize = 64;

/// That something happened to an aggregate of the platform.
#[derive(Debug)]
pub(super) struct Fact {
    /// The aggregate's id.
    pub(super) id: String,
    /// Where the record stands.
    pub(super) sequence: u64,
}

/// Follows what happens to aggregates of a kind after a sequence, whatever fails meanwhile; ends with `stop`.
pub(super) fn follow<A: Root>(
    log: Arc<dyn EventLog>,
    after: u64,
    stop: CancellationToken,
) -> mpsc::Receiver<Fact> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut after = after;
        let follow = async {
            loop {
                if let Err(error) = follow_once::<A>(log.as_ref(), &mut after, &sender).await {
                    tracing::warn!(kind = A::TYPE, %error, "Operators' decisions cannot be followed; trying again.");
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = sender.closed() => {}
            () = follow => {}
        }
    });
    receiver
}

async fn follow_once<A: Root>(
    log: &dyn EventLog,
    after: &mut u64,
    sender: &mpsc::Sender<Fact>,
) -> Result<(), ReadError> {
    let platform = TenantId::platform();
    let filter = Filter::new(format!("ev.{platform}.{}.*", A::TYPE));
    let filter = filter.map_err(|error| ReadError::Unavailable(Box::new(error)))?;
    let mut records = log.follow(*after, Some(filter)).await?;
    while let Some(record) = records.next().await {
        let record = record?;
        if sender.send(fact(&record)).await.is_err() {
            return Ok(());
        }
        *after = record.sequence;
    }
    Ok(())
}

fn fact(record: &Record) -> Fact {
    let id = record.subject.as_str().rsplit('.').next();
    Fact {
        id: id.unwrap_or_default().to_owned(),
        sequence: record.sequence,
    }
}
