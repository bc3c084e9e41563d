//! Logs that have dropped their oldest records: what came of those is neither lost nor called wrong.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use broker::layout::Log;
use broker::{
    AppendError, Appended, EventLog, Filter, LogState, NewRecord, ReadError, Record, RecordStream, Subject,
};
use projections::rebuild::{Plan, Rebuild, RebuildError, Unknown};
use projections::{Control, Logs, Standing};
use tokio_util::sync::CancellationToken;

use crate::history::Dice;
use crate::rebuild::{SHORT, plan, standing_of};
use crate::world::{ALL, PATIENCE, Store, World, event_id, tenant};

/// A log as it is when its first records are gone by their age, or its end is only a number.
#[derive(Debug)]
struct Aged {
    log: Arc<dyn EventLog>,
    first: u64,
    beyond: u64,
}

#[async_trait]
impl EventLog for Aged {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        self.log.append(records).await
    }

    async fn read(
        &self,
        after: u64,
        filter: Option<&Filter>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.log.read(after.max(self.first - 1), filter, limit).await
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Record>, ReadError> {
        self.log.last(subject).await
    }

    async fn at(&self, sequence: u64) -> Result<Option<Record>, ReadError> {
        if sequence < self.first {
            return Ok(None);
        }
        self.log.at(sequence).await
    }

    async fn follow(&self, after: u64, filter: Option<Filter>) -> Result<RecordStream, ReadError> {
        self.log.follow(after.max(self.first - 1), filter).await
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        let state = self.log.state().await?;
        Ok(LogState {
            first: self.first,
            last: state.last + self.beyond,
            ..state
        })
    }
}

/// The world's logs without the first `tenths` tenths of messages and of the delivery log.
async fn aged(world: &World, tenths: u64) -> anyhow::Result<Logs> {
    let mut logs = Logs::new();
    for (log, port) in world.logs() {
        let first = match log {
            Log::Events(_) => 1,
            Log::Messages(_) | Log::Attempts => port.state().await?.last * tenths / 10 + 1,
        };
        anyhow::ensure!(
            first > 1 || matches!(log, Log::Events(_)),
            "{log:?} has no records"
        );
        let beyond = 0;
        logs.push((
            log,
            Arc::new(Aged {
                log: port,
                first,
                beyond,
            }),
        ));
    }
    Ok(logs)
}

fn with(read_models: &projections::ReadModels, logs: Logs) -> Rebuild {
    Rebuild::new(read_models.clone(), logs, Control::default()).with_lease(SHORT)
}

