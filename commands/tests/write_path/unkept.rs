//! A log whose disk failed: it shows its last record to whoever reads by subject, and has none of that number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use broker::{
    AppendError, Appended, EventLog, Filter, LogState, NewRecord, ReadError, Record, RecordStream, Subject,
};
use commands::{Call, ClaimKey, Dispatcher, Draft, Error, Origin, PublishError, Publisher, Settings};
use domain::user::User;
use domain::{Actor, EventId, Timestamp};
use ulid::Ulid;

use crate::installation::{Installation, meta, register, tenant, user};
use crate::under::Under;

/// Has no record of a number from `kept` on.
#[derive(Debug)]
struct UnkeptLog {
    log: Arc<dyn EventLog>,
    kept: Arc<AtomicU64>,
}

#[async_trait]
impl EventLog for UnkeptLog {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        self.log.append(records).await
    }

    async fn read(
        &self,
        after: u64,
        filter: Option<&Filter>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.log.read(after, filter, limit).await
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Record>, ReadError> {
        self.log.last(subject).await
    }

    async fn at(&self, sequence: u64) -> Result<Option<Record>, ReadError> {
        if sequence >= self.kept.load(Ordering::SeqCst) {
            return Ok(None);
        }
        self.log.at(sequence).await
    }

    async fn follow(&self, after: u64, filter: Option<Filter>) -> Result<RecordStream, ReadError> {
        self.log.follow(after, filter).await
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        self.log.state().await
    }
}

/// The installation's engine with such logs, and what tells from where on they keep nothing.
fn unkept(installation: &Installation) -> (Under, Arc<AtomicU64>) {
    let kept = Arc::new(AtomicU64::new(u64::MAX));
    let told = Arc::clone(&kept);
    let engine = Under::new(&installation.engine, move |log| {
        let kept = Arc::clone(&told);
        Arc::new(UnkeptLog { log, kept })
    });
    (engine, kept)
}

#[tokio::test]
async fn a_repetition_is_not_answered_with_a_record_that_is_not_kept() {
    let installation = Installation::new().await;
    let (tenant, user) = (tenant(), user());
    let (id, command) = (user.as_str(), meta("RegisterUser"));
    let first = installation
        .dispatcher()
        .execute::<User>(&tenant, id, register("ada@example.org"), command.clone())
        .await
        .unwrap();
    let (engine, kept) = unkept(&installation);
    let dispatcher = Dispatcher::new(&engine, Settings::new(ClaimKey::new([7; 32])));
    let repeat = async || {
        let again = Call {
            meta: command.clone(),
            repeated: true,
        };
        dispatcher
            .execute::<User>(&tenant, id, register("ada@example.org"), again)
            .await
    };
    kept.store(first.position.sequence, Ordering::SeqCst);
    let refused = repeat().await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    kept.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(repeat().await.unwrap(), first);
}

#[tokio::test]
async fn a_repeated_event_is_not_answered_with_a_record_that_is_not_kept() {
    let installation = Installation::new().await;
    let (tenant, id) = (tenant(), EventId::new(Ulid::generate()));
    let origin = |repeats| Origin {
        actor: Actor::PlatformAdmin,
        request_id: None,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        at: Timestamp::from(SystemTime::now()),
        repeats,
    };
    let event = || Draft {
        id: None,
        drawn: id.clone(),
        event_type: "invoice.paid".parse().unwrap(),
        data: bytes::Bytes::from_static(b"1"),
        only_for: None,
    };
    let begun = Timestamp::from(SystemTime::now());
    let (engine, kept) = unkept(&installation);
    let publisher = Publisher::new(&engine);
    let first = publisher
        .publish(&tenant, vec![event()], origin(None))
        .await
        .unwrap();
    let first = first.into_iter().next().unwrap().unwrap();
    kept.store(first.position.sequence, Ordering::SeqCst);
    let refused = publisher
        .publish(&tenant, vec![event()], origin(Some(begun)))
        .await;
    assert!(
        matches!(refused, Err(PublishError::Unavailable(_))),
        "{refused:?}"
    );
    kept.store(u64::MAX, Ordering::SeqCst);
    let again = publisher
        .publish(&tenant, vec![event()], origin(Some(begun)))
        .await
        .unwrap();
    assert_eq!(again[0].as_ref().unwrap().position, first.position);
}
