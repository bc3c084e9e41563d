//! Snapshots: the state of an aggregate with a long history, so that loading it does not fold all of it.
//!
//! A snapshot is only ever a shortcut. It names the fold it was made by ([`domain::Root::FOLD`]) and the record it
//! stands at with that record's hash; one that does not fit program or log is passed over, and the history is folded
//! from its beginning.

use std::sync::Arc;

use broker::{Expect, KeyValue, Subject};
use domain::{Root, TenantId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::Context;

/// After how many events of an aggregate a snapshot is taken anew.
pub(crate) const EVERY: u64 = 200;

/// The snapshots of an installation.
#[derive(Clone)]
pub(crate) struct Snapshots(Arc<dyn KeyValue>);

/// A snapshot as the bucket keeps it, in JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Stored<A> {
    /// The fold that made it.
    fold: u32,
    /// The version of the last event in it.
    version: u64,
    /// The sequence of the last record in it.
    sequence: u64,
    /// That record's hash, in hexadecimal digits.
    hash: String,
    state: A,
}

impl Snapshots {
    pub(crate) fn new(bucket: Arc<dyn KeyValue>) -> Self {
        Self(bucket)
    }

    /// The aggregate's snapshot, if there is one of this program's fold. One that cannot be had is none.
    pub(crate) async fn get<A: Root>(&self, tenant: &TenantId, id: &str) -> Option<Context<A>> {
        if !A::SNAPSHOTS {
            return None;
        }
        let entry = self.0.get(&key::<A>(tenant, id)?).await.ok()??;
        let stored: Stored<A> = decode(&entry.value)?;
        let hash = hex::decode(stored.hash).ok()?;
        (stored.fold == A::FOLD).then(|| Context {
            id: id.to_owned(),
            aggregate: stored.state,
            version: stored.version,
            sequence: stored.sequence,
            prev: Some(hash),
        })
    }

    /// Takes a snapshot where one is due: `before` is the version the aggregate had before its last commit.
    ///
    /// In a task of its own: nobody waits for it, and a failure costs no more than the next load's time.
    pub(crate) fn take_if_due<A: Root>(&self, tenant: &TenantId, before: u64, context: &Context<A>) {
        if !A::SNAPSHOTS || before / EVERY == context.version / EVERY {
            return;
        }
        let (Some(key), Some(hash)) = (key::<A>(tenant, &context.id), &context.prev) else {
            return;
        };
        let stored = Stored {
            fold: A::FOLD,
            version: context.version,
            sequence: context.sequence,
            hash: hex::encode(hash),
            state: &context.aggregate,
        };
        let Ok(value) = serde_json::to_vec(&stored) else {
            return;
        };
        let bucket = self.0.clone();
        tokio::spawn(async move {
            if let Err(error) = bucket.put(&key, value.into(), Expect::Anything, None).await {
                tracing::debug!(%key, %error, "A snapshot was not kept.");
            }
        });
    }
}

fn decode<A: DeserializeOwned>(value: &[u8]) -> Option<Stored<A>> {
    serde_json::from_slice(value).ok()
}

fn key<A: Root>(tenant: &TenantId, id: &str) -> Option<Subject> {
    Subject::new(format!("{tenant}.{}.{id}", A::TYPE)).ok()
}
