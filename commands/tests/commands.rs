//! The write path against the embedded engine. (Through HTTP and on both engines: the `tests` crate.)

#![expect(
    clippy::unwrap_used,
    reason = "what a test prepares must succeed, in its helpers too"
)]

use std::sync::Arc;
use std::time::Duration;

use broker::embedded::Embedded;
use broker::layout::{Bucket, Layout, Log};
use broker::{Engine, Entry, Expect, Filter, Subject};
use commands::{ClaimKey, Dispatcher, Draft, Error, Origin, PublishError, Publisher, Settings};
use domain::tenant::{Slug, Tenant, TenantCommand};
use domain::user::{Email, User, UserCommand, UserRejection};
use domain::{Actor, Commit, EventId, Meta, TenantId, Text, Timestamp, UserId};
use ulid::Ulid;

struct Installation {
    engine: Arc<dyn Engine>,
    _folder: tempfile::TempDir,
}

impl Installation {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        Self {
            engine: Arc::new(engine),
            _folder: folder,
        }
    }

    /// Another process's dispatcher: nothing is shared but the log.
    fn dispatcher(&self) -> Dispatcher {
        Dispatcher::new(&*self.engine, Settings::new(ClaimKey::new([7; 32])))
    }

    async fn commits(&self, tenant: &TenantId, id: &UserId) -> Vec<Commit> {
        let filter = Filter::new(Commit::subject(tenant, "user", id.as_str())).unwrap();
        let records = self
            .engine
            .log(Log::Events(0))
            .read(0, Some(&filter), 1_000)
            .await
            .unwrap();
        records
            .iter()
            .map(|record| Commit::decode(&record.payload).unwrap())
            .collect()
    }
}

fn tenant() -> TenantId {
    TenantId::new(Ulid::generate())
}

fn user() -> UserId {
    UserId::new(Ulid::generate())
}

fn meta(command: &str) -> Meta {
    Meta {
        command_id: Ulid::generate().to_string(),
        command: command.to_owned(),
        actor: Actor::PlatformAdmin,
        request_id: None,
        origin: None,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        at: Timestamp::from_millis(1_614_265_330_007),
    }
}

fn email(text: &str) -> Email {
    Email::try_from(text.to_owned()).unwrap()
}

fn register(address: &str) -> UserCommand {
    UserCommand::Register {
        email: email(address),
        name: Text::new("Ada").unwrap(),
    }
}

fn rename(name: &str) -> UserCommand {
    UserCommand::Update {
        email: None,
        name: Some(Text::new(name).unwrap()),
    }
}

