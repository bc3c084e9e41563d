//! Since when endpoints fail without one success, kept across restarts and shared by all processes.
//!
//! The first failure is written into the bucket, the first success after it takes it away. What a process knows of an
//! endpoint it believes for a minute, so that neither costs a look each time; a success elsewhere is then known here a
//! minute late at most, and whoever means to act on a failure looks anew.

use std::sync::Arc;
use std::time::Duration;

use broker::{Expect, KeyValue, KvError, Subject};
use domain::{EndpointId, TenantId, Timestamp};
use moka::sync::Cache;

use crate::work::subject;

/// How long it is believed what an endpoint was.
const BELIEVED: Duration = Duration::from_mins(1);
/// Of how many endpoints.
const ENDPOINTS: u64 = 100_000;
/// How long a failure is remembered: longer than anybody can wait for it.
const REMEMBERED: Duration = Duration::from_hours(45 * 24);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Well,
    FailingSince(Timestamp),
}

/// The endpoints that fail.
#[derive(Debug)]
pub(crate) struct Failing {
    bucket: Arc<dyn KeyValue>,
    known: Cache<(TenantId, EndpointId), Known>,
}

impl Failing {
    pub(crate) fn new(bucket: Arc<dyn KeyValue>) -> Self {
        let known = Cache::builder().max_capacity(ENDPOINTS).time_to_live(BELIEVED);
        Self {
            bucket,
            known: known.build(),
        }
    }

    /// An attempt was a success.
    pub(crate) async fn succeeded(&self, tenant: &TenantId, endpoint: &EndpointId) -> Result<(), KvError> {
        let of = (tenant.clone(), endpoint.clone());
        if self.known.get(&of) == Some(Known::Well) {
            return Ok(());
        }
        self.forget(tenant, endpoint).await?;
        self.known.insert(of, Known::Well);
        Ok(())
    }

    /// An attempt failed at this time. Answers since when the endpoint fails.
    pub(crate) async fn failed(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        at: Timestamp,
    ) -> Result<Timestamp, KvError> {
        let of = (tenant.clone(), endpoint.clone());
        if let Some(Known::FailingSince(since)) = self.known.get(&of) {
            return Ok(since);
        }
        let since = match self.since(tenant, endpoint).await? {
            Some(since) => since,
            None => self.note(tenant, endpoint, at).await?,
        };
        self.known.insert(of, Known::FailingSince(since));
        Ok(since)
    }

    /// Since when the endpoint fails, as it stands in the bucket; none where it does not.
    pub(crate) async fn since(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
    ) -> Result<Option<Timestamp>, KvError> {
        let entry = self.bucket.get(&name(tenant, endpoint)).await?;
        // What cannot be read was not written by this program: the next success takes it away.
        Ok(entry.and_then(|entry| {
            let millis = std::str::from_utf8(&entry.value).ok()?.parse().ok()?;
            Some(Timestamp::from_millis(millis))
        }))
    }

    /// Whatever it did, it begins anew.
    pub(crate) async fn forget(&self, tenant: &TenantId, endpoint: &EndpointId) -> Result<(), KvError> {
        let name = name(tenant, endpoint);
        if self.bucket.get(&name).await?.is_some() {
            self.bucket.delete(&name, Expect::Anything).await?;
        }
        self.known.invalidate(&(tenant.clone(), endpoint.clone()));
        Ok(())
    }

    async fn note(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        at: Timestamp,
    ) -> Result<Timestamp, KvError> {
        let value = at.as_millis().to_string().into();
        let name = name(tenant, endpoint);
        match self
            .bucket
            .put(&name, value, Expect::Absent, Some(REMEMBERED))
            .await
        {
            Ok(_) => Ok(at),
            // Another process was first.
            Err(KvError::Conflict(_)) => Ok(self.since(tenant, endpoint).await?.unwrap_or(at)),
            Err(error) => Err(error),
        }
    }
}

fn name(tenant: &TenantId, endpoint: &EndpointId) -> Subject {
    subject(format!("failing.{tenant}.{endpoint}"))
}

#[cfg(test)]
mod tests {
    use broker::Engine;
    use broker::embedded::Embedded;
    use broker::layout::{Bucket, Layout};
    use ulid::Ulid;

    use super::*;

    #[tokio::test]
    async fn the_first_failure_counts_until_a_success() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        let process = || Failing::new(engine.bucket(Bucket::Deliveries));
        let (one, other) = (process(), process());
        let (tenant, endpoint) = (TenantId::new(Ulid(1)), EndpointId::new(Ulid(2)));
        let at = Timestamp::from_millis;
        one.succeeded(&tenant, &endpoint).await.unwrap();
        assert_eq!(one.failed(&tenant, &endpoint, at(5)).await.unwrap(), at(5));
        assert_eq!(other.failed(&tenant, &endpoint, at(9)).await.unwrap(), at(5));
        // A restart forgets nothing.
        assert_eq!(process().failed(&tenant, &endpoint, at(11)).await.unwrap(), at(5));
        other.succeeded(&tenant, &endpoint).await.unwrap();
        assert_eq!(one.since(&tenant, &endpoint).await.unwrap(), None);
        assert_eq!(
            process().failed(&tenant, &endpoint, at(20)).await.unwrap(),
            at(20)
        );
    }
}
