//! `KeyValue` over a map; a key past its time is absent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use broker::layout::Bucket;
use broker::{Entry, Expect, KeyValue, KvError, Subject};
use bytes::Bytes;

use super::{Clock, Gate, lock};

/// The largest value.
const LIMIT: usize = 1 << 20;

/// All buckets.
#[derive(Debug)]
pub(super) struct Buckets {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<(&'static str, Subject), Value>,
    revision: u64,
}

#[derive(Debug, Clone)]
struct Value {
    bytes: Bytes,
    revision: u64,
    expires: Option<SystemTime>,
}

impl Buckets {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            state: Mutex::default(),
        }
    }

    fn get(&self, bucket: Bucket, key: &Subject) -> Option<Value> {
        let now = self.clock.now();
        let state = lock(&self.state);
        let value = state.values.get(&(bucket.name(), key.clone()));
        value.filter(|value| value.lives(now)).cloned()
    }

    /// Writes, or removes, a value if the key stands as expected; answers its revision.
    fn change(
        &self,
        bucket: Bucket,
        key: &Subject,
        expect: Expect,
        value: Option<(Bytes, Option<Duration>)>,
    ) -> Result<u64, KvError> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let place = (bucket.name(), key.clone());
        let present = state.values.get(&place).filter(|value| value.lives(now));
        let present = present.map(|value| value.revision);
        let holds = match expect {
            Expect::Anything => true,
            Expect::Absent => present.is_none(),
            Expect::Revision(revision) => present == Some(revision),
        };
        if !holds {
            return Err(KvError::Conflict(key.clone()));
        }
        state.revision += 1;
        let revision = state.revision;
        match value {
            None => {
                state.values.remove(&place);
            }
            Some((value, time_to_live)) => {
                let expires = time_to_live.map(|time| now + whole_seconds(time));
                state.values.insert(
                    place,
                    Value {
                        bytes: value,
                        revision,
                        expires,
                    },
                );
            }
        }
        Ok(revision)
    }
}

impl Value {
    fn lives(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|at| at > now)
    }
}

/// At least one second, rounded up to whole ones.
fn whole_seconds(time: Duration) -> Duration {
    let partly = u64::from(time.subsec_nanos() > 0);
    Duration::from_secs((time.as_secs() + partly).max(1))
}

/// A bucket of an open engine.
#[derive(Debug)]
pub(super) struct MemoryBucket {
    pub(super) bucket: Bucket,
    pub(super) buckets: Arc<Buckets>,
    pub(super) gate: Arc<Gate>,
}

impl MemoryBucket {
    fn buckets(&self) -> Result<&Buckets, KvError> {
        self.gate.pass().map_err(KvError::Unavailable)?;
        Ok(&self.buckets)
    }
}

#[async_trait]
impl KeyValue for MemoryBucket {
    async fn get(&self, key: &Subject) -> Result<Option<Entry>, KvError> {
        let value = self.buckets()?.get(self.bucket, key);
        Ok(value.map(|value| Entry {
            key: key.clone(),
            value: value.bytes,
            revision: value.revision,
        }))
    }

    async fn put(
        &self,
        key: &Subject,
        value: Bytes,
        expect: Expect,
        time_to_live: Option<Duration>,
    ) -> Result<u64, KvError> {
        let bytes = value.len();
        if bytes > LIMIT {
            return Err(KvError::TooLarge { bytes, limit: LIMIT });
        }
        self.buckets()?
            .change(self.bucket, key, expect, Some((value, time_to_live)))
    }

    async fn delete(&self, key: &Subject, expect: Expect) -> Result<(), KvError> {
        self.buckets()?.change(self.bucket, key, expect, None).map(|_| ())
    }

    async fn scan(&self, prefix: Option<&Subject>) -> Result<Vec<Entry>, KvError> {
        let buckets = self.buckets()?;
        let (now, state) = (buckets.clock.now(), lock(&buckets.state));
        let prefix = prefix.map(|prefix| format!("{prefix}."));
        let selected = state.values.iter().filter(|((bucket, key), value)| {
            *bucket == self.bucket.name()
                && value.lives(now)
                && prefix
                    .as_ref()
                    .is_none_or(|prefix| key.as_str().starts_with(prefix.as_str()))
        });
        let entry = |((_, key), value): (&(&str, Subject), &Value)| Entry {
            key: key.clone(),
            value: value.bytes.clone(),
            revision: value.revision,
        };
        Ok(selected.map(entry).collect())
    }
}
