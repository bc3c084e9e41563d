//! A run's row, as operators see it.

use std::collections::BTreeMap;

use domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::Session;
use crate::read_models::ReadModels;
use crate::rebuild::{Difference, NotCompared, Plan};
use crate::sql::{Statement, Value};
use crate::table::Column;

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Folding the log into the copy.
    Building,
    /// Giving the copy its indexes.
    Indexing,
    /// Comparing it with the live model.
    Comparing,
    /// Folding what has been stored meanwhile.
    CatchingUp,
    /// Waiting until none of its projections is paused any more.
    Paused,
    /// Making it the live model; from here on it is brought to its end.
    Switching,
    /// Putting away a copy that was made to be compared, or to be looked into.
    Finishing,
    /// It has ended well.
    Done,
    /// It was asked to end, and has dropped what it built.
    Cancelled,
    /// It cannot be done.
    Failed,
}

impl Phase {
    /// The phase as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Indexing => "indexing",
            Self::Comparing => "comparing",
            Self::CatchingUp => "catching_up",
            Self::Paused => "paused",
            Self::Switching => "switching",
            Self::Finishing => "finishing",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Failed)
    }

    /// Whether it can still be given up.
    pub fn can_be_cancelled(self) -> bool {
        matches!(
            self,
            Self::Building | Self::Indexing | Self::Comparing | Self::CatchingUp | Self::Paused
        )
    }

    /// Whether what the comparison found is known.
    pub(super) fn is_past_comparison(self) -> bool {
        matches!(
            self,
            Self::CatchingUp | Self::Paused | Self::Switching | Self::Finishing
        )
    }

    fn of(text: &str) -> Self {
        [
            Self::Building,
            Self::Indexing,
            Self::Comparing,
            Self::CatchingUp,
            Self::Paused,
            Self::Switching,
            Self::Finishing,
            Self::Done,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|phase| phase.as_str() == text)
        .unwrap_or(Self::Failed)
    }
}

/// A run, as operators see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RebuildRow {
    /// The id it was begun under.
    pub id: String,
    /// What it is to do.
    pub plan: Plan,
    /// What it is doing.
    pub phase: Phase,
    /// The generation of each projection.
    pub generations: BTreeMap<String, i64>,
    /// Records gone past, of all logs.
    pub done: u64,
    /// Records to go past, as far as known.
    pub total: u64,
    /// Records a second over the last seconds; 0 while no records are gone past, or nobody works at it.
    pub rate: u64,
    /// What the live models said otherwise; none where they were not compared.
    pub differences: Option<Vec<Difference>>,
    /// What was not compared; none where there was no comparison (yet).
    pub not_compared: Option<Vec<NotCompared>>,
    /// Why it failed.
    pub error: Option<String>,
    /// Whether a process works at it at this moment.
    pub running: bool,
    /// When it was begun.
    pub started_at: Timestamp,
    /// When it last told of itself.
    pub updated_at: Timestamp,
}

impl RebuildRow {
    /// How long the rest of the records will take at the present rate, in seconds; none while that cannot be told: how
    /// long indexes and comparisons take does not follow from it.
    pub fn seconds_left(&self) -> Option<u64> {
        if !matches!(self.phase, Phase::Building | Phase::CatchingUp) {
            return None;
        }
        self.total.saturating_sub(self.done).checked_div(self.rate)
    }
}

const COLUMNS: [Column; 14] = [
    Column::text("id"),
    Column::text("plan"),
    Column::text("phase"),
    Column::text("generations"),
    Column::int("done"),
    Column::int("total"),
    Column::int("rate"),
    Column::text("differences"),
    Column::text("error"),
    Column::text("owner"),
    Column::int("lease_until"),
    Column::int("started_at"),
    Column::int("updated_at"),
    Column::text("not_compared"),
];

/// The rows of a session, newest first; of one run, or of all.
pub(super) async fn rows(session: &mut Session, id: Option<&str>) -> Result<Vec<RebuildRow>, sqlx::Error> {
    let names: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
    let mut select = Statement::new(format!("SELECT {} FROM rebuilds", names.join(", ")));
    if let Some(id) = id {
        select.push(" WHERE id = ").bind(id);
    }
    select.push(" ORDER BY started_at DESC, id DESC LIMIT 200");
    let rows = session.rows(select, &COLUMNS).await?;
    rows.iter().map(|row| read(row)).collect()
}

fn read(row: &[Value]) -> Result<RebuildRow, sqlx::Error> {
    let text = |at: usize| row.get(at).and_then(Value::as_text);
    let int = |at: usize| row.get(at).and_then(Value::as_int).unwrap_or_default();
    let number = |at: usize| u64::try_from(int(at)).unwrap_or_default();
    let json = |at: usize| text(at).unwrap_or("null").to_owned();
    let wrong = |error: serde_json::Error| crate::sql::unreadable("rebuilds", error);
    let now = Timestamp::from(std::time::SystemTime::now());
    let running = text(9).is_some() && int(10) > now.as_millis();
    Ok(RebuildRow {
        id: text(0).unwrap_or_default().to_owned(),
        plan: serde_json::from_str(&json(1)).map_err(wrong)?,
        phase: Phase::of(text(2).unwrap_or_default()),
        generations: serde_json::from_str(&json(3)).map_err(wrong)?,
        done: number(4),
        total: number(5),
        rate: if running { number(6) } else { 0 },
        differences: serde_json::from_str(&json(7)).map_err(wrong)?,
        error: text(8).map(str::to_owned),
        not_compared: serde_json::from_str(&json(13)).map_err(wrong)?,
        running,
        started_at: Timestamp::from_millis(int(11)),
        updated_at: Timestamp::from_millis(int(12)),
    })
}

impl ReadModels {
    /// The runs, newest first, at most 200.
    pub async fn rebuilds(&self) -> Result<Vec<RebuildRow>, crate::QueryError> {
        let mut session = self.database.begin_beside().await?;
        Ok(rows(&mut session, None).await?)
    }

    /// One run.
    pub async fn rebuild(&self, id: &str) -> Result<Option<RebuildRow>, crate::QueryError> {
        let mut session = self.database.begin_beside().await?;
        Ok(rows(&mut session, Some(id)).await?.into_iter().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_told_only_where_records_are_gone_past() {
        let mut row = RebuildRow {
            id: "rpl_1".to_owned(),
            plan: Plan::of(["users"]),
            phase: Phase::Building,
            generations: BTreeMap::new(),
            done: 1_000,
            total: 4_000,
            rate: 500,
            differences: None,
            not_compared: None,
            error: None,
            running: true,
            started_at: Timestamp::from_millis(0),
            updated_at: Timestamp::from_millis(0),
        };
        assert_eq!(row.seconds_left(), Some(6));
        row.phase = Phase::CatchingUp;
        assert_eq!(row.seconds_left(), Some(6));
        for phase in [
            Phase::Indexing,
            Phase::Comparing,
            Phase::Paused,
            Phase::Switching,
            Phase::Done,
        ] {
            row.phase = phase;
            assert_eq!(row.seconds_left(), None, "{phase:?}");
        }
        (row.phase, row.rate) = (Phase::Building, 0);
        assert_eq!(row.seconds_left(), None);
    }
}
