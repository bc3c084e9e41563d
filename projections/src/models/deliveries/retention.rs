//! Deliveries are forgotten with the log they are folded from: one that came to its end longer ago than the delivery log
//! is kept goes, with all its attempts. A dead letter nobody has acted on stays, and so does what is still under way.
//!
//! How many deliveries there were in each status is not counted back: those are figures of the past, too.

use std::time::{Duration, SystemTime};

use domain::Timestamp;
use tokio_util::sync::CancellationToken;

use super::state::TABLE;
use super::{ATTEMPTS, COUNTS, DeliveriesProjection};
use crate::engine::{Session, copies};
use crate::generations;
use crate::read_models::ReadModels;
use crate::sql::{Statement, Value};
use crate::table::{Column, Row, Table};

/// The projection whose rows perish.
pub(crate) const PROJECTION: &str = super::NAME;

/// When a delivery came to its end, or an attempt was made, in milliseconds; none of rows that do not perish.
pub(crate) fn perishes(table: &Table, row: &Row) -> Option<i64> {
    if table.name == ATTEMPTS.name {
        return Some(table.int(row, "at"));
    }
    if table.name != TABLE.name {
        return None;
    }
    let ended = match table.text(row, "status") {
        "delivered" => "completed_at",
        "dead" => "discarded_at",
        _ => return None,
    };
    table.get(row, ended)?.as_int()
}

/// Since when what ended is there in some generations, in milliseconds; none where nothing was forgotten.
pub(crate) async fn cut(session: &mut Session, generations: &[i64]) -> Result<Option<i64>, sqlx::Error> {
    let mut cut = None;
    for generation in generations {
        let select = Statement::new("SELECT before FROM deliveries_forgotten WHERE generation = $1");
        let rows = session
            .rows(select.with(*generation), &[Column::int("before")])
            .await?;
        cut = cut.max(rows.first().and_then(|row| row.first()?.as_int()));
    }
    Ok(cut)
}

/// Notes what was forgotten, and drops the notes on generations that are gone: another may get their number.
async fn note(session: &mut Session, generation: i64, before: Timestamp) -> Result<(), sqlx::Error> {
    let orphaned = Statement::new(
        "DELETE FROM deliveries_forgotten WHERE generation NOT IN
         (SELECT generation FROM checkpoints WHERE projection = $1)",
    );
    session.execute(orphaned.with(PROJECTION)).await?;
    let note = Statement::new(
        "INSERT INTO deliveries_forgotten (generation, before) VALUES ($1, $2)
         ON CONFLICT (generation) DO UPDATE SET before = excluded.before
         WHERE excluded.before > deliveries_forgotten.before",
    );
    session.execute(note.with(generation).with(before)).await?;
    Ok(())
}

/// How often what is too old is looked for.
const ROUND: Duration = Duration::from_mins(1);
/// How many deliveries one transaction looks at.
const STEP: u64 = 500;

/// Forgets what is too old, again and again, until stopped.
pub(crate) async fn run(read_models: ReadModels, kept: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let before = Timestamp::from(SystemTime::now()).saturating_sub(kept);
        match forget(&read_models, before, &stop).await {
            Ok(0) => {}
            Ok(deliveries) => tracing::info!(
                deliveries,
                "Deliveries that ended longer ago than the delivery log is kept were forgotten."
            ),
            Err(error) => tracing::warn!(%error, "Old deliveries could not be forgotten; it is tried again."),
        }
    }
}

/// Forgets once what came to its end before a time, for tests of just that.
pub async fn forget_deliveries(read_models: &ReadModels, before: Timestamp) -> Result<u64, sqlx::Error> {
    forget(read_models, before, &CancellationToken::new()).await
}

/// Forgets the deliveries that came to their end before a time; answers how many.
async fn forget(
    read_models: &ReadModels,
    before: Timestamp,
    stop: &CancellationToken,
) -> Result<u64, sqlx::Error> {
    let mut session = read_models.database.begin_beside().await?;
    let Some(generation) = generations::live(&mut session, &DeliveriesProjection).await? else {
        return Ok(0);
    };
    let counts = format!(
        "SELECT DISTINCT tenant FROM {}{}",
        COUNTS.name,
        copies::suffix(generation)
    );
    let tenants = session
        .rows(Statement::new(counts), &[Column::text("tenant")])
        .await?;
    drop(session);
    let mut forgotten = 0;
    for tenant in tenants.iter().filter_map(|row| row.first()?.as_text()) {
        let mut place = Some(Place::default());
        while let Some(after) = place.filter(|_| !stop.is_cancelled()) {
            let step = step(read_models, generation, tenant, &after, before).await?;
            forgotten += step.forgotten;
            place = step.next;
        }
    }
    Ok(forgotten)
}

