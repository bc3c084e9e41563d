//! How long the audit trail is kept: what is older than its tenant's retention is not shown, and is removed from the
//! read model in small steps, unless a legal hold keeps everything.
//!
//! Retention is about the read model. The log is for ever: a rebuild makes all rows again, and they are removed again
//! where the retention of then says so.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use domain::{Commit, TenantId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{AuditProjection, NAME};
use crate::engine::{Session, copies};
use crate::generations;
use crate::page::QueryError;
use crate::projection::ApplyError;
use crate::read_models::{Query, ReadModels};
use crate::rows::Rows;
use crate::sql::{Statement, Value, optional_int, optional_text};
use crate::table::{Column, Growth, Row, Table};

pub(super) static TABLE: Table = Table {
    name: "audit_retention",
    key: 1,
    columns: &[Column::text("tenant"), Column::int("days"), Column::text("hold")],
    growth: Growth::Kept,
};

const DAY: Duration = Duration::from_hours(24);
/// How often what is too old is looked for.
const ROUND: Duration = Duration::from_mins(1);
/// How many rows one transaction removes.
const STEP: u64 = 1_000;

/// Notes what a commit says about how long its tenant keeps the trail.
pub(super) async fn apply(tenant: &str, commit: &Commit, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    if !matches!(commit.aggregate.as_str(), "settings" | "legal_hold") || commit.id != tenant {
        return Ok(());
    }
    let key = vec![Value::from(tenant)];
    let row = rows.get(&TABLE, key).await?;
    let mut row = row.unwrap_or_else(|| TABLE.row(vec![("tenant", tenant.into())]));
    for event in &commit.events {
        let to = event.data.get("to");
        if commit.aggregate == "legal_hold" {
            let reason = to.and_then(serde_json::Value::as_str).map(str::to_owned);
            TABLE.set(&mut row, "hold", reason.into());
        } else if to.is_some() {
            let days = to.and_then(|to| to.get("audit_retention_days"));
            TABLE.set(&mut row, "days", days.and_then(serde_json::Value::as_i64).into());
        }
    }
    rows.put(&TABLE, row);
    Ok(())
}

/// From when on entries are kept, of a tenant that keeps them for so many days.
fn oldest(days: i64, now: Timestamp) -> Timestamp {
    let days = u32::try_from(days).unwrap_or_default();
    now.saturating_sub(DAY.saturating_mul(days))
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// From when on entries are shown to a query; none: all.
pub(super) async fn oldest_shown(
    query: &mut Query,
    tenant: &TenantId,
) -> Result<Option<Timestamp>, QueryError> {
    let mut select = Statement::new(format!(
        "SELECT days, hold FROM {} WHERE tenant = ",
        query.table(TABLE.name)
    ));
    select.bind(tenant.as_str());
    let rows = query.rows(select).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let held = optional_text(row, "hold")?.is_some();
    let days = optional_int(row, "days")?.filter(|_| !held);
    Ok(days.map(|days| oldest(days, now())))
}

/// The projection whose rows perish.
pub(crate) const PROJECTION: &str = NAME;

/// When an entry was decided, in milliseconds; none of rows that do not perish.
pub(crate) fn perishes(table: &Table, row: &Row) -> Option<i64> {
    (table.name == NAME).then(|| table.int(row, "at"))
}

/// Since when each tenant's entries are there in some generations, the first of which is live, as the session sees them.
/// What was removed before now was removed by the retention of its time, which is noted with it.
pub(crate) async fn cuts(
    session: &mut Session,
    generations: &[i64],
) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    let mut cuts = BTreeMap::new();
    let Some(live) = generations.first() else {
        return Ok(cuts);
    };
    for (tenant, days) in kept(session, *live).await? {
        cuts.insert(tenant, oldest(days, now()).as_millis());
    }
    for generation in generations {
        let select = Statement::new("SELECT tenant, before FROM audit_removed WHERE generation = $1");
        let columns = [Column::text("tenant"), Column::int("before")];
        for row in session.rows(select.with(*generation), &columns).await? {
            let tenant = row.first().and_then(Value::as_text).unwrap_or_default();
            let before = row.get(1).and_then(Value::as_int).unwrap_or_default();
            let cut = cuts.entry(tenant.to_owned()).or_insert(before);
            *cut = before.max(*cut);
        }
    }
    Ok(cuts)
}