pub(crate) async fn what_a_log_has_forgotten_is_not_lost(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.live(&mut Dice::new(91), 400).await?;
    world.settled(&read_models).await?;
    let (rebuilding, never) = (
        with(&read_models, aged(&world, 5).await?),
        CancellationToken::new(),
    );
    let look = Plan {
        switch: false,
        ..plan(ALL)
    };
    for (id, plan) in [("rpl_1", &look), ("rpl_2", &plan(ALL))] {
        let outcome = rebuilding.run(id, plan, &never).await?;
        assert_eq!(
            outcome.differences,
            Some(Vec::new()),
            "nothing is wrong: the log is older"
        );
        let left_out: BTreeSet<_> = outcome
            .not_compared
            .iter()
            .filter_map(|not| not.table.as_deref())
            .collect();
        let expected = [
            "attempts",
            "deliveries",
            "delivery_counts",
            "series_deliveries",
            "series_events",
            "stats_event_types",
            "stats_minutes",
            "stats_totals",
        ];
        assert_eq!(left_out, BTreeSet::from(expected));
        assert!(outcome.not_compared.iter().all(|not| not.reason == Unknown::Aged));
    }
    for projection in ALL {
        assert_eq!(
            standing_of(&read_models, projection, Standing::Live).await?,
            [1],
            "{projection}"
        );
    }
    // What the whole log gives, and what comes after it.
    world.assert_folded(&read_models).await?;
    world.live(&mut Dice::new(92), 100).await?;
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

/// A row whose record is there is mended, and so is what other logs have made of the same table.
pub(crate) async fn what_a_log_still_has_is_made_again(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    for number in 1..=40 {
        world.publish(&tenant(1), number, "invoice.paid").await?;
    }
    world
        .deliver(crate::world::delivery(
            &tenant(1),
            1,
            1,
            5,
            domain::DeliveryFact::Created,
        ))
        .await?;
    world
        .deliver(crate::world::delivery(
            &tenant(1),
            2,
            1,
            6,
            domain::DeliveryFact::Created,
        ))
        .await?;
    world.register(&tenant(1), 1).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    world
        .sql(&format!(
            "UPDATE messages SET size = 1 WHERE id IN ('{}', '{}'); \
             UPDATE stats_totals SET total = 7 WHERE name = 'users'; \
             UPDATE stats_totals SET total = 41 WHERE name = 'events'",
            event_id(3),
            event_id(40)
        ))
        .await?;
    let (rebuilding, never) = (
        with(&read_models, aged(&world, 5).await?),
        CancellationToken::new(),
    );
    let outcome = rebuilding
        .run("rpl_1", &plan(&["messages", "stats"]), &never)
        .await?;
    let found = outcome.differences.expect("there are live models");
    let tables: Vec<_> = found.iter().map(|found| found.table.as_str()).collect();
    assert_eq!(tables, ["messages", "stats_totals"]);
    let wrong = async |id| {
        world
            .count(&format!(
                "SELECT count(*) FROM messages_g1 WHERE size = 1 AND id = '{id}'"
            ))
            .await
    };
    assert_eq!((wrong(event_id(3)).await?, wrong(event_id(40)).await?), (1, 0));
    let total = async |name| {
        world
            .count(&format!(
                "SELECT total FROM stats_totals_g1 WHERE name = '{name}'"
            ))
            .await
    };
    assert_eq!((total("users").await?, total("events").await?), (1, 41));
    Ok(())
}

pub(crate) async fn one_tenant_keeps_what_a_log_has_forgotten(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.live(&mut Dice::new(93), 300).await?;
    world.settled(&read_models).await?;
    let (rebuilding, never) = (
        with(&read_models, aged(&world, 5).await?),
        CancellationToken::new(),
    );
    let of_one = Plan {
        tenant: Some(tenant(1)),
        ..plan(ALL)
    };
    let outcome = rebuilding.run("rpl_1", &of_one, &never).await?;
    assert_eq!(outcome.differences, Some(Vec::new()));
    world.live(&mut Dice::new(94), 50).await?;
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn a_rollback_past_forgotten_records_is_refused(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    world.publish(&tenant(1), 1, "invoice.paid").await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    let never = CancellationToken::new();
    with(&read_models, world.logs())
        .run("rpl_1", &plan(&["messages"]), &never)
        .await?;
    for number in 2..=20 {
        world.publish(&tenant(1), number, "invoice.paid").await?;
    }
    world
        .deliver(crate::world::delivery(
            &tenant(1),
            1,
            1,
            5,
            domain::DeliveryFact::Created,
        ))
        .await?;
    world
        .deliver(crate::world::delivery(
            &tenant(1),
            2,
            1,
            6,
            domain::DeliveryFact::Created,
        ))
        .await?;
    world.settled(&read_models).await?;
    let forgetful = with(&read_models, aged(&world, 5).await?);
    let refused = forgetful.roll_back("rpl_2", "messages", &never).await;
    assert!(matches!(refused, Err(RebuildError::Aged { .. })), "{refused:?}");
    assert_eq!(standing_of(&read_models, "messages", Standing::Live).await?, [1]);
    assert_eq!(
        standing_of(&read_models, "messages", Standing::Previous).await?,
        [0]
    );
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

/// The log was put back and restored: read models had folded further than its last record.
pub(crate) async fn an_end_that_is_only_a_number_is_not_waited_for(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    for number in 1..=5 {
        world.publish(&tenant(1), number, "invoice.paid").await?;
    }
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    world
        .sql("UPDATE checkpoints SET sequence = 105 WHERE projection = 'messages' AND sequence = 5")
        .await?;
    let logs = world.logs().into_iter();
    let restored = logs.map(|(log, port)| {
        let beyond = if matches!(log, Log::Messages(_)) { 100 } else { 0 };
        let port: Arc<dyn EventLog> = Arc::new(Aged {
            log: port,
            first: 1,
            beyond,
        });
        (log, port)
    });
    let (rebuilding, never) = (with(&read_models, restored.collect()), CancellationToken::new());
    for of in [None, Some(tenant(1))] {
        let id = format!("rpl_{}", of.is_some());
        let plan = Plan {
            tenant: of,
            ..plan(&["messages"])
        };
        let outcome = tokio::time::timeout(PATIENCE, rebuilding.run(&id, &plan, &never)).await??;
        assert_eq!(outcome.differences, Some(Vec::new()));
    }
    Ok(())
}
