//! What a restore means for the read models: those that were ahead of the archive, and the numbers that logs without
//! an archive must not give out again.

use std::collections::BTreeMap;

use broker::layout::Log;

use super::{Restore, RestoreError};
use crate::engine::{Session, copies};
use crate::generations;
use crate::models;
use crate::projection::{Projection, log_of};
use crate::read_models::ReadModels;
use crate::sql::{Statement, Value};
use crate::table::Column;

/// What must be made anew from the restored log.
pub type Made = Vec<&'static str>;

const PLACES: [Column; 2] = [Column::int("generation"), Column::int("sequence")];

impl Restore<'_> {
    /// Drops what was folded from records that the restored log does not have, since they were lost before they were
    /// archived: these read models are made anew at the next start. Answers their names.
    pub async fn drop_ahead(&self, end: u64) -> Result<Made, RestoreError> {
        let mut made = Made::new();
        for projection in models::all()
            .into_iter()
            .filter(|projection| !projection.lasting())
        {
            let mut session = self.read_models.database.begin().await?;
            if self.drop_of(&mut session, projection.as_ref(), end).await? {
                made.push(projection.name());
            }
            session.commit().await?;
        }
        Ok(made)
    }

    async fn drop_of(
        &self,
        session: &mut Session,
        projection: &dyn Projection,
        end: u64,
    ) -> Result<bool, sqlx::Error> {
        generations::alone(session, projection.name()).await?;
        let select = Statement::new(
            "SELECT generation, sequence FROM checkpoints WHERE projection = $1 AND log = $2 AND sequence > $3",
        );
        let select = select
            .with(projection.name())
            .with(Log::Events(self.shard).name())
            .with(end);
        let ahead = session.rows(select, &PLACES).await?;
        for row in &ahead {
            let generation = row.first().and_then(Value::as_int).unwrap_or_default();
            for table in projection.tables() {
                copies::drop(session, table, generation).await?;
            }
            generations::forget(session, projection, generation).await?;
        }
        Ok(!ahead.is_empty())
    }
}

impl ReadModels {
    /// How far each log was folded by whatever folds it: numbers up to there stand for records that were.
    pub async fn folded(&self) -> Result<BTreeMap<Log, u64>, sqlx::Error> {
        let mut session = self.database.begin_beside().await?;
        let select = Statement::new("SELECT log, max(sequence) FROM checkpoints GROUP BY log");
        let rows = session
            .rows(select, &[Column::text("log"), Column::int("sequence")])
            .await?;
        let places = rows.iter().filter_map(|row| {
            let log = log_of(row.first()?.as_text()?)?;
            let sequence = row.get(1)?.as_int()?;
            Some((log, u64::try_from(sequence).unwrap_or_default()))
        });
        Ok(places.collect())
    }
}
