//! The receipts of keyed requests as they lie in their bucket, and what the logs hold: how a test lets a process die
//! between what it did and the answer it kept.

use broker::layout::{Bucket, Log};
use broker::{Expect, Subject};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tests::service::Tidings;

/// A receipt as it lies in the bucket.
#[derive(Serialize, Deserialize)]
struct Receipt {
    v: u8,
    content: ByteBuf,
    seed: ByteBuf,
    state: State,
}

#[derive(Serialize, Deserialize)]
enum State {
    Running {
        until: i64,
        owner: String,
    },
    Open,
    Answered {
        first: ByteBuf,
        others: u64,
        revision: u64,
    },
}

/// How many records the logs hold that requests write to.
pub(crate) async fn records(service: &Tidings) -> anyhow::Result<[usize; 2]> {
    // That a secret was shown is told as often as it is shown.
    let told = |record: &&broker::Record| record.subject.as_str().split('.').nth(2) != Some("access");
    let events = service.records(Log::Events(0)).await?;
    let events = events.iter().filter(told).count();
    Ok([events, service.records(Log::Messages(0)).await?.len()])
}

/// Makes the receipts say that nobody was answered, as if the process had died before.
pub(crate) async fn forget_answers(service: &Tidings) -> anyhow::Result<usize> {
    let engine = service.engine().await?;
    let bucket = engine.bucket(Bucket::Receipts);
    let mut forgotten = 0;
    for entry in bucket.scan(Some(&Subject::new("request")?)).await? {
        // Long answers go on in values of their own.
        let Ok(mut receipt) = rmp_serde::from_slice::<Receipt>(&entry.value) else {
            continue;
        };
        if !matches!(receipt.state, State::Answered { .. }) {
            continue;
        }
        receipt.state = State::Open;
        let value = rmp_serde::to_vec_named(&receipt)?.into();
        bucket
            .put(&entry.key, value, Expect::Revision(entry.revision), None)
            .await?;
        forgotten += 1;
    }
    engine.close().await;
    Ok(forgotten)
}
