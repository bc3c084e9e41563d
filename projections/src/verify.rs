//! Proving a read model: a fold of the whole log into an empty database must give the very same rows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use broker::ReadError;
use domain::TenantId;

use crate::cuts::Cuts;
use crate::engine::copies;
use crate::generations;
use crate::models;
use crate::page::QueryError;
use crate::projection::{Projection, source_of};
use crate::projectors::{Line, Logs, fold_all};
use crate::read_models::{OpenError, ReadModels, Settings, Target};
use crate::sql::{Statement, Value, text};
use crate::table::{Row, Table};

/// The rows of each table, sorted, each as text.
pub type Dump = BTreeMap<String, Vec<String>>;

/// Why a read model could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The scratch database could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The fold failed.
    #[error("the fold failed: {0}")]
    Fold(String),
    /// A database failed.
    #[error("the read database is unavailable")]
    Database(#[from] sqlx::Error),
}

/// Every row of every read model, whichever engine keeps it. The archive is none: it is compared with the log itself.
pub async fn dump(read_models: &ReadModels) -> Result<Dump, sqlx::Error> {
    dump_without(read_models, &Cuts::default()).await
}

/// The same without what may have been removed from one side.
async fn dump_without(read_models: &ReadModels, cuts: &Cuts) -> Result<Dump, sqlx::Error> {
    let mut session = read_models.database.begin().await?;
    let mut dump = Dump::new();
    for projection in models::all()
        .into_iter()
        .filter(|projection| !projection.lasting())
    {
        let generation = generations::live(&mut session, projection.as_ref()).await?;
        let suffix = copies::suffix(generation.unwrap_or_default());
        for table in projection.tables() {
            let rows = session.under(table, &suffix, &[]).await?;
            let rows = rows.iter().filter(|row| cuts.keep(table, row));
            let mut rows: Vec<String> = rows.map(|row| line(table, row)).collect();
            rows.sort();
            dump.insert(table.name.to_owned(), rows);
        }
    }
    Ok(dump)
}

fn line(table: &Table, row: &Row) -> String {
    let columns = table.names().zip(row).map(|(name, value)| {
        let shown = match value {
            Value::Text(Some(text)) => text.clone(),
            Value::Int(Some(number)) => number.to_string(),
            Value::Bytes(Some(bytes)) => format!("{bytes:02x?}"),
            Value::Text(None) | Value::Int(None) | Value::Bytes(None) => "NULL".to_owned(),
        };
        format!("{name}={shown}")
    });
    columns.collect::<Vec<_>>().join(" | ")
}

/// Folds whole logs, as they are now, into a new SQLite database in an empty folder.
pub async fn fold(logs: &Logs, folder: &Path) -> Result<ReadModels, VerifyError> {
    let target = Target::Sqlite {
        folder: folder.to_owned(),
    };
    let read_models = ReadModels::open(Settings {
        target,
        migrate: true,
    })
    .await?;
    for projection in models::all() {
        for (log, port) in logs {
            if projection.sources().contains(&source_of(*log).0) {
                let line = Line {
                    projection: Arc::clone(&projection),
                    log: *log,
                };
                fold_all(&read_models, &line, port.as_ref()).await?;
            }
        }
    }
    Ok(read_models)
}

/// Compares the read models with a fold of the logs into `scratch`, an empty folder; both must stand at the same
/// positions, so nothing may be appended meanwhile. Answers the rows found on one side only: `-` live, `+` folded.
pub async fn compare(
    live: &ReadModels,
    logs: &Logs,
    scratch: &Path,
) -> Result<BTreeMap<String, Vec<String>>, VerifyError> {
    let folded = fold(logs, scratch).await?;
    let cuts = cuts(live).await?;
    let (ours, theirs) = (
        dump_without(live, &cuts).await?,
        dump_without(&folded, &cuts).await?,
    );
    folded.close().await;
    let mut differences = BTreeMap::new();
    for (table, rows) in &ours {
        let other = theirs.get(table).map(Vec::as_slice).unwrap_or_default();
        let missing = |rows: &[String], from: &[String], sign: char| -> Vec<String> {
            rows.iter()
                .filter(|row| from.binary_search(row).is_err())
                .map(|row| format!("{sign} {row}"))
                .collect()
        };
        let mut found = missing(rows, other, '-');
        found.extend(missing(other, rows, '+'));
        if !found.is_empty() {
            differences.insert(table.clone(), found);
        }
    }
    Ok(differences)
}

/// What may have been removed from the live read models, by a setting and the clock.
async fn cuts(live: &ReadModels) -> Result<Cuts, sqlx::Error> {
    let mut session = live.database.begin().await?;
    let mut cuts = Cuts::default();
    for projection in models::all() {
        if let Some(generation) = generations::live(&mut session, projection.as_ref()).await? {
            cuts.add(&mut session, projection.as_ref(), &[generation]).await?;
        }
    }
    Ok(cuts)
}

/// The tenants whose rows a table shows to a query on behalf of one, with no filter of the program's in the way: on
/// PostgreSQL at most the one. For the tests of isolation; a table no projection has is answered with nothing.
pub async fn visible_tenants(
    read_models: &ReadModels,
    tenant: &TenantId,
    table: &str,
) -> Result<Vec<String>, QueryError> {
    let known = models::all();
    let keeps = |projection: &&Arc<dyn Projection>| projection.tables().iter().any(|kept| kept.name == table);
    let Some(projection) = known.iter().find(keeps) else {
        return Ok(Vec::new());
    };
    let mut query = read_models.query(tenant, &[projection.name()]).await?;
    let select = format!("SELECT DISTINCT tenant FROM {}", query.table(table));
    let rows = query.rows(Statement::new(select)).await?;
    let tenants = rows
        .iter()
        .map(|row| text(row, "tenant"))
        .collect::<Result<_, _>>()?;
    Ok(query.answer(tenants).await?.data)
}
