//! What a copy takes over from the live model.
//!
//! Messages and the delivery log drop their oldest records by age; the read models keep what came of them. A copy made
//! of such a log alone would lose it. So where a log no longer has its first record, what it has made so far is taken
//! over from the live tables as they are in one moment, and the copy follows that log from there. A row that one record
//! makes is taken over only where that record is gone, or soon will be; the others are made again.

use std::collections::BTreeMap;

use broker::layout::Log;
use domain::{Source, TenantId};
use serde::{Deserialize, Serialize};

use super::{Member, Rebuild, RebuildError};
use crate::engine::{Session, copies};
use crate::generations;
use crate::projection::{Portion, Projection, Share, source_of};
use crate::sql::{Statement, Value};
use crate::table::Column;

/// The part of a log's records that a rebuild leaves alone, since they may be gone before it has come there.
const MARGIN: u64 = 10;

/// The logs of which each projection takes over what it has, by their stored names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Carried(BTreeMap<String, Vec<String>>);

impl Carried {
    /// The rows that a projection takes over.
    pub(super) fn portions(&self, projection: &dyn Projection) -> Vec<Portion> {
        let logs = self.logs(projection.name());
        let mut sources: Vec<Source> = logs.map(|log| source_of(log).0).collect();
        sources.dedup();
        sources
            .into_iter()
            .flat_map(|source| projection.portions(source))
            .collect()
    }

    fn logs(&self, projection: &str) -> impl Iterator<Item = Log> {
        let named = self.0.get(projection).into_iter().flatten();
        named.filter_map(|name| crate::projection::log_of(name))
    }
}

/// Finds out which logs no longer have their first records: what live models have of them is to be taken over.
pub(super) async fn find(rebuild: &Rebuild, members: &[Member]) -> Result<Carried, RebuildError> {
    let mut aged = Vec::new();
    for (log, port) in &rebuild.logs {
        // The log of events keeps all its records: there a missing one is a gap.
        if !matches!(log, Log::Events(_)) && port.state().await?.first > 1 {
            aged.push(source_of(*log).0);
        }
    }
    let mut carried = BTreeMap::new();
    let mut session = rebuild.read_models.database.begin_beside().await?;
    for member in members {
        let projection = member.projection.as_ref();
        if generations::live(&mut session, projection).await?.is_none() {
            continue;
        }
        // A sum over all logs of a kind is taken over as a whole.
        let logs = rebuild.logs.iter().map(|(log, _)| *log);
        let logs = logs.filter(|log| member.follows(*log) && aged.contains(&source_of(*log).0));
        let names: Vec<_> = logs.map(Log::name).collect();
        if !names.is_empty() {
            carried.insert(projection.name().to_owned(), names);
        }
    }
    Ok(Carried(carried))
}

/// Takes it over, unless that has been done.
pub(super) async fn take_over(
    rebuild: &Rebuild,
    member: &Member,
    tenant: Option<&TenantId>,
    carried: &Carried,
) -> Result<(), RebuildError> {
    let projection = member.projection.as_ref();
    let mut logs = Vec::new();
    for log in carried.logs(projection.name()) {
        let Some(port) = rebuild.port(log) else { continue };
        let bounds = port.state().await?;
        let kept = (bounds.last + 1).saturating_sub(bounds.first);
        logs.push((log, bounds.first + kept / MARGIN));
    }
    if logs.is_empty() {
        return Ok(());
    }
    let mut session = rebuild.read_models.database.begin_snapshot_to_write().await?;
    generations::alone(&mut session, projection.name()).await?;
    let Some(live) = generations::live(&mut session, projection).await? else {
        return Ok(());
    };
    let mut take = Taking {
        session,
        member,
        live,
        tenant,
    };
    if take.is_done(&logs).await? {
        return Ok(());
    }
    let by_record = |portion: &Portion| portion.rows == Share::ByRecord;
    let portions = carried.portions(projection);
    let again = portions.iter().all(by_record);
    let ends = generations::live_sequences(&mut take.session, projection).await?;
    for (log, soon_gone) in logs {
        let Some(end) = ends.get(&log).copied() else {
            continue;
        };
        // The last record of which everything is taken over.
        let last = if again {
            end.min(soon_gone.saturating_sub(1))
        } else {
            end
        };
        for portion in portions.iter().filter(|portion| by_record(portion)) {
            take.records(portion, log, last).await?;
        }
        take.place(log, last).await?;
    }
    for portion in portions.iter().filter(|portion| !by_record(portion)) {
        take.rows(portion).await?;
    }
    Ok(take.session.commit().await?)
}