/// A delivery's place in the order of messages.
#[derive(Debug, Clone, Default)]
struct Place {
    shard: i64,
    sequence: i64,
    id: String,
}

struct Step {
    forgotten: u64,
    /// From where to look on; none where the deliveries that follow are too young.
    next: Option<Place>,
}

/// Looks at some deliveries in the order of their messages, which is nearly the order of time, up to the first that
/// came into being too late to be forgotten.
async fn step(
    read_models: &ReadModels,
    generation: i64,
    tenant: &str,
    after: &Place,
    before: Timestamp,
) -> Result<Step, sqlx::Error> {
    let mut session = read_models.database.begin().await?;
    if generations::live(&mut session, &DeliveriesProjection).await? != Some(generation) {
        return Ok(Step {
            forgotten: 0,
            next: None,
        });
    }
    let rows = look(&mut session, generation, tenant, after).await?;
    let old = rows.iter().take_while(|row| row.created_at < before);
    let old: Vec<&Looked> = old.collect();
    let next = old.last().map(|last| last.place.clone());
    let next = next.filter(|_| old.len() == rows.len());
    let over = old
        .iter()
        .filter(|row| row.ended.is_some_and(|ended| ended < before));
    let ids: Vec<&str> = over.map(|row| row.place.id.as_str()).collect();
    for (table, column) in [(&ATTEMPTS, "delivery"), (&TABLE, "id")] {
        remove(
            &mut session,
            &format!("{}{}", table.name, copies::suffix(generation)),
            column,
            tenant,
            &ids,
        )
        .await?;
    }
    if !ids.is_empty() {
        note(&mut session, generation, before).await?;
    }
    session.commit().await?;
    Ok(Step {
        forgotten: u64::try_from(ids.len()).unwrap_or_default(),
        next,
    })
}

async fn remove(
    session: &mut Session,
    table: &str,
    column: &str,
    tenant: &str,
    ids: &[&str],
) -> Result<(), sqlx::Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut delete = Statement::new(format!("DELETE FROM {table} WHERE tenant = "));
    delete.bind(tenant);
    let mut before = format!(" AND {column} IN (");
    for id in ids {
        delete.push(&before).bind(*id);
        ", ".clone_into(&mut before);
    }
    delete.push(")");
    session.execute(delete).await.map(|_| ())
}

struct Looked {
    place: Place,
    created_at: Timestamp,
    /// When it came to its end, if it did: a dead letter does when it is discarded.
    ended: Option<Timestamp>,
}

async fn look(
    session: &mut Session,
    generation: i64,
    tenant: &str,
    after: &Place,
) -> Result<Vec<Looked>, sqlx::Error> {
    let select = Statement::new(format!(
        "SELECT shard, sequence, id, created_at,
            CASE WHEN status = 'delivered' THEN completed_at WHEN status = 'dead' THEN discarded_at END AS ended
         FROM {}{} WHERE tenant = $1 AND (shard, sequence, id) > ($2, $3, $4)
         ORDER BY shard, sequence, id LIMIT $5",
        TABLE.name,
        copies::suffix(generation)
    ));
    let select = select
        .with(tenant)
        .with(after.shard)
        .with(after.sequence)
        .with(after.id.as_str())
        .with(STEP);
    let columns = [
        Column::int("shard"),
        Column::int("sequence"),
        Column::text("id"),
        Column::int("created_at"),
        Column::int("ended"),
    ];
    let rows = session.rows(select, &columns).await?;
    Ok(rows.iter().filter_map(looked).collect())
}

fn looked(row: &Row) -> Option<Looked> {
    let int = |column: usize| row.get(column).and_then(Value::as_int);
    Some(Looked {
        place: Place {
            shard: int(0)?,
            sequence: int(1)?,
            id: row.get(2)?.as_text()?.to_owned(),
        },
        created_at: Timestamp::from_millis(int(3)?),
        ended: int(4).map(Timestamp::from_millis),
    })
}
