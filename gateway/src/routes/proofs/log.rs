//! `/v1/audit/log`: the records themselves, in the order of the tree, as a file of any length.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::Response;
use broker::{Filter, ReadError, Record};
use bytes::Bytes;
use domain::TenantId;
use futures::{StreamExt, TryStreamExt, stream};
use projections::LeafRow;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{READ_MODEL, TAG, sized, snapshot};
use crate::app::App;
use crate::auditing::Line;
use crate::auth::Auditor;
use crate::consistency::{AtLeast, Truth};
use crate::extract::Parameters;
use crate::problem::{Problem, ProblemType};
use crate::proofs::{self, SHARD};

/// How many records are read and sent at a time: a few mebibytes at most, usually far less.
const PAGE: u32 = 256;
/// Records of the tenant this dense among the others' are read as a run, others one by one.
const DENSE: u64 = 8;
/// How many are read one by one at the same time.
const AT_ONCE: usize = 16;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LogQuery {
    /// The first leaf, from 0; unless given, the first of all. Verifying needs all.
    from: Option<u64>,
    /// As many leaves as the tree of this size has, such as that of a checkpoint; unless given, all there are now.
    size: Option<u64>,
}

/// Export the log
///
/// The tenant's records as they stand in the log, one JSON object per line, in the order of the tree. `tidings audit
/// verify` proves such a file with a checkpoint, offline.
#[utoipa::path(
    get, path = "/v1/audit/log", tag = TAG, params(LogQuery),
    responses((status = 200, description = "The file: a `LogRecord` per line.", content((String = "application/jsonl"))))
)]
pub(super) async fn export_log(
    auditor: Auditor,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<LogQuery>,
) -> Result<Response, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let mut tree = snapshot(&app, &auditor).await?;
    let size = sized("size", query.size, 0, &tree)?;
    let from = query.from.unwrap_or_default();
    if from > size {
        let detail = format!("from: must be from 0 to {size}, which is how many leaves there are");
        return Err(Problem::new(ProblemType::InvalidQuery, detail));
    }
    let leaves = tree.leaves(from, size, PAGE).await?;
    let truth = Truth::from(&tree.answer(()).await?);
    let export = Export {
        app,
        tenant: auditor.tenant,
        size,
    };
    // What is wrong from the start is still a problem; a later failure breaks the transfer off.
    let first = export.lines(&leaves).await?;
    let next = leaves.last().map_or(size, |leaf| leaf.leaf + 1);
    let parts = stream::try_unfold((Some(first), next, export), |(ready, next, export)| async move {
        if let Some(bytes) = ready {
            return Ok(Some((bytes, (None, next, export))));
        }
        if next >= export.size {
            return Ok(None);
        }
        let (bytes, next) = export.part(next).await.map_err(|problem| broken(&problem))?;
        Ok::<_, std::io::Error>(Some((bytes, (None, next, export))))
    });
    let mut response = Response::new(Body::from_stream(parts));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    let name = HeaderValue::from_static("attachment; filename=\"log.jsonl\"");
    headers.insert(CONTENT_DISPOSITION, name);
    Ok(truth.told_by(response))
}

fn broken(problem: &Problem) -> std::io::Error {
    tracing::error!(
        cause = problem.cause(),
        "An export of the log was broken off: {}",
        problem.detail()
    );
    std::io::Error::other("the export was broken off")
}

/// An export under way.
struct Export {
    app: App,
    tenant: TenantId,
    size: u64,
}

impl Export {
    async fn part(&self, from: u64) -> Result<(Bytes, u64), Problem> {
        let tree = self.app.read_models.tree(&self.tenant, SHARD);
        let mut tree = tree.snapshot().await?;
        let leaves = tree.leaves(from, self.size, PAGE).await?;
        tree.answer(()).await?;
        let next = leaves.last().map_or(self.size, |leaf| leaf.leaf + 1);
        Ok((self.lines(&leaves).await?, next))
    }

    /// The lines of these leaves. What the log has lost is left out, and missed by who verifies.
    async fn lines(&self, leaves: &[LeafRow]) -> Result<Bytes, Problem> {
        let records = records(&self.app, &self.tenant, leaves).await?;
        let mut text = Vec::new();
        for leaf in leaves {
            let Some(record) = records.get(&leaf.sequence) else {
                tracing::error!(position = %proofs::position(leaf.sequence), "A record of a tenant's tree is not in the log any more.");
                continue;
            };
            let line = Line::new(leaf.leaf, leaf.hash, SHARD, record);
            serde_json::to_writer(&mut text, &line).map_err(|error| {
                Problem::caused(ProblemType::Internal, "A record cannot be written.", &error)
            })?;
            text.push(b'\n');
        }
        Ok(text.into())
    }
}

/// The record of a leaf, which must be what the tree says.
pub(super) async fn record(app: &App, tenant: &TenantId, leaf: LeafRow) -> Result<Line, Problem> {
    let records = records(app, tenant, &[leaf]).await?;
    let line = records
        .get(&leaf.sequence)
        .map(|record| Line::new(leaf.leaf, leaf.hash, SHARD, record));
    match line {
        Some(line) if line.hash() == Ok(leaf.hash) => Ok(line),
        _ => {
            let position = proofs::position(leaf.sequence);
            tracing::error!(%position, "A TENANT'S LOG WAS REWRITTEN: a record is not what its tree says.");
            Err(proofs::changed(format!(
                "The record at {position} is not the one that was folded into the tree, so it cannot be proved. The operator has been told."
            )))
        }
    }
}

/// The records of these leaves by their sequences, as far as the log has them.
async fn records(app: &App, tenant: &TenantId, leaves: &[LeafRow]) -> Result<HashMap<u64, Record>, Problem> {
    let (Some(first), Some(last)) = (leaves.first(), leaves.last()) else {
        return Ok(HashMap::new());
    };
    let log = app.proofs.log();
    let unread = |error: ReadError| Problem::unavailable(&error);
    let filter = Filter::new(format!("*.{tenant}.>"))
        .map_err(|error| Problem::caused(ProblemType::Internal, "The log cannot be read.", &error))?;
    let span = (last.sequence + 1).saturating_sub(first.sequence);
    let mut found = HashMap::new();
    if leaves.len() > 1 && span / DENSE <= leaves.len() as u64 {
        let run = log.read(first.sequence - 1, Some(&filter), leaves.len()).await;
        found.extend(
            run.map_err(unread)?
                .into_iter()
                .map(|record| (record.sequence, record)),
        );
    }
    let missing: Vec<_> = leaves
        .iter()
        .filter(|leaf| !found.contains_key(&leaf.sequence))
        .map(|leaf| leaf.sequence)
        .collect();
    let reads = missing
        .into_iter()
        .map(|sequence| log.read(sequence - 1, None, 1));
    let read: Vec<_> = stream::iter(reads)
        .buffered(AT_ONCE)
        .try_collect()
        .await
        .map_err(unread)?;
    found.extend(read.into_iter().flatten().map(|record| (record.sequence, record)));
    // Whatever was done to the log, nobody is shown another tenant's record.
    found.retain(|_, record| filter.matches(&record.subject));
    Ok(found)
}
