//! What must stop a projection, and what must not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use broker::embedded::Embedded;
use broker::layout::{Layout, Log};
use broker::{
    AppendError, Appended, Engine, EventLog, Filter, LogState, NewRecord, ReadError, Record, RecordStream,
    Subject,
};
use domain::Commit;
use futures::StreamExt;
use projections::{Control, Page, ProjectionStatus, Projectors, ReadModels, UserFilter};
use serde_json::json;
use tests::postgres::Postgres;
use tokio_util::sync::CancellationToken;

use crate::history::Dice;
use crate::rebuild::{interrupted, plan, rebuild};
use crate::world::{PATIENCE, Store, World, tenant, user_id};

/// Waits until a projection's status is as wanted.
async fn until(
    projectors: &Projectors,
    name: &str,
    wanted: impl Fn(&ProjectionStatus) -> bool,
) -> anyhow::Result<ProjectionStatus> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = projectors.status();
        let found = status.into_iter().find(|status| status.name == name);
        match found {
            Some(status) if wanted(&status) => return Ok(status),
            found => anyhow::ensure!(Instant::now() < deadline, "{name} never got there: {found:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn a_bad_record_parks_one_tenant(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let (bad, good) = (tenant(1), tenant(2));
    world.register(&bad, 1).await?;
    let subject = Commit::subject(&bad, "user", &user_id(9));
    world
        .append(
            Log::Events(0),
            subject,
            format!("{bad}:x"),
            b"\xc1 no record".to_vec(),
        )
        .await?;
    world.register(&bad, 2).await?;
    world.register(&good, 3).await?;
    // This one can be read, but its aggregate never was: it parks its tenant in `users` only.
    let skipping = tenant(3);
    let renamed = vec![("user.renamed", json!({ "from": "Ada", "to": "Bob" }))];
    world.commit(&skipping, "user", &user_id(4), 7, renamed).await?;
    world.register(&skipping, 5).await?;
    // Filed under one tenant, said to be another's.
    let forged = world.record(
        &good,
        "user",
        &user_id(6),
        1,
        vec![("user.registered", json!({}))],
    );
    let subject = Commit::subject(&tenant(4), "user", &user_id(6));
    world
        .append(Log::Events(0), subject, "forged".to_owned(), forged.encode())
        .await?;

    for start in 0..2 {
        let read_models = world.open().await?;
        let (projectors, stop) = world.start(&read_models);
        world.settled(&read_models).await?;
        let status = until(&projectors, "users", |status| !status.parked.is_empty()).await?;
        let parked: Vec<_> = status
            .parked
            .iter()
            .map(|parked| (parked.tenant.as_str().to_owned(), parked.position.sequence))
            .collect();
        let expected = [
            (bad.to_string(), 2),
            (skipping.to_string(), 5),
            (tenant(4).to_string(), 7),
        ];
        assert_eq!(parked, expected, "at start {start}");
        let users = async |tenant| -> anyhow::Result<usize> {
            Ok(read_models
                .users(tenant)
                .list(&UserFilter::default(), &Page::default())
                .await?
                .data
                .data
                .len())
        };
        assert_eq!(
            (users(&bad).await?, users(&good).await?, users(&skipping).await?),
            (1, 1, 0)
        );
        let audited = until(&projectors, "audit", |status| !status.parked.is_empty()).await?;
        assert_eq!(
            audited.parked.len(),
            2,
            "what only `users` cannot apply does not concern the audit"
        );
        world.assert_folded(&read_models).await?;
        stop.cancel();
        projectors.join().await;
    }
    Ok(())
}

pub(crate) async fn a_parked_tenant_goes_on_once_its_records_can_be_read(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let (late, other) = (tenant(1), tenant(2));
    for number in 1..=600 {
        world.register(&late, number).await?;
        world.register(&other, number + 1_000).await?;
    }
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    // As an older program would have left it, that could not read the tenant's 11th record, which is the log's 21st.
    let forgotten: Vec<String> = (11..=600)
        .map(|number| format!("'{}'", user_id(number)))
        .collect();
    world
        .sql(&format!(
            "DELETE FROM users WHERE tenant = '{late}' AND id IN ({}); \
             INSERT INTO parked VALUES ('users', 0, '{late}', 'EVENTS-0', 21, 'not understood')",
            forgotten.join(", ")
        ))
        .await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    until(&projectors, "users", |status| {
        !status.positions.is_empty() && status.parked.is_empty()
    })
    .await?;
    world.register(&late, 601).await?;
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn a_value_that_the_database_refuses_parks_one_tenant(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let (bad, good) = (tenant(1), tenant(2));
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.register(&bad, 1).await?;
    world.settled(&read_models).await?;
    let (refuse, allow) = match store {
        Store::Postgres => (
            "ALTER TABLE users ADD CONSTRAINT refused CHECK (name <> 'User 3')",
            "ALTER TABLE users DROP CONSTRAINT refused",
        ),
        Store::Sqlite => (
            "CREATE TRIGGER refused BEFORE INSERT ON users WHEN NEW.name = 'User 3' BEGIN SELECT RAISE(ABORT, 'no'); END",
            "DROP TRIGGER refused",
        ),
    };
    world.sql(refuse).await?;
    // The third record, and others before and behind it.
    for number in 2..=9 {
        world.register(&bad, number).await?;
        world.register(&good, 100 + number).await?;
    }
    world.settled(&read_models).await?;
    until(&projectors, "users", |status| !status.parked.is_empty()).await?;
    stop.cancel();
    projectors.join().await;
    // A start tries again, and the others are folded nevertheless.
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.register(&good, 200).await?;
    world.settled(&read_models).await?;
    let status = until(&projectors, "users", |status| !status.parked.is_empty()).await?;
    assert_eq!(status.parked.len(), 1, "{status:?}");
    assert_eq!(status.parked[0].tenant, bad.as_str());
    assert_eq!(status.parked[0].position.sequence, 4, "{status:?}");
    assert!(status.last_error.is_none() && !status.stopped, "{status:?}");
    let users = async |tenant| -> anyhow::Result<usize> {
        let users = read_models.users(tenant);
        let listed = users.list(&UserFilter::default(), &Page::default()).await?;
        Ok(listed.data.data.len())
    };
    assert_eq!((users(&bad).await?, users(&good).await?), (2, 9));
    stop.cancel();
    projectors.join().await;

    world.sql(allow).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    until(&projectors, "users", |status| {
        !status.positions.is_empty() && status.parked.is_empty()
    })
    .await?;
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn a_value_that_the_database_refuses_parks_one_tenant_of_a_copy(
    store: Store,
) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let (bad, good) = (tenant(1), tenant(2));
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.register(&good, 100).await?;
    world.settled(&read_models).await?;
    let rebuilding = rebuild(&world, &read_models);
    let plan = plan(&["users", "stats"]);
    interrupted(&rebuilding, "rpl_1", &plan).await?;
    world
        .sql(match store {
            Store::Postgres => "ALTER TABLE users_g1 ADD CONSTRAINT refused CHECK (name <> 'User 3')",
            Store::Sqlite => {
                "CREATE TRIGGER refused BEFORE INSERT ON users_g1 WHEN NEW.name = 'User 3' BEGIN SELECT RAISE(ABORT, 'no'); END"
            }
        })
        .await?;
    for number in 1..=9 {
        world.register(&bad, number).await?;
        world.register(&good, 100 + number).await?;
    }
    world.settled(&read_models).await?;
    rebuilding.run("rpl_1", &plan, &CancellationToken::new()).await?;
    // The live projector finds the switch with the next record.
    world.register(&good, 200).await?;
    let status = until(&projectors, "users", |status| !status.parked.is_empty()).await?;
    assert_eq!(status.parked.len(), 1, "{status:?}");
    assert_eq!(status.parked[0].tenant, bad.as_str());
    assert_eq!(status.parked[0].position.sequence, 6, "{status:?}");
    let users = async |tenant| -> anyhow::Result<usize> {
        let users = read_models.users(tenant);
        let listed = users.list(&UserFilter::default(), &Page::default()).await?;
        Ok(listed.data.data.len())
    };
    world.settled(&read_models).await?;
    assert_eq!((users(&bad).await?, users(&good).await?), (2, 11));
    stop.cancel();
    projectors.join().await;
    Ok(())
}

/// A log that has lost one record.
#[derive(Debug)]
struct Lossy {
    log: Arc<dyn EventLog>,
    lost: u64,
}

#[async_trait]
impl EventLog for Lossy {
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
        self.log.at(sequence).await
    }

    async fn follow(&self, after: u64, filter: Option<Filter>) -> Result<RecordStream, ReadError> {
        let lost = self.lost;
        let records = self.log.follow(after, filter).await?;
        let kept = move |record: &Result<Record, ReadError>| {
            let kept = record.as_ref().map_or(true, |record| record.sequence != lost);
            std::future::ready(kept)
        };
        Ok(records.filter(kept).boxed())
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        self.log.state().await
    }
}

pub(crate) async fn a_gap_in_the_log_stops_the_projection(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    for number in 1..=5 {
        world.register(&tenant(1), number).await?;
        world.publish(&tenant(1), u64::from(number), "ping").await?;
    }
    let read_models = world.open().await?;
    let stop = CancellationToken::new();
    let lossy = world.logs().into_iter().map(|(log, port)| {
        let lossy: Arc<dyn EventLog> = Arc::new(Lossy { log: port, lost: 3 });
        (log, lossy)
    });
    let projectors = Projectors::follow(&read_models, lossy.collect(), &Control::default(), &stop);
    let status = until(&projectors, "users", |status| status.stopped).await?;
    assert!(
        status
            .last_error
            .as_deref()
            .unwrap_or_default()
            .contains("EVENTS-0"),
        "{status:?}"
    );
    assert!(status.positions[0].sequence < 3, "{status:?}");
    // Messages age out of their log: what is gone from it is no reason to stop.
    let status = until(&projectors, "messages", |status| {
        status.positions.iter().any(|at| at.sequence == 5)
    })
    .await?;
    assert!(!status.stopped, "{status:?}");
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn a_log_that_went_backwards_stops_the_projection(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    world.register(&tenant(1), 1).await?;
    world.register(&tenant(1), 2).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    stop.cancel();
    projectors.join().await;

    let empty = Embedded::open(&world.folder.path().join("another"), Layout::default()).await?;
    let stop = CancellationToken::new();
    let projectors = Projectors::start(
        read_models.clone(),
        Arc::new(empty) as Arc<dyn Engine>,
        Control::default(),
        stop.clone(),
    );
    let status = until(&projectors, "audit", |status| status.stopped).await?;
    assert!(
        status
            .last_error
            .as_deref()
            .unwrap_or_default()
            .contains("backwards"),
        "{status:?}"
    );
    assert_eq!(
        read_models
            .users(&tenant(1))
            .list(&UserFilter::default(), &Page::default())
            .await?
            .data
            .data
            .len(),
        2
    );
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn each_version_of_a_fold_has_rows_of_its_own(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    world.register(&tenant(1), 1).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    // As if an older program had folded the users, and a newer one the audit trail.
    world
        .sql(
            "UPDATE checkpoints SET version = 0 WHERE projection = 'users'; UPDATE users SET name = 'as of old'; \
             UPDATE checkpoints SET version = 99 WHERE projection = 'audit'; UPDATE audit SET actor = 'as of new'",
        )
        .await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    let user = read_models
        .users(&tenant(1))
        .get(&user_id(1).parse()?)
        .await?
        .data;
    assert_eq!(user.map(|user| user.name), Some("User 1".to_owned()));
    assert_ne!(first_actor(&read_models).await?, "as of new");
    stop.cancel();
    projectors.join().await;
    // The newer program's rows are still there for it.
    world
        .sql(
            "UPDATE checkpoints SET status = 'previous' WHERE projection = 'audit' AND generation = 1; UPDATE \
             checkpoints SET version = (SELECT max(version) FROM checkpoints WHERE projection = 'audit' AND \
             generation = 1) WHERE projection = 'audit' AND generation = 0",
        )
        .await?;
    assert_eq!(first_actor(&read_models).await?, "as of new");
    Ok(())
}

async fn first_actor(read_models: &ReadModels) -> anyhow::Result<String> {
    let rows = read_models
        .audit(&tenant(1))
        .list(&projections::AuditFilter::default(), &Page::default())
        .await?;
    Ok(rows.data.data[0].actor.clone())
}

/// The database is killed under the projectors and comes back: they go on by themselves, and had said why not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projectors_outlive_their_database() -> anyhow::Result<()> {
    let mut server = Postgres::start().await?;
    let mut world = World::with(Some(server.create_database("read").await?)).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.live(&mut Dice::new(5), 100).await?;
    world.settled(&read_models).await?;
    server.kill().await?;
    world.live(&mut Dice::new(6), 100).await?;
    until(&projectors, "audit", |status| {
        status.last_error.is_some() && !status.stopped
    })
    .await?;
    server.restart().await?;
    world.assert_folded(&read_models).await?;
    until(&projectors, "audit", |status| status.last_error.is_none()).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}