#[tokio::test]
async fn a_receipt_names_the_record_in_the_log() {
    let installation = Installation::new().await;
    let (dispatcher, tenant, user) = (installation.dispatcher(), tenant(), user());
    let first = dispatcher
        .execute::<User>(
            &tenant,
            user.as_str(),
            register("ada@example.org"),
            meta("RegisterUser"),
        )
        .await
        .unwrap();
    let second = dispatcher
        .execute::<User>(&tenant, user.as_str(), rename("Ada L"), meta("UpdateUser"))
        .await
        .unwrap();
    assert!(second.position > first.position);
    assert_eq!((first.version, second.version), (1, 2));
    let commits = installation.commits(&tenant, &user).await;
    assert_eq!(
        commits
            .iter()
            .map(|commit| commit.first_version)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(commits[0].prev, None);
    assert_eq!(commits[1].prev, Some(Commit::hash(&commits[0].encode())));
    let loaded = installation
        .dispatcher()
        .load::<User>(&tenant, user.as_str(), Duration::ZERO)
        .await
        .unwrap();
    assert_eq!((loaded.version, loaded.sequence), (2, second.position.sequence));
}

#[tokio::test]
async fn a_command_that_changes_nothing_answers_the_last_position() {
    let installation = Installation::new().await;
    let (dispatcher, tenant, user) = (installation.dispatcher(), tenant(), user());
    let id = user.as_str();
    dispatcher
        .execute::<User>(&tenant, id, register("ada@example.org"), meta("RegisterUser"))
        .await
        .unwrap();
    let changed = dispatcher
        .execute::<User>(&tenant, id, rename("B"), meta("UpdateUser"))
        .await
        .unwrap();
    let same = dispatcher
        .execute::<User>(&tenant, id, rename("B"), meta("UpdateUser"))
        .await
        .unwrap();
    assert_eq!(same, changed);
    assert_eq!(installation.commits(&tenant, &user).await.len(), 2);
}

#[tokio::test]
async fn an_address_belongs_to_one_user_until_it_is_given_back() {
    let installation = Installation::new().await;
    let (dispatcher, tenant, other_tenant) = (installation.dispatcher(), tenant(), tenant());
    let (ada, bob) = (user(), user());
    let run = async |tenant: &TenantId, user: &UserId, command| {
        dispatcher
            .execute::<User>(tenant, user.as_str(), command, meta("Test"))
            .await
    };
    run(&tenant, &ada, register("ada@example.org")).await.unwrap();
    let taken = run(&tenant, &bob, register("ADA@example.org")).await;
    assert!(matches!(taken, Err(Error::Taken { kind: "email" })), "{taken:?}");
    assert!(
        installation.commits(&tenant, &bob).await.is_empty(),
        "a refused command left a trace"
    );
    run(&other_tenant, &bob, register("ada@example.org"))
        .await
        .unwrap();
    let change = |address| UserCommand::Update {
        email: Some(email(address)),
        name: None,
    };
    run(&tenant, &ada, change("ada@example.net")).await.unwrap();
    run(&tenant, &bob, register("ada@example.org")).await.unwrap();
    let back = run(&tenant, &ada, change("ada@example.org")).await;
    assert!(matches!(back, Err(Error::Taken { kind: "email" })), "{back:?}");
}

#[tokio::test]
async fn of_many_that_race_for_one_slug_one_wins() {
    let installation = Installation::new().await;
    let platform = TenantId::platform();
    let provision = async |dispatcher: Dispatcher| {
        let id = tenant();
        let command = TenantCommand::Provision {
            id: id.clone(),
            name: Text::new("Acme").unwrap(),
            slug: Slug::try_from("acme".to_owned()).unwrap(),
            plan: None,
        };
        dispatcher
            .execute::<Tenant>(&platform, id.as_str(), command, meta("ProvisionTenant"))
            .await
    };
    let racers = (0..16).map(|_| provision(installation.dispatcher()));
    let results = futures::future::join_all(racers).await;
    let won = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(won, 1, "{results:?}");
    for result in results.into_iter().filter_map(Result::err) {
        assert!(matches!(result, Error::Taken { kind: "slug" }), "{result:?}");
    }
}

/// Two processes, one aggregate, hundreds of commands: nothing lost, doubled or reordered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_commands_of_two_processes_all_happen_once() {
    let installation = Installation::new().await;
    let (tenant, user) = (tenant(), user());
    let dispatchers = [installation.dispatcher(), installation.dispatcher()];
    let id = user.as_str();
    dispatchers[0]
        .execute::<User>(&tenant, id, register("ada@example.org"), meta("Register"))
        .await
        .unwrap();
    let racers = (0..200).map(async |number: usize| {
        let command = rename(&format!("name {number}"));
        loop {
            match dispatchers[number % 2]
                .execute::<User>(&tenant, id, command.clone(), meta("Rename"))
                .await
            {
                Ok(receipt) => return receipt,
                Err(Error::Contended) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    let receipts = futures::future::join_all(racers).await;
    let mut positions: Vec<_> = receipts.iter().map(|receipt| receipt.position).collect();
    positions.sort_unstable();
    positions.dedup();
    assert_eq!(positions.len(), 200);
    let commits = installation.commits(&tenant, &user).await;
    let versions: Vec<_> = commits.iter().map(|commit| commit.first_version).collect();
    assert_eq!(versions, (1..=201).collect::<Vec<_>>());
}

/// The cache of one process does not know what another did: its "no" must not be final.
#[tokio::test]
async fn a_rejection_is_never_said_on_the_caches_word_alone() {
    let installation = Installation::new().await;
    let (here, there, tenant, user) = (
        installation.dispatcher(),
        installation.dispatcher(),
        tenant(),
        user(),
    );
    let id = user.as_str();
    let early = here
        .execute::<User>(&tenant, id, rename("B"), meta("Rename"))
        .await;
    assert!(
        matches!(early, Err(Error::Rejected(UserRejection::NotFound))),
        "{early:?}"
    );
    there
        .execute::<User>(&tenant, id, register("ada@example.org"), meta("Register"))
        .await
        .unwrap();
    here.execute::<User>(&tenant, id, rename("B"), meta("Rename"))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_same_command_sent_again_happens_once() {
    let installation = Installation::new().await;
    let (tenant, user) = (tenant(), user());
    let command = meta("Register");
    let first = installation
        .dispatcher()
        .execute::<User>(
            &tenant,
            user.as_str(),
            register("ada@example.org"),
            command.clone(),
        )
        .await
        .unwrap();
    // As after an unknown outcome: a fresh process knows only the command id.
    let again = installation
        .dispatcher()
        .execute::<User>(&tenant, user.as_str(), register("ada@example.org"), command)
        .await;
    assert!(
        matches!(again, Err(Error::Rejected(UserRejection::AlreadyRegistered))),
        "{again:?}"
    );
    assert_eq!(installation.commits(&tenant, &user).await.len(), 1);
    assert_eq!(first.version, 1);
}

/// The snapshot of a user, once it is taken.
async fn snapshot(installation: &Installation, tenant: &TenantId, user: &UserId) -> Entry {
    let bucket = installation.engine.bucket(Bucket::Snapshots);
    let key = Subject::new(format!("{tenant}.user.{user}")).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(entry) = bucket.get(&key).await.unwrap() {
            return entry;
        }
        assert!(std::time::Instant::now() < deadline, "no snapshot was taken");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A long history loads from its snapshot, and a snapshot that does not fit is passed over, whatever it says.
#[tokio::test]
async fn a_long_history_is_loaded_from_a_snapshot_that_fits() {
    let installation = Installation::new().await;
    let (dispatcher, tenant, user) = (installation.dispatcher(), tenant(), user());
    let id = user.as_str();
    dispatcher
        .execute::<User>(&tenant, id, register("ada@example.org"), meta("Register"))
        .await
        .unwrap();
    for number in 0..600 {
        let command = rename(&format!("name {number}"));
        dispatcher
            .execute::<User>(&tenant, id, command, meta("Rename"))
            .await
            .unwrap();
    }
    let entry = snapshot(&installation, &tenant, &user).await;
    let load_with = async |spoil: &dyn Fn(&mut serde_json::Value)| {
        let mut stored: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
        spoil(&mut stored);
        let value = serde_json::to_vec(&stored).unwrap().into();
        let bucket = installation.engine.bucket(Bucket::Snapshots);
        bucket
            .put(&entry.key, value, Expect::Anything, None)
            .await
            .unwrap();
        installation
            .dispatcher()
            .load::<User>(&tenant, id, Duration::ZERO)
            .await
    };
    // That it is used shows where its word is taken: a version too high leaves a gap to the next record.
    assert!(
        load_with(&|stored| stored["version"] = 9_999.into())
            .await
            .is_err()
    );
    assert_eq!(load_with(&|_| {}).await.unwrap().version, 601);
    // Another hash, another fold, a record that is not there: the history is folded from its beginning.
    for field in [
        ("hash", "ab".repeat(32).into()),
        ("fold", 2.into()),
        ("sequence", 1_000_000.into()),
    ] {
        let spoil = |stored: &mut serde_json::Value| {
            stored["version"] = 9_999.into();
            stored[field.0] = serde_json::Value::clone(&field.1);
        };
        assert_eq!(
            load_with(&spoil).await.unwrap().version,
            601,
            "with another {}",
            field.0
        );
    }
}

/// `cqrs_es` itself can drive the store.
#[tokio::test]
async fn the_event_store_keeps_its_contract() {
    use cqrs_es::EventStore;
    let installation = Installation::new().await;
    let (tenant, user) = (tenant(), user());
    let store = installation.dispatcher().store(&tenant);
    let registered = domain::user::UserEvent::Registered {
        email: email("ada@example.org"),
        name: Text::new("Ada").unwrap(),
    };
    let metadata = [(
        "meta".to_owned(),
        serde_json::to_string(&meta("Register")).unwrap(),
    )]
    .into_iter()
    .collect();
    let fresh = EventStore::<User>::load_aggregate(&store, user.as_str())
        .await
        .unwrap();
    let stale = fresh.clone();
    let stored = store
        .commit(vec![registered.clone()], fresh, metadata)
        .await
        .unwrap();
    let metadata = stored[0].metadata.clone();
    let again = EventStore::<User>::commit(&store, vec![registered.clone()], stale, {
        let mut other: Meta = serde_json::from_str(&metadata["meta"]).unwrap();
        other.command_id = Ulid::generate().to_string();
        [("meta".to_owned(), serde_json::to_string(&other).unwrap())]
            .into_iter()
            .collect()
    })
    .await;
    assert!(
        matches!(again, Err(cqrs_es::AggregateError::AggregateConflict)),
        "{again:?}"
    );
    let loaded = EventStore::<User>::load_events(&store, user.as_str())
        .await
        .unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!((loaded[0].sequence, &loaded[0].payload), (1, &registered));
}

fn draft(id: Option<&EventId>, data: &str) -> Draft {
    Draft {
        id: id.cloned(),
        event_type: "invoice.paid".parse().unwrap(),
        data: bytes::Bytes::copy_from_slice(data.as_bytes()),
    }
}

fn origin() -> Origin {
    Origin {
        actor: Actor::PlatformAdmin,
        request_id: None,
        traceparent: None,
        at: Timestamp::from_millis(1_614_265_330_007),
    }
}

#[tokio::test]
async fn published_events_stand_in_order_and_to_the_byte() {
    let installation = Installation::new().await;
    let (publisher, tenant) = (Publisher::new(&*installation.engine), tenant());
    let texts = [r#"{"amount": 12.50}"#, "[1, 2]", r#""x""#];
    let drafts = texts.iter().map(|text| draft(None, text)).collect();
    let published = publisher.publish(&tenant, drafts, origin()).await.unwrap();
    let mut last = 0;
    for (result, text) in published.into_iter().zip(texts) {
        let published = result.unwrap();
        assert!(published.position.sequence > last && !published.duplicate);
        last = published.position.sequence;
        let message = publisher.read(published.position).await.unwrap().unwrap();
        assert_eq!(
            (message.id, message.data.as_slice()),
            (published.id, text.as_bytes())
        );
    }
}

#[tokio::test]
async fn an_event_under_its_own_id_is_published_once() {
    let installation = Installation::new().await;
    let (publisher, tenant) = (Publisher::new(&*installation.engine), tenant());
    let id = EventId::new(Ulid::generate());
    let publish = async |drafts| publisher.publish(&tenant, drafts, origin()).await.unwrap();
    let first = publish(vec![draft(Some(&id), "1"), draft(Some(&id), "1")]).await;
    let first: Vec<_> = first.into_iter().map(Result::unwrap).collect();
    assert_eq!(first[0].position, first[1].position);
    let mut again = publish(vec![
        draft(Some(&id), "1"),
        draft(Some(&id), "2"),
        draft(None, "2"),
    ])
    .await;
    assert!(again.pop().unwrap().is_ok(), "a neighbour was refused");
    assert!(matches!(again.pop().unwrap(), Err(PublishError::IdReused(reused)) if reused == id));
    let repeated = again.pop().unwrap().unwrap();
    assert_eq!((repeated.position, repeated.duplicate), (first[0].position, true));
    let state = installation.engine.log(Log::Messages(0)).state().await.unwrap();
    assert_eq!(state.last, 2);
}

#[tokio::test]
async fn an_event_too_large_is_refused_alone() {
    let installation = Installation::new().await;
    let (publisher, tenant) = (Publisher::new(&*installation.engine), tenant());
    let large = "0".repeat(commands::MAX_DATA_BYTES + 1);
    let results = publisher
        .publish(&tenant, vec![draft(None, &large), draft(None, "1")], origin())
        .await
        .unwrap();
    assert!(
        matches!(results[0], Err(PublishError::TooLarge { .. })),
        "{results:?}"
    );
    assert!(results[1].is_ok());
    let many = vec![draft(None, "1"); commands::MAX_BULK + 1];
    let refused = publisher.publish(&tenant, many, origin()).await;
    assert!(matches!(refused, Err(PublishError::TooMany { .. })));
}
