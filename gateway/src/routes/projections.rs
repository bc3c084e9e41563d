//! `/v1/projections`: how read models do, and operators' decisions about them, for the platform administrator.

pub(crate) mod decisions;
mod view;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use broker::layout::Log;
use domain::projection::{Projection, ProjectionName, ProjectionRejection};
use domain::{Position, Source, TenantId, Timestamp};
use futures::future::try_join_all;
use projections::{Generation, Standing, Trouble, models};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::Administrator;
use crate::consistency::{AtLeast, Found, List, Truth};
use crate::extract::Id;
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemType};
use view::ProjectionView;

const TAG: &str = "projections";

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::ADMINISTER_PLATFORM, routes!(list_projections)))
        .routes(needs(may::ADMINISTER_PLATFORM, routes!(show_projection)))
        .merge(decisions::router())
}

/// List projections
///
/// All of this is read from the log and the read database, so it does not matter which process answers: it has seen
/// every decision that was acknowledged.
#[utoipa::path(
    get, path = "/v1/projections", tag = TAG,
    responses((status = 200, description = "Every projection.", body = List<ProjectionView>))
)]
async fn list_projections(
    _: Administrator,
    State(app): State<App>,
    at_least: AtLeast,
) -> Result<Found<List<ProjectionView>>, Problem> {
    let truth = at_least.judged(&app).await?;
    let known = Known::ask(&app).await?;
    let names = models::all();
    let views = names
        .iter()
        .map(|projection| known.view(&app, projection.as_ref()));
    Ok(known.told(truth).of(List {
        data: try_join_all(views).await?,
        next_cursor: None,
    }))
}

/// Show a projection
#[utoipa::path(
    get, path = "/v1/projections/{name}", tag = TAG,
    params(("name" = String, Path, description = "The projection's name, as `api_keys`.")),
    responses((status = 200, description = "The projection.", body = ProjectionView))
)]
async fn show_projection(
    _: Administrator,
    State(app): State<App>,
    at_least: AtLeast,
    Id(name): Id<ProjectionName>,
) -> Result<Found<ProjectionView>, Problem> {
    let truth = at_least.judged(&app).await?;
    let projection = known(&name)?;
    let known = Known::ask(&app).await?;
    let view = known.view(&app, projection.as_ref()).await?;
    Ok(known.told(truth).of(view))
}

/// The projection of a name, or 404.
fn known(name: &ProjectionName) -> Result<std::sync::Arc<dyn projections::Projection>, Problem> {
    let mut all = models::all().into_iter();
    all.find(|known| known.name() == name.as_str())
        .ok_or_else(Problem::not_found)
}

/// What has been decided about a projection.
async fn decided(app: &App, name: &str) -> Result<Projection, Problem> {
    let platform = TenantId::platform();
    let loaded = app
        .dispatcher
        .load::<Projection>(&platform, name, Duration::ZERO)
        .await;
    loaded
        .map(|loaded| loaded.aggregate)
        .map_err(|error| Problem::unavailable(&error))
}

/// What is known of all projections at a moment.
struct Known {
    now: Timestamp,
    /// The last sequence of each log.
    ends: BTreeMap<(Source, u16), u64>,
    generations: Vec<Generation>,
    troubles: Vec<Trouble>,
}

impl Known {
    async fn ask(app: &App) -> Result<Self, Problem> {
        let generations = app.read_models.generations().await?;
        let troubles = app.read_models.troubles().await?;
        let ends = app.logs.iter().map(async |(log, port)| {
            let bounds = port.state().await.map_err(|error| Problem::unavailable(&error))?;
            Ok::<_, Problem>((source_of(*log), bounds.last))
        });
        Ok(Self {
            now: SystemTime::now().into(),
            ends: try_join_all(ends).await?.into_iter().collect(),
            generations,
            troubles,
        })
    }

    /// Decisions are read after the logs were asked for their ends, so what is told has seen all up to there.
    fn told(&self, truth: Truth) -> Truth {
        let ends = self.ends.iter();
        let events = ends.filter(|((source, _), _)| *source == Source::Events);
        events.fold(truth, |truth, ((source, shard), sequence)| {
            truth.with(Position {
                source: *source,
                shard: *shard,
                sequence: *sequence,
            })
        })
    }

    async fn view(
        &self,
        app: &App,
        projection: &dyn projections::Projection,
    ) -> Result<ProjectionView, Problem> {
        let decided = decided(app, projection.name()).await?;
        let of_this = |known: &&Generation| known.projection == projection.name();
        let generations: Vec<_> = self.generations.iter().filter(of_this).cloned().collect();
        let live = generations
            .iter()
            .find(|known| known.standing == Standing::Live && known.version == projection.version());
        let positions = live.map(|live| live.positions.clone()).unwrap_or_default();
        let lag_records = self.lag(projection, &positions);
        let troubles = self.troubles.iter();
        let trouble = troubles
            .clone()
            .find(|trouble| trouble.projection == projection.name());
        Ok(ProjectionView {
            name: projection.name(),
            version: projection.version(),
            generation: live.map(|live| live.generation),
            lag_seconds: self.lag_seconds(live, lag_records),
            lag_records,
            positions,
            last_error: trouble.map(|trouble| trouble.error.clone()),
            stopped: trouble.is_some_and(|trouble| trouble.stopped),
            paused: decided.paused().cloned().map(Into::into),
            parked: live.map(|live| live.parked.clone()).unwrap_or_default(),
            skipped: decided.skipped().iter().cloned().map(Into::into).collect(),
            dropping: decided.dropping(),
            generations: generations.into_iter().map(Into::into).collect(),
        })
    }

    /// Records of its logs that it has not folded.
    fn lag(&self, projection: &dyn projections::Projection, positions: &[Position]) -> u64 {
        let followed = self
            .ends
            .iter()
            .filter(|((source, _), _)| projection.sources().contains(source));
        let behind = followed.map(|(log, end)| {
            let at = positions.iter().find(|at| (at.source, at.shard) == *log);
            end.saturating_sub(at.map_or(0, |at| at.sequence))
        });
        behind.sum()
    }

    /// For how long it has missed something; none where it never had everything.
    fn lag_seconds(&self, live: Option<&Generation>, lag_records: u64) -> Option<f64> {
        if lag_records == 0 {
            return Some(0.0);
        }
        let fresh = live.and_then(|live| live.fresh_at)?;
        let behind = self.now.as_millis().saturating_sub(fresh.as_millis());
        Some(Duration::from_millis(u64::try_from(behind).unwrap_or_default()).as_secs_f64())
    }
}

/// The kind and number of a log, as positions tell it.
fn source_of(log: Log) -> (Source, u16) {
    match log {
        Log::Events(shard) => (Source::Events, shard),
        Log::Messages(shard) => (Source::Messages, shard),
        Log::Attempts => (Source::Deliveries, 0),
    }
}

impl From<ProjectionRejection> for Problem {
    fn from(rejection: ProjectionRejection) -> Self {
        let kind = match rejection {
            ProjectionRejection::TooManySkipped => ProblemType::LimitReached,
            ProjectionRejection::Dropping | ProjectionRejection::NotAskedFor => ProblemType::NotPossible,
        };
        Self::new(kind, format!("Nothing was changed: {rejection}."))
    }
}
