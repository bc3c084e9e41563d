//! The row of a run: what it is to do, how far it is, and who works at it.

mod row;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use row::rows;
pub use row::{Phase, RebuildRow};

use super::carry::Carried;
use super::compare::Findings;
use super::{Member, Plan, RebuildError};
use crate::engine::{Session, copies};
use crate::generations::{self, Standing};
use crate::projection::Projection;
use crate::read_models::ReadModels;
use crate::sql::{Statement, Value};
use crate::table::Column;

/// How often a process tells that it lives while its lease lasts.
const BEATS: u32 = 5;

/// A run that this process works at.
#[derive(Debug, Clone)]
pub(super) struct Job {
    read_models: ReadModels,
    id: String,
    owner: String,
    lease: Duration,
}

/// What asking a run to end came to.
pub(super) enum Cancelling {
    /// It ends, where there is such a run; whoever works at it drops what it built.
    Done,
    /// It has ended, and nobody works at it who would drop what it built.
    Abandoned(Plan, BTreeMap<String, i64>),
    /// It is being brought to its end, or has come there.
    TooLate,
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

fn json<V: Serialize + ?Sized>(value: &V) -> String {
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
                Some(phase) if phase.is_over() => RebuildError::Over(id.to_owned()),
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

    /// Whether there is a run of this id, of this process or another.
    pub(super) async fn is_known(session: &mut Session, id: &str) -> Result<bool, sqlx::Error> {
        Ok(!rows(session, Some(id)).await?.is_empty())
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

    /// The run that fills a generation, if one does that has not ended.
    pub(super) async fn filling(
        session: &mut Session,
        projection: &str,
        generation: i64,
    ) -> Result<Option<String>, sqlx::Error> {
        let open = rows(session, None)
            .await?
            .into_iter()
            .find(|row| !row.phase.is_over() && row.generations.get(projection) == Some(&generation));
        Ok(open.map(|row| row.id))
    }

    /// Marks a run as cancelled.
    pub(super) async fn cancel(read_models: &ReadModels, id: &str) -> Result<Cancelling, RebuildError> {
        let mut session = read_models.database.begin().await?;
        let Some(row) = rows(&mut session, Some(id)).await?.into_iter().next() else {
            return Ok(Cancelling::Done);
        };
        if row.phase == Phase::Cancelled {
            return Ok(Cancelling::Done);
        }
        // What it would drop is what queries read before.
        if row.plan.back {
            return Ok(Cancelling::TooLate);
        }
        let mut update = Statement::new("UPDATE rebuilds SET phase = 'cancelled', updated_at = ");
        update.bind(now()).push(" WHERE id = ").bind(id);
        update.push(" AND phase NOT IN ('switching', 'finishing', 'done', 'failed', 'cancelled')");
        if session.execute(update).await? != 1 {
            return Ok(Cancelling::TooLate);
        }
        session.commit().await?;
        Ok(if row.running {
            Cancelling::Done
        } else {
            Cancelling::Abandoned(row.plan, row.generations)
        })
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
            update.push("phase = ").bind(phase.as_str()).push(", rate = 0");
        })
        .await
    }

    /// The run's row.
    async fn row(&self) -> Result<Option<RebuildRow>, RebuildError> {
        let mut session = self.read_models.database.begin_beside().await?;
        Ok(rows(&mut session, Some(&self.id)).await?.into_iter().next())
    }

    /// What it is doing.
    pub(super) async fn phase(&self) -> Result<Phase, RebuildError> {
        Ok(self.row().await?.map_or(Phase::Building, |row| row.phase))
    }

    /// What its copies take over from the live models, once that is decided.
    pub(super) async fn carried(&self) -> Result<Option<Carried>, RebuildError> {
        let select = Statement::new("SELECT carried FROM rebuilds WHERE id = $1").with(self.id.as_str());
        let mut session = self.read_models.database.begin_beside().await?;
        let rows = session.rows(select, &[Column::text("carried")]).await?;
        let text = rows.first().and_then(|row| row.first()).and_then(Value::as_text);
        let carried = text.map(serde_json::from_str).transpose();
        carried.map_err(|error| crate::sql::unreadable("rebuilds", error).into())
    }

    /// Decides it.
    pub(super) async fn carry(&self, carried: &Carried) -> Result<(), RebuildError> {
        let carried = json(carried);
        self.change(|update| {
            update.push("carried = ").bind(carried);
        })
        .await
    }

    /// Notes what the comparison found, if there was one, and begins the phase after it.
    pub(super) async fn found(&self, findings: Option<&Findings>, next: Phase) -> Result<(), RebuildError> {
        let differences = findings.and_then(|found| found.differences.as_ref()).map(json);
        let not_compared = findings.map(|found| json(&found.not_compared));
        self.change(|update| {
            update.push("differences = ").bind(differences);
            update.push(", not_compared = ").bind(not_compared);
            update.push(", phase = ").bind(next.as_str()).push(", rate = 0");
        })
        .await
    }

    /// What the comparison found, where the run is past it.
    pub(super) async fn compared(&self) -> Result<Option<Findings>, RebuildError> {
        let past = self.row().await?.filter(|row| row.phase.is_past_comparison());
        Ok(past.map(|row| Findings {
            differences: row.differences,
            not_compared: row.not_compared.unwrap_or_default(),
        }))
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

    /// Whether the run was asked to end.
    pub(super) async fn is_cancelled(&self) -> Result<bool, RebuildError> {
        let row = self.row().await?;
        Ok(row.is_some_and(|row| row.phase == Phase::Cancelled))
    }

    /// Says that nobody works any more at a run that was cancelled.
    pub(super) async fn forsake(&self) -> Result<(), RebuildError> {
        let mut session = self.read_models.database.begin().await?;
        let update = Statement::new("UPDATE rebuilds SET owner = NULL WHERE id = $1 AND owner = $2");
        let update = update.with(self.id.as_str()).with(self.owner.as_str());
        session.execute(update).await?;
        Ok(session.commit().await?)
    }

    /// How far the run had come.
    pub(super) async fn done(&self) -> Result<u64, RebuildError> {
        let row = self.row().await?;
        Ok(row.map(|row| row.done).unwrap_or_default())
    }

    /// The generations the run fills.
    pub(super) async fn generations(&self) -> Result<BTreeMap<String, i64>, RebuildError> {
        let row = self.row().await?;
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

    /// Gives each projection a generation to fill, unless it has one; one that another program's fold has begun cannot
    /// be filled by this one.
    pub(super) async fn begin(
        &self,
        projections: &[Arc<dyn Projection>],
    ) -> Result<Vec<Member>, RebuildError> {
        let mut generations = self.generations().await?;
        let mut session = self.read_models.database.begin().await?;
        for projection in projections {
            if let Some(generation) = generations.get(projection.name()) {
                let version = generations::version(&mut session, projection.as_ref(), *generation).await?;
                same_fold(projection.as_ref(), version)?;
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

/// Rows of one fold cannot be gone on with by another.
fn same_fold(projection: &dyn Projection, version: Option<i64>) -> Result<(), RebuildError> {
    match version {
        Some(version) if version != projection.version() => Err(RebuildError::OtherFold {
            projection: projection.name().to_owned(),
            began: version,
            this: projection.version(),
        }),
        _ => Ok(()),
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