/// The transaction in which a copy takes over rows.
struct Taking<'t> {
    session: Session,
    member: &'t Member,
    live: i64,
    tenant: Option<&'t TenantId>,
}

impl Taking<'_> {
    async fn is_done(&mut self, logs: &[(Log, u64)]) -> Result<bool, sqlx::Error> {
        let select = Statement::new("SELECT log FROM checkpoints WHERE projection = $1 AND generation = $2");
        let select = select
            .with(self.member.projection.name())
            .with(self.member.generation);
        let rows = self.session.rows(select, &[Column::text("log")]).await?;
        let known = |log: &Log| {
            let name = log.name();
            rows.iter()
                .any(|row| row.first().and_then(Value::as_text) == Some(name.as_str()))
        };
        Ok(logs.iter().any(|(log, _)| known(log)))
    }

    /// The rows that records up to one have made.
    async fn records(&mut self, portion: &Portion, log: Log, last: u64) -> Result<(), sqlx::Error> {
        let mut insert = self.insert(portion);
        insert.push(" WHERE shard = ").bind(source_of(log).1);
        insert.push(" AND sequence <= ").bind(last);
        if let Some(tenant) = self.tenant {
            insert.push(" AND tenant = ").bind(tenant.as_str());
        }
        self.session.execute(insert).await.map(drop)
    }

    /// All rows of a portion.
    async fn rows(&mut self, portion: &Portion) -> Result<(), sqlx::Error> {
        let mut insert = self.insert(portion);
        insert.push(" WHERE 1 = 1");
        if let Share::Named(column, text) = portion.rows {
            insert.push(" AND ").push(column).push(" = ").bind(text);
        }
        if let Some(tenant) = self.tenant {
            insert.push(" AND tenant = ").bind(tenant.as_str());
        }
        self.session.execute(insert).await.map(drop)
    }

    fn insert(&self, portion: &Portion) -> Statement {
        let columns: Vec<_> = portion.table.names().collect();
        let columns = columns.join(", ");
        let table = |generation| format!("{}{}", portion.table.name, copies::suffix(generation));
        let (from, to) = (table(self.live), table(self.member.generation));
        Statement::new(format!(
            "INSERT INTO {to} ({columns}) SELECT {columns} FROM {from}"
        ))
    }

    /// The copy stands where the rows stood, and the tenants that waited there wait in it too.
    async fn place(&mut self, log: Log, last: u64) -> Result<(), sqlx::Error> {
        let (name, generation) = (self.member.projection.name(), self.member.generation);
        let place = Statement::new(
            "INSERT INTO checkpoints (projection, version, generation, log, status, sequence, stored_at, fresh_at)
             SELECT projection, version, $1, log, 'building', $2, stored_at, fresh_at FROM checkpoints
             WHERE projection = $3 AND generation = $4 AND log = $5",
        );
        let place = place.with(generation).with(last).with(name).with(self.live);
        self.session.execute(place.with(log.name())).await?;
        let mut parked = Statement::new(
            "INSERT INTO parked (projection, generation, tenant, log, sequence, error) SELECT projection, ",
        );
        parked.bind(generation);
        parked
            .push(", tenant, log, sequence, error FROM parked WHERE projection = ")
            .bind(name);
        parked.push(" AND generation = ").bind(self.live);
        parked.push(" AND log = ").bind(log.name());
        parked.push(" AND sequence <= ").bind(last);
        if let Some(tenant) = self.tenant {
            parked.push(" AND tenant = ").bind(tenant.as_str());
        }
        self.session.execute(parked).await.map(drop)
    }
}