/// The tenants whose rows perish, and after how many days.
async fn kept(session: &mut Session, generation: i64) -> Result<Vec<(String, i64)>, sqlx::Error> {
    let select = Statement::new(format!(
        "SELECT tenant, days FROM {}{} WHERE days IS NOT NULL AND hold IS NULL",
        TABLE.name,
        copies::suffix(generation)
    ));
    let rows = session
        .rows(select, &[Column::text("tenant"), Column::int("days")])
        .await?;
    let tenant = |row: &Row| Some((row.first()?.as_text()?.to_owned(), row.get(1)?.as_int()?));
    Ok(rows.iter().filter_map(tenant).collect())
}

/// Removes what is too old, again and again, until stopped.
pub(crate) async fn run(read_models: ReadModels, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match remove(&read_models, &stop).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(
                rows,
                "Entries of audit trails that are past their retention were removed."
            ),
            Err(error) => {
                tracing::warn!(%error, "Entries past their retention could not be removed; they are not shown.");
            }
        }
    }
}

/// Removes what is too old now from the live generation; answers how many rows.
pub(crate) async fn remove(read_models: &ReadModels, stop: &CancellationToken) -> Result<u64, sqlx::Error> {
    let database = &read_models.database;
    let mut session = database.begin_beside().await?;
    let Some(generation) = generations::live(&mut session, &AuditProjection).await? else {
        return Ok(0);
    };
    let tenants = kept(&mut session, generation).await?;
    let orphaned = session
        .rows(Statement::new(ORPHANED), &[Column::int("generation")])
        .await?;
    drop(session);
    for generation in orphaned.iter().filter_map(|row| row.first()?.as_int()) {
        forget(read_models, generation).await?;
    }
    let mut removed = 0;
    for (tenant, _) in tenants {
        while !stop.is_cancelled() {
            let rows = step(read_models, generation, &tenant).await?;
            removed += rows;
            if rows < STEP {
                break;
            }
        }
    }
    Ok(removed)
}

/// The generations that were dropped, of which it is still noted what was removed: another may get their number.
const ORPHANED: &str = "SELECT DISTINCT generation FROM audit_removed WHERE generation NOT IN
     (SELECT generation FROM checkpoints WHERE projection = 'audit')";

async fn forget(read_models: &ReadModels, generation: i64) -> Result<(), sqlx::Error> {
    let mut session = read_models.database.begin().await?;
    let delete = Statement::new("DELETE FROM audit_removed WHERE generation = $1");
    session.execute(delete.with(generation)).await?;
    session.commit().await
}

/// Removes some rows of a tenant. What the tenant keeps is asked again in the same transaction, and that the
/// generation is live, so that a hold placed meanwhile holds.
async fn step(read_models: &ReadModels, generation: i64, tenant: &str) -> Result<u64, sqlx::Error> {
    let mut session = read_models.database.begin().await?;
    if generations::live(&mut session, &AuditProjection).await? != Some(generation) {
        return Ok(0);
    }
    let suffix = copies::suffix(generation);
    // Written first: a fold that places a hold at this moment waits for this transaction, or this one for it.
    let touch = format!("UPDATE {}{suffix} SET days = days WHERE tenant = $1", TABLE.name);
    session.execute(Statement::new(touch).with(tenant)).await?;
    let kept = kept(&mut session, generation).await?;
    let Some((_, days)) = kept.into_iter().find(|(of, _)| of == tenant) else {
        return Ok(0);
    };
    let before = oldest(days, now());
    let delete = format!(
        "DELETE FROM {NAME}{suffix} WHERE tenant = $1 AND (shard, sequence, version) IN
         (SELECT shard, sequence, version FROM {NAME}{suffix} WHERE tenant = $1 AND at < $2
          ORDER BY at, shard, sequence, version LIMIT $3)"
    );
    let delete = Statement::new(delete).with(tenant).with(before).with(STEP);
    let rows = session.execute(delete).await?;
    if rows > 0 {
        let note = Statement::new(
            "INSERT INTO audit_removed (tenant, generation, before) VALUES ($1, $2, $3)
             ON CONFLICT (tenant, generation) DO UPDATE SET before = excluded.before
             WHERE excluded.before > audit_removed.before",
        );
        session
            .execute(note.with(tenant).with(generation).with(before))
            .await?;
    }
    session.commit().await?;
    Ok(rows)
}
