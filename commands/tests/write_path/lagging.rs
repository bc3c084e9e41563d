//! A log of events whose next reads are answered, when told so, by replicas that have come only so far: what the port
//! allows, and what a dispatcher must bear.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use broker::{
    AppendError, Appended, EventLog, Filter, LogState, NewRecord, ReadError, Record, RecordStream, Subject,
};
use commands::{Call, ClaimKey, Dispatcher, Error, Settings};
use domain::user::{User, UserCommand};

use crate::installation::{Installation, email, meta, register, rename, tenant, user};
use crate::under::Under;

/// The end of each replica that answers next; none: it is not behind. Afterwards none is.
type Horizons = Arc<Mutex<VecDeque<Option<u64>>>>;

#[derive(Debug)]
struct LaggingLog {
    log: Arc<dyn EventLog>,
    /// Of those who answer reads, …
    reads: Horizons,
    /// … of the leaders, of whom one that was overtaken may not know it yet, …
    lasts: Horizons,
    /// … and of those that are asked for a record by its number, which a log whose disk failed has not kept.
    ats: Horizons,
}

fn next(horizons: &Horizons) -> u64 {
    let next = horizons.lock().unwrap().pop_front().flatten();
    next.unwrap_or(u64::MAX)
}

#[async_trait]
impl EventLog for LaggingLog {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        self.log.append(records).await
    }

    async fn read(
        &self,
        after: u64,
        filter: Option<&Filter>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let horizon = next(&self.reads);
        let mut records = self.log.read(after, filter, limit).await?;
        records.retain(|record| record.sequence <= horizon);
        Ok(records)
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Record>, ReadError> {
        let horizon = next(&self.lasts);
        let mut records = self.log.read(0, Some(&Filter::exactly(subject)), 1_000).await?;
        records.retain(|record| record.sequence <= horizon);
        Ok(records.pop())
    }

    async fn at(&self, sequence: u64) -> Result<Option<Record>, ReadError> {
        if sequence > next(&self.ats) {
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

/// The installation's engine, whose next reads, questions for last records and for records by number are answered so.
pub(crate) fn engine(
    installation: &Installation,
    reads: &[Option<u64>],
    lasts: &[Option<u64>],
    ats: &[Option<u64>],
) -> Under {
    let [reads, lasts, ats] =
        [reads, lasts, ats].map(|ends| Horizons::new(Mutex::new(ends.iter().copied().collect())));
    Under::new(&installation.engine, move |log| {
        let [reads, lasts, ats] = [&reads, &lasts, &ats].map(Arc::clone);
        Arc::new(LaggingLog {
            log,
            reads,
            lasts,
            ats,
        })
    })
}

/// A process that knows nothing yet, whose next reads, and questions for last records, are answered so.
fn dispatcher(installation: &Installation, reads: &[Option<u64>], lasts: &[Option<u64>]) -> Dispatcher {
    let engine = engine(installation, reads, lasts, &[]);
    Dispatcher::new(&engine, Settings::new(ClaimKey::new([7; 32])))
}

/// The aggregate is loaded from one replica and the command looked for in another, which does not have it yet: the user
/// is registered, but not by whom is known. That is no reason to refuse a request its own success.
#[tokio::test]
async fn a_repetition_is_found_though_a_replica_is_behind() {
    let installation = Installation::new().await;
    let (tenant, user) = (tenant(), user());
    let (id, command) = (user.as_str(), meta("RegisterUser"));
    let first = installation
        .dispatcher()
        .execute::<User>(&tenant, id, register("ada@example.org"), command.clone())
        .await
        .unwrap();
    let again = Call {
        meta: command,
        repeated: true,
    };
    let again = dispatcher(&installation, &[None, Some(1)], &[])
        .execute::<User>(&tenant, id, register("ada@example.org"), again)
        .await;
    assert_eq!(again.unwrap(), first);
}

/// A leader that was overtaken says that an address is still ours which another has meanwhile: that is not believed.
#[tokio::test]
async fn an_old_claim_is_not_believed() {
    let installation = Installation::new().await;
    let (tenant, ada, bob) = (tenant(), user(), user());
    let change = |address| UserCommand::Update {
        email: Some(email(address)),
        name: None,
        attributes: None,
    };
    let here = installation.dispatcher();
    let ours = here
        .execute::<User>(
            &tenant,
            ada.as_str(),
            register("ada@example.org"),
            meta("Register"),
        )
        .await
        .unwrap();
    here.execute::<User>(&tenant, ada.as_str(), change("ada@example.net"), meta("Update"))
        .await
        .unwrap();
    here.execute::<User>(
        &tenant,
        bob.as_str(),
        register("ada@example.org"),
        meta("Register"),
    )
    .await
    .unwrap();
    // The aggregate is read as it is, both claims as they were when Ada had the address.
    let old = Some(ours.position.sequence);
    let back = dispatcher(&installation, &[], &[old, old])
        .execute::<User>(&tenant, ada.as_str(), change("ada@example.org"), meta("Update"))
        .await;
    assert!(matches!(back, Err(Error::Taken { kind: "email" })), "{back:?}");
    let holder = here.holder(&tenant, "email", "ada@example.org").await.unwrap();
    assert_eq!(holder, Some(format!("user.{bob}")));
}

/// A replica that has not heard of the user says that there is none: the leader knows better.
#[tokio::test]
async fn a_no_is_not_said_on_a_replicas_word() {
    let installation = Installation::new().await;
    let (tenant, user) = (tenant(), user());
    let here = installation.dispatcher();
    here.execute::<User>(
        &tenant,
        user.as_str(),
        register("ada@example.org"),
        meta("Register"),
    )
    .await
    .unwrap();
    let renamed = dispatcher(&installation, &[Some(0), Some(0)], &[])
        .execute::<User>(&tenant, user.as_str(), rename("B"), meta("Rename"))
        .await;
    assert_eq!(renamed.unwrap().version, 2);
}

/// A replica has not heard of what undid it, and says that the name is that one already: it is not done by that.
#[tokio::test]
async fn that_there_is_nothing_to_do_is_not_said_on_a_replicas_word() {
    let installation = Installation::new().await;
    let (tenant, user) = (tenant(), user());
    let (here, id) = (installation.dispatcher(), user.as_str());
    here.execute::<User>(&tenant, id, register("ada@example.org"), meta("Register"))
        .await
        .unwrap();
    let first = here
        .execute::<User>(&tenant, id, rename("B"), meta("Rename"))
        .await
        .unwrap();
    here.execute::<User>(&tenant, id, rename("C"), meta("Rename"))
        .await
        .unwrap();
    let old = Some(first.position.sequence);
    let back = dispatcher(&installation, &[old, old], &[])
        .execute::<User>(&tenant, id, rename("B"), meta("Rename"))
        .await;
    assert_eq!(back.unwrap().version, 4);
}
