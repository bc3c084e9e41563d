//! `KeyValue` over a line.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::layout::Bucket;
use broker::{Entry, Expect, KeyValue, KvError, Subject};
use bytes::Bytes;

use super::super::network::Line;

/// A bucket, from afar.
#[derive(Debug)]
pub(super) struct DistantBucket {
    pub(super) bucket: Bucket,
    pub(super) inner: Arc<dyn KeyValue>,
    pub(super) line: Arc<Line>,
}

impl DistantBucket {
    fn name(&self) -> &'static str {
        self.bucket.name()
    }
}

#[async_trait]
impl KeyValue for DistantBucket {
    async fn get(&self, key: &Subject) -> Result<Option<Entry>, KvError> {
        // The revision alone: values hold times and nonces that no seed decides.
        let mut entry = None;
        let get = async {
            entry = self.inner.get(key).await?;
            Ok(entry.as_ref().map(|entry| entry.revision))
        };
        let what = format!("{} gets {key}", self.name());
        self.line.carry(what, get, KvError::Unavailable).await?;
        Ok(entry)
    }

    async fn put(
        &self,
        key: &Subject,
        value: Bytes,
        expect: Expect,
        time_to_live: Option<Duration>,
    ) -> Result<u64, KvError> {
        let put = self.inner.put(key, value, expect, time_to_live);
        let what = format!("{} puts {key}, {expect:?}", self.name());
        self.line.carry(what, put, KvError::Unavailable).await
    }

    async fn delete(&self, key: &Subject, expect: Expect) -> Result<(), KvError> {
        let delete = self.inner.delete(key, expect);
        let what = format!("{} deletes {key}, {expect:?}", self.name());
        self.line.carry(what, delete, KvError::Unavailable).await
    }

    async fn scan(&self, prefix: Option<&Subject>) -> Result<Vec<Entry>, KvError> {
        let mut entries = Vec::new();
        let scan = async {
            entries = self.inner.scan(prefix).await?;
            Ok(entries.len())
        };
        let what = format!("{} scans {prefix:?}", self.name());
        self.line.carry(what, scan, KvError::Unavailable).await?;
        Ok(entries)
    }
}
