//! `/v1/projections/{name}/pause`, `/resume`, `/skip`, `/rollback`, `/generations/{generation}`: what operators decide.

use axum::extract::State;
use domain::projection::{Paused, Projection, ProjectionCommand, ProjectionName, Reason, Skipped};
use domain::replay::{Replay, ReplayCommand, Work};
use domain::{Position, ReplayId, TenantId};
use projections::Standing;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{TAG, decided, known};
use crate::answer::{Done, Written};
use crate::app::App;
use crate::auth::Administrator;
use crate::extract::{Body, Id, OptionalBody, Pair, Parameters};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::routes::replays::ReplayStarted;

/// These operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::ADMINISTER_PLATFORM, routes!(pause_projection)))
        .routes(needs(may::ADMINISTER_PLATFORM, routes!(resume_projection)))
        .routes(needs(may::ADMINISTER_PLATFORM, routes!(skip_record)))
        .routes(needs(may::ADMINISTER_PLATFORM, routes!(roll_back_projection)))
        .routes(needs(may::ADMINISTER_PLATFORM, routes!(drop_generation)))
}

/// Why an operator decides so.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Because {
    /// The reason, for the record: 1 to 500 characters.
    #[schema(value_type = Option<String>)]
    pub(crate) reason: Option<Reason>,
}

/// Why a generation is dropped.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DropBecause {
    /// The reason, for the record: 1 to 500 characters.
    #[param(value_type = Option<String>)]
    reason: Option<Reason>,
}

/// The record to pass over.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RecordToSkip {
    /// Whose record it is.
    #[schema(value_type = String, example = "ten_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    tenant: TenantId,
    /// Where it stands, as the projection's `parked` tells.
    #[schema(value_type = String, example = "e0-42")]
    position: Position,
    /// Why, for the record: 1 to 500 characters.
    #[schema(value_type = String, example = "written by an importer that was broken until May")]
    reason: Reason,
}

/// A generation that will be gone in a moment.
#[derive(Debug, Serialize, ToSchema)]
struct Dropping {
    /// Whose.
    #[schema(value_type = String)]
    projection: ProjectionName,
    /// Its number.
    generation: u64,
}

/// Pause a projection
///
/// It stands still in every process within a second, and after restarts, until it is resumed. Queries go on answering
/// what it knows; one that asks for more with `Tidings-At-Least` gets 412 `stale` with the position it stands at.
#[utoipa::path(
    post, path = "/v1/projections/{name}/pause", tag = TAG,
    params(("name" = String, Path, description = "The projection's name.")), request_body = Because,
    responses((status = 204, description = "The projection is paused."))
)]
async fn pause_projection(
    administrator: Administrator,
    State(app): State<App>,
    Id(name): Id<ProjectionName>,
    OptionalBody(because): OptionalBody<Because>,
) -> Result<Done, Problem> {
    known(&name)?;
    let call = administrator.meta("PauseProjection");
    let command = ProjectionCommand::Pause(Paused {
        reason: because.reason,
        at: call.meta.at,
    });
    execute(&app, &name, command, call).await
}

/// Resume a paused projection
#[utoipa::path(
    post, path = "/v1/projections/{name}/resume", tag = TAG,
    params(("name" = String, Path, description = "The projection's name.")), request_body = Because,
    responses((status = 204, description = "The projection goes on."))
)]
async fn resume_projection(
    administrator: Administrator,
    State(app): State<App>,
    Id(name): Id<ProjectionName>,
    OptionalBody(because): OptionalBody<Because>,
) -> Result<Done, Problem> {
    known(&name)?;
    let call = administrator.meta("ResumeProjection");
    execute(&app, &name, ProjectionCommand::Resume(because.reason), call).await
}

