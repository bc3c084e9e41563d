//! The row of a run: what it is to do, how far it is, and who works at it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Difference, Member, Plan, RebuildError};
use crate::engine::{Session, copies};
use crate::generations::{self, Standing};
use crate::projection::Projection;
use crate::read_models::ReadModels;
use crate::sql::{Statement, Value};
use crate::table::Column;

/// How often a process tells that it lives while its lease lasts.
const BEATS: u32 = 5;

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
    /// Making it the live model.
    Switching,
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
            Self::Switching => "switching",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Failed)
    }

    fn of(text: &str) -> Self {
        [
            Self::Building,
            Self::Indexing,
            Self::Comparing,
            Self::CatchingUp,
            Self::Switching,
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
    /// Records a second, lately.
    pub rate: u64,
    /// What the live models said otherwise; none where they were not compared.
    pub differences: Option<Vec<Difference>>,
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
    /// How long the rest will take at the present rate, in seconds; none while that cannot be told.
    pub fn seconds_left(&self) -> Option<u64> {
        self.total.saturating_sub(self.done).checked_div(self.rate)
    }
}

const COLUMNS: [Column; 13] = [
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
];

/// The rows of a session, newest first; of one run, or of all.
async fn rows(session: &mut Session, id: Option<&str>) -> Result<Vec<RebuildRow>, sqlx::Error> {
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
    Ok(RebuildRow {
        id: text(0).unwrap_or_default().to_owned(),
        plan: serde_json::from_str(&json(1)).map_err(wrong)?,
        phase: Phase::of(text(2).unwrap_or_default()),
        generations: serde_json::from_str(&json(3)).map_err(wrong)?,
        done: number(4),
        total: number(5),
        rate: number(6),
        differences: serde_json::from_str(&json(7)).map_err(wrong)?,
        error: text(8).map(str::to_owned),
        running: text(9).is_some() && int(10) > now.as_millis(),
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

/// A run that this process works at.
#[derive(Debug, Clone)]
pub(super) struct Job {
    read_models: ReadModels,
    id: String,
    owner: String,
    lease: Duration,
}

/// Tells that the process lives, until dropped.
pub(super) struct Keeping {
    pub(super) stop: CancellationToken,
    cancelled: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Keeping {
    /// Whether the run was asked to end.
    pub(super) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

fn after(lease: Duration) -> Timestamp {
    Timestamp::from(std::time::SystemTime::now() + lease)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

impl Job {
    /// Takes a run, which is new, or which nobody works at.
    pub(super) async fn take(
        read_models: &ReadModels,
        lease: Duration,
        id: &str,
        plan: &Plan,
    ) -> Result<Self, RebuildError> {
        let mut session = read_models.database.begin().await?;
        insert(&mut session, id, plan, &BTreeMap::new()).await?;
        // Each take has a name of its own, so that a process that comes back from a pause sees that it lost the run.
        let owner = format!("{}-{}", std::process::id(), now().as_millis());
        let mut update = Statement::new("UPDATE rebuilds SET owner = ");
        update
            .bind(owner.as_str())
            .push(", lease_until = ")
            .bind(after(lease));
        update.push(" WHERE id = ").bind(id);
        update.push(" AND phase NOT IN ('done', 'cancelled', 'failed') AND (owner IS NULL OR lease_until < ");
        update.bind(now()).push(")");
        if session.execute(update).await? != 1 {
            let row = rows(&mut session, Some(id)).await?.into_iter().next();
            return Err(match row.map(|row| row.phase) {
                Some(Phase::Cancelled) => RebuildError::Cancelled,
                Some(phase) if phase.is_over() => RebuildError::Refused(format!("the rebuild {id} is over")),
                _ => RebuildError::Taken,
            });
        }
        session.commit().await?;
        Ok(Self {
            read_models: read_models.clone(),
            id: id.to_owned(),
            owner,
            lease,
        })
    }

    /// Notes a run that goes on with a generation there is.
    pub(super) async fn adopt(
        session: &mut Session,
        id: &str,
        plan: &Plan,
        projection: &dyn Projection,
        generation: i64,
    ) -> Result<(), RebuildError> {
        let generations = BTreeMap::from([(projection.name().to_owned(), generation)]);
        insert(session, id, plan, &generations).await?;
        generations::stand(session, projection, generation, Standing::Building).await?;
        Ok(())
    }

    /// Marks a run as cancelled; answers what is to be dropped where nobody works at it.
    pub(super) async fn cancel(
        read_models: &ReadModels,
        id: &str,
    ) -> Result<Option<(Plan, BTreeMap<String, i64>)>, RebuildError> {
        let mut session = read_models.database.begin().await?;
        let Some(row) = rows(&mut session, Some(id)).await?.into_iter().next() else {
            return Ok(None);
        };
        if row.phase.is_over() {
            return Ok(None);
        }
        let mut update = Statement::new("UPDATE rebuilds SET phase = 'cancelled', updated_at = ");
        update.bind(now()).push(" WHERE id = ").bind(id);
        session.execute(update).await?;
        session.commit().await?;
        Ok((!row.running).then_some((row.plan, row.generations)))
    }

    /// Tells again and again that this process works at the run, until it is stopped, cancelled or taken away.
    pub(super) fn keep(&self, stop: &CancellationToken) -> Keeping {
        let (stop, cancelled) = (stop.child_token(), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn({
            let (job, stop, cancelled) = (self.clone(), stop.clone(), Arc::clone(&cancelled));
            async move {
                loop {
                    tokio::time::sleep(job.lease / BEATS).await;
                    match job.beat().await {
                        Ok(true) => {}
                        Ok(false) => {
                            let row = job.read_models.rebuild(&job.id).await.ok().flatten();
                            let ended = row.is_some_and(|row| row.phase == Phase::Cancelled);
                            cancelled.store(ended, Ordering::Relaxed);
                            return stop.cancel();
                        }
                        Err(error) => {
                            tracing::warn!(rebuild = job.id, %error, "A rebuild could not tell that it lives.");
                        }
                    }
                }
            }
        });
        Keeping {
            stop,
            cancelled,
            task,
        }
    }

    async fn beat(&self) -> Result<bool, sqlx::Error> {
        let mut session = self.read_models.database.begin().await?;
        let kept = self.set(&mut session, |update| {
            update.push("lease_until = ").bind(after(self.lease));
        });
        let kept = kept.await?;
        session.commit().await?;
        Ok(kept)
    }

    /// Changes the run's row; `false` where this process has lost it or it was cancelled.
    async fn set(
        &self,
        session: &mut Session,
        change: impl FnOnce(&mut Statement),
    ) -> Result<bool, sqlx::Error> {
        let mut update = Statement::new("UPDATE rebuilds SET updated_at = ");
        update.bind(now()).push(", ");
        change(&mut update);
        update.push(" WHERE id = ").bind(self.id.as_str());
        update.push(" AND owner = ").bind(self.owner.as_str());
        update.push(" AND phase <> 'cancelled'");
        Ok(session.execute(update).await? == 1)
    }

    async fn change(&self, change: impl FnOnce(&mut Statement)) -> Result<(), RebuildError> {
        let mut session = self.read_models.database.begin().await?;
        if !self.set(&mut session, change).await? {
            return Err(RebuildError::Interrupted);
        }
        Ok(session.commit().await?)
    }

    /// Notes within a batch's transaction how far the run is.
    pub(super) async fn tell(
        &self,
        session: &mut Session,
        done: u64,
        total: u64,
        rate: u64,
    ) -> Result<(), RebuildError> {
        let told = self.set(session, |update| {
            update.push("done = ").bind(done);
            update.push(", total = ").bind(total);
            update.push(", rate = ").bind(rate);
        });
        if told.await? {
            Ok(())
        } else {
            Err(RebuildError::Interrupted)
        }
    }

    /// Begins a phase.
    pub(super) async fn enter(&self, phase: Phase) -> Result<(), RebuildError> {
        self.change(|update| {
            update.push("phase = ").bind(phase.as_str());
        })
        .await
    }

    /// Notes what the comparison found.
    pub(super) async fn found(&self, differences: Option<&[Difference]>) -> Result<(), RebuildError> {
        let found = differences.map(|differences| json(&differences));
        self.change(|update| {
            update.push("differences = ").bind(found);
        })
        .await
    }

    /// Ends the run.
    pub(super) async fn end(&self, phase: Phase, error: Option<String>) -> Result<(), RebuildError> {
        self.change(|update| {
            update.push("phase = ").bind(phase.as_str());
            update.push(", error = ").bind(error);
            update.push(", owner = NULL");
        })
        .await
    }

    /// Leaves the run to whoever takes it next.
    pub(super) async fn let_go(&self) -> Result<(), RebuildError> {
        let mut session = self.read_models.database.begin().await?;
        self.set(&mut session, |update| {
            update.push("owner = NULL");
        })
        .await?;
        Ok(session.commit().await?)
    }

    /// How far the run had come.
    pub(super) async fn done(&self) -> Result<u64, RebuildError> {
        let mut session = self.read_models.database.begin_beside().await?;
        let row = rows(&mut session, Some(&self.id)).await?.into_iter().next();
        Ok(row.map(|row| row.done).unwrap_or_default())
    }

    /// The generations the run fills.
    pub(super) async fn generations(&self) -> Result<BTreeMap<String, i64>, RebuildError> {
        let mut session = self.read_models.database.begin_beside().await?;
        let row = rows(&mut session, Some(&self.id)).await?.into_iter().next();
        Ok(row.map(|row| row.generations).unwrap_or_default())
    }

    /// The projections that have a generation in this run.
    pub(super) async fn members(
        &self,
        projections: &[Arc<dyn Projection>],
    ) -> Result<Vec<Member>, RebuildError> {
        let generations = self.generations().await?;
        let members = projections.iter().filter_map(|projection| {
            Some(Member {
                projection: Arc::clone(projection),
                generation: *generations.get(projection.name())?,
            })
        });
        Ok(members.collect())
    }

    /// Gives each projection a generation to fill, unless it has one.
    pub(super) async fn begin(
        &self,
        projections: &[Arc<dyn Projection>],
    ) -> Result<Vec<Member>, RebuildError> {
        let mut generations = self.generations().await?;
        let mut session = self.read_models.database.begin().await?;
        for projection in projections {
            if generations.contains_key(projection.name()) {
                continue;
            }
            generations::alone(&mut session, projection.name()).await?;
            let generation = generations::next(&mut session, projection.as_ref()).await?.max(1);
            for table in projection.tables() {
                copies::make(&mut session, table, generation).await?;
            }
            generations::reserve(&mut session, projection.as_ref(), generation).await?;
            generations.insert(projection.name().to_owned(), generation);
        }
        let noted = json(&generations);
        let kept = self.set(&mut session, |update| {
            update.push("generations = ").bind(noted);
        });
        if !kept.await? {
            return Err(RebuildError::Interrupted);
        }
        session.commit().await?;
        self.members(projections).await
    }
}

async fn insert(
    session: &mut Session,
    id: &str,
    plan: &Plan,
    generations: &BTreeMap<String, i64>,
) -> Result<(), sqlx::Error> {
    let insert = Statement::new(
        "INSERT INTO rebuilds (id, plan, phase, generations, done, total, rate, lease_until, started_at, updated_at)
         VALUES ($1, $2, 'building', $3, 0, 0, 0, 0, $4, $4) ON CONFLICT (id) DO NOTHING",
    );
    let insert = insert
        .with(id)
        .with(json(plan))
        .with(json(generations))
        .with(now());
    session.execute(insert).await?;
    Ok(())
}
