//! `/v1/audit/checkpoint`, `/proof`, `/consistency` and `/log`: what auditors take away, to verify without this service.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use domain::proof::Hash;
use domain::{Position, Source};
use projections::TreeSnapshot;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auditing::Line;
use crate::auth::Auditor;
use crate::consistency::{AtLeast, Found, Truth};
use crate::extract::Parameters;
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemType};
use crate::proofs::{self, SHARD};

mod log;

const TAG: &str = "audit";
const READ_MODEL: &[&str] = &["tree"];

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::READ_AUDIT, routes!(get_checkpoint)))
        .routes(needs(may::READ_AUDIT, routes!(get_checkpoint_key)))
        .routes(needs(may::READ_AUDIT, routes!(prove_record)))
        .routes(needs(may::READ_AUDIT, routes!(prove_consistency)))
        .routes(needs(may::READ_AUDIT, routes!(log::export_log)))
}

/// That a record stands in the log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InclusionProof)]
struct InclusionView {
    /// Which leaf of the tree it is, from 0.
    leaf_index: u64,
    /// Of how many leaves the tree is.
    tree_size: u64,
    /// The leaf's hash, in base64.
    #[schema(value_type = String)]
    leaf_hash: Hash,
    /// The root of that tree, in base64: believe the one of a checkpoint instead.
    #[schema(value_type = String)]
    root: Hash,
    /// The audit path (RFC 6962 §2.1.1), in base64, from the leaf to the root.
    #[schema(value_type = Vec<String>)]
    hashes: Vec<Hash>,
    /// A signed checkpoint of that tree; null where `size` named an older one.
    checkpoint: Option<String>,
    /// The record, from which the leaf's hash can be made.
    record: Line,
}

/// A tree by size and root.
#[derive(Debug, Serialize, ToSchema)]
struct TreeHead {
    /// How many leaves it has.
    size: u64,
    /// Its root, in base64.
    #[schema(value_type = String)]
    root: Hash,
}

/// That a later tree begins with an earlier one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConsistencyProof)]
struct ConsistencyView {
    /// The earlier tree as it is now: another root than that of a checkpoint of this size says that history was
    /// rewritten.
    from: TreeHead,
    /// The later tree.
    to: TreeHead,
    /// The proof (RFC 6962 §2.1.2), in base64.
    #[schema(value_type = Vec<String>)]
    hashes: Vec<Hash>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ProofQuery {
    /// Prove it in the tree of so many leaves, such as that of a checkpoint kept earlier; unless given, in the
    /// newest.
    size: Option<u64>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ConsistencyQuery {
    /// The size of the earlier tree, 1 or more.
    from: u64,
    /// The size of the later tree; unless given, the newest.
    to: Option<u64>,
}

/// Sign the state of the log
///
/// A checkpoint (<https://c2sp.org/tlog-checkpoint>): a signed note of origin, number of records and root of the
/// tenant's tree, of the last record's position, and of the time. Keep it where the service cannot reach it: it
/// proves later whether the log still begins with these records.
#[utoipa::path(
    get, path = "/v1/audit/checkpoint", tag = TAG,
    responses((status = 200, description = "The signed note.", content((String = "text/plain"))))
)]
async fn get_checkpoint(
    auditor: Auditor,
    State(app): State<App>,
    at_least: AtLeast,
) -> Result<Response, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let mut tree = snapshot(&app, &auditor).await?;
    let note = app.proofs.sign(&auditor.tenant, &mut tree).await?;
    let answer = tree.answer(note).await?;
    Ok(Truth::from(&answer).told_by(plain(answer.data)))
}

/// Show the key of checkpoints
///
/// The verifier key of the tenant's checkpoints (<https://c2sp.org/signed-note>). Fetch it once, compare it with the
/// operator's by another way, and keep it.
#[utoipa::path(
    get, path = "/v1/audit/checkpoint/key", tag = TAG,
    responses((status = 200, description = "The key.", content((String = "text/plain"))))
)]
async fn get_checkpoint_key(auditor: Auditor, State(app): State<App>) -> Result<Response, Problem> {
    let key = app.proofs.verifier(&auditor.tenant)?;
    Ok(plain(format!("{key}\n")))
}