/// Skip a record
///
/// Lets a projection pass over the one record at which it has parked a tenant, so that the tenant goes on behind it. The
/// decision is kept on the record with its reason, holds for replays too, and is not taken back.
#[utoipa::path(
    post, path = "/v1/projections/{name}/skip", tag = TAG,
    params(("name" = String, Path, description = "The projection's name.")), request_body = RecordToSkip,
    responses(
        (status = 204, description = "The record is passed over."),
        (status = 409, description = "`not_possible`: The projection has not parked this tenant at this record. \
            `limit_reached`: 1,000 records of a projection are skipped already.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn skip_record(
    administrator: Administrator,
    State(app): State<App>,
    Id(name): Id<ProjectionName>,
    Body(skip): Body<RecordToSkip>,
) -> Result<Done, Problem> {
    known(&name)?;
    if !is_skipped(&app, &name, &skip).await? && !is_parked(&app, &name, &skip).await? {
        let (tenant, position) = (&skip.tenant, skip.position);
        return Err(Problem::new(
            ProblemType::NotPossible,
            format!(
                "{name} has not parked {tenant} at {position}: only a record that a tenant waits at is skipped."
            ),
        ));
    }
    let call = administrator.meta("SkipRecord");
    let command = ProjectionCommand::SkipEvent(Skipped {
        tenant: skip.tenant,
        position: skip.position,
        reason: skip.reason,
        at: call.meta.at,
    });
    execute(&app, &name, command, call).await
}

async fn is_skipped(app: &App, name: &ProjectionName, skip: &RecordToSkip) -> Result<bool, Problem> {
    let decided = decided(app, name.as_str()).await?;
    let same = |known: &Skipped| known.tenant == skip.tenant && known.position == skip.position;
    Ok(decided.skipped().iter().any(same))
}

async fn is_parked(app: &App, name: &ProjectionName, skip: &RecordToSkip) -> Result<bool, Problem> {
    let generations = app.read_models.generations().await?;
    let of_this = generations
        .iter()
        .filter(|known| known.projection == name.as_str() && known.standing == Standing::Live);
    let mut parked = of_this.flat_map(|known| &known.parked);
    Ok(parked.any(|parked| parked.tenant == skip.tenant.as_str() && parked.position == skip.position))
}

/// Roll a projection back
///
/// Lets queries read again what they read before the last switch, once what has been stored since is folded into it.
/// What they read now becomes the generation to go back to. `GET /v1/replays/{id}` tells how far it is.
#[utoipa::path(
    post, path = "/v1/projections/{name}/rollback", tag = TAG,
    params(("name" = String, Path, description = "The projection's name.")), request_body = Because,
    responses(
        (status = 202, description = "It will be done.", body = ReplayStarted),
        (status = 409, description = "`not_possible`: There is no generation to go back to.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn roll_back_projection(
    administrator: Administrator,
    State(app): State<App>,
    Id(name): Id<ProjectionName>,
    OptionalBody(because): OptionalBody<Because>,
) -> Result<Written<ReplayStarted>, Problem> {
    let projection = known(&name)?;
    let generations = app.read_models.generations().await?;
    let is_previous = |known: &projections::Generation| {
        known.projection == projection.name()
            && known.version == projection.version()
            && known.standing == Standing::Previous
    };
    if !generations.iter().any(is_previous) {
        return Err(Problem::new(
            ProblemType::NotPossible,
            format!(
                "{name} has no generation that queries have read before: there is nothing to go back to."
            ),
        ));
    }
    let id = ReplayId::new(administrator.draw().ulid("replay"));
    let command = ReplayCommand::Request(Work::RollBack(name), because.reason);
    let meta = administrator.meta("RollBackProjection");
    let platform = TenantId::platform();
    let receipt = app
        .dispatcher
        .execute::<Replay>(&platform, id.as_str(), command, meta)
        .await?;
    Ok(Written::accepted(vec![receipt.position], ReplayStarted { id }))
}

/// Drop a generation
///
/// One that queries do not read and no replay fills. What an older version of the fold made is dropped too, whatever
/// its program used it for.
#[utoipa::path(
    delete, path = "/v1/projections/{name}/generations/{generation}", tag = TAG,
    params(
        ("name" = String, Path, description = "The projection's name."),
        ("generation" = u64, Path, description = "The generation's number."),
        DropBecause,
    ),
    responses(
        (status = 202, description = "It will be gone in a moment.", body = Dropping),
        (status = 409, description = "`not_possible`: Queries read it, or a replay fills it; or another is being \
            dropped.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn drop_generation(
    administrator: Administrator,
    State(app): State<App>,
    Pair(name, generation): Pair<ProjectionName, u64>,
    Parameters(because): Parameters<DropBecause>,
) -> Result<Written<Dropping>, Problem> {
    let projection = known(&name)?;
    let all = app.read_models.generations().await?;
    let found = all
        .iter()
        .find(|known| known.projection == name.as_str() && u64::try_from(known.generation) == Ok(generation));
    let found = found.ok_or_else(Problem::not_found)?;
    match found.standing {
        Standing::Live if found.version >= projection.version() => {
            return Err(in_use("Queries read this generation."));
        }
        Standing::Building if is_filled(&app, found).await? => {
            return Err(in_use("A replay fills this generation; cancel that one."));
        }
        _ => {}
    }
    let call = administrator.meta("DropGeneration");
    let reason = because.reason;
    let command = ProjectionCommand::Drop { generation, reason };
    let Done(position) = execute(&app, &name, command, call).await?;
    let dropping = Dropping {
        projection: name,
        generation,
    };
    Ok(Written::accepted(vec![position], dropping))
}

/// Whether a replay that has not ended works at it.
async fn is_filled(app: &App, generation: &projections::Generation) -> Result<bool, Problem> {
    let mut open = app.read_models.rebuilds().await?.into_iter();
    let of_it = |row: &projections::rebuild::RebuildRow| {
        row.generations.get(&generation.projection) == Some(&generation.generation)
    };
    Ok(open.any(|row| !row.phase.is_over() && of_it(&row)))
}

fn in_use(detail: &str) -> Problem {
    Problem::new(ProblemType::NotPossible, detail)
}

async fn execute(
    app: &App,
    name: &ProjectionName,
    command: ProjectionCommand,
    call: commands::Call,
) -> Result<Done, Problem> {
    let platform = TenantId::platform();
    let receipt = app
        .dispatcher
        .execute::<Projection>(&platform, name.as_str(), command, call)
        .await?;
    Ok(Done(receipt.position))
}