/// Prove a record
///
/// That the record stands at its place in the tenant's log, by its position as `Tidings-Position` and the audit trail
/// give it.
#[utoipa::path(
    get, path = "/v1/audit/proof/{position}", tag = TAG,
    params(("position" = String, Path, description = "Where the record stands, as `e0-42`."), ProofQuery),
    responses((status = 200, description = "The proof.", body = InclusionView))
)]
async fn prove_record(
    auditor: Auditor,
    State(app): State<App>,
    at_least: AtLeast,
    position: Result<Path<String>, PathRejection>,
    Parameters(query): Parameters<ProofQuery>,
) -> Result<Found<InclusionView>, Problem> {
    let nothing = || {
        let detail = "No event of this tenant stands there (positions are as e0-42), or its tree has not come so far: with the header Tidings-At-Least the call waits for it.";
        Problem::new(ProblemType::NotFound, detail)
    };
    let position = position.ok().and_then(|Path(text)| text.parse().ok());
    let position: Position = position.ok_or_else(nothing)?;
    if position.source != Source::Events || position.shard != SHARD {
        return Err(nothing());
    }
    at_least.reached(&app, READ_MODEL).await?;
    let mut tree = snapshot(&app, &auditor).await?;
    let leaf = tree.leaf(position.sequence).await?.ok_or_else(nothing)?;
    let size = sized("size", query.size, leaf.leaf + 1, &tree)?;
    let checkpoint = if query.size.is_none() {
        Some(app.proofs.sign(&auditor.tenant, &mut tree).await?)
    } else {
        app.proofs.check(&auditor.tenant, &mut tree).await?;
        None
    };
    let (hashes, root) = proofs::inclusion(&mut tree, leaf, size).await?;
    let answer = tree.answer(()).await?;
    let record = log::record(&app, &auditor.tenant, leaf).await?;
    Ok(Found::new(answer, |()| InclusionView {
        leaf_index: leaf.leaf,
        tree_size: size,
        leaf_hash: leaf.hash,
        root,
        hashes,
        checkpoint,
        record,
    }))
}

/// Prove that the log only grew
///
/// That the tree of `to` records begins with that of `from`. Compare the roots with those of the checkpoints you
/// have kept.
#[utoipa::path(
    get, path = "/v1/audit/consistency", tag = TAG, params(ConsistencyQuery),
    responses((status = 200, description = "The proof.", body = ConsistencyView))
)]
async fn prove_consistency(
    auditor: Auditor,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<ConsistencyQuery>,
) -> Result<Found<ConsistencyView>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let mut tree = snapshot(&app, &auditor).await?;
    let from = sized("from", Some(query.from), 1, &tree)?;
    let to = sized("to", query.to, from, &tree)?;
    app.proofs.check(&auditor.tenant, &mut tree).await?;
    let (hashes, before, after) = proofs::consistency(&mut tree, from, to).await?;
    let answer = tree.answer(()).await?;
    Ok(Found::new(answer, |()| ConsistencyView {
        from: TreeHead {
            size: from,
            root: before,
        },
        to: TreeHead {
            size: to,
            root: after,
        },
        hashes,
    }))
}

async fn snapshot(app: &App, auditor: &Auditor) -> Result<TreeSnapshot, Problem> {
    Ok(app.read_models.tree(&auditor.tenant, SHARD).snapshot().await?)
}

/// A size that a tree has or had, the newest unless given.
fn sized(name: &str, given: Option<u64>, least: u64, tree: &TreeSnapshot) -> Result<u64, Problem> {
    let newest = tree.state().size;
    let size = given.unwrap_or(newest);
    if (least..=newest).contains(&size) {
        return Ok(size);
    }
    let detail = format!("{name}: must be from {least} to {newest}, which is the size of the tree now");
    Err(Problem::new(ProblemType::InvalidQuery, detail))
}

fn plain(text: String) -> Response {
    let mut response = text.into_response();
    let media_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}
