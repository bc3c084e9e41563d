//! What a replay is asked for with, and what of it is wrong before anything is begun.

use std::time::SystemTime;

use broker::layout::Log;
use domain::projection::{ProjectionName, Reason};
use domain::replay::{ReplayPlan, Until, Work};
use domain::{Position, Source, TenantId, Timestamp};
use projections::models;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::problem::Problem;

/// What shall be made again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewReplay {
    /// The projections, as `GET /v1/projections` names them; this, or `all`.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, example = json!(["audit"]))]
    projections: Option<Vec<ProjectionName>>,
    /// All projections, in one pass over the logs.
    #[serde(default)]
    all: bool,
    /// Only this tenant's rows.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// Make a copy as of this position (`e0-42`; of other logs, what was stored by then) or time (RFC 3339), for
    /// inspection: queries do not read it.
    #[schema(value_type = Option<String>, example = "e0-42")]
    to: Option<End>,
    /// Whether queries read what was made, once it is there; otherwise it is compared with what they read and dropped.
    /// True unless `to` is given, where it must not be.
    switch: Option<bool>,
    /// Why, for the record: 1 to 500 characters.
    #[schema(value_type = Option<String>)]
    pub(super) reason: Option<Reason>,
}

/// A position or a time.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct End(Until);

impl TryFrom<String> for End {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if let Ok(position) = text.parse() {
            return Ok(Self(Until::Position(position)));
        }
        let time = text.parse();
        let time = time.map_err(|_| "must be a position, such as e0-42, or an RFC 3339 time");
        Ok(Self(Until::Time(time?)))
    }
}

impl NewReplay {
    /// The replay as it is asked for, if there can be such a one.
    pub(super) async fn check(self, app: &App) -> Result<Work, Problem> {
        let projections = self.named()?;
        if let Some(tenant) = &self.tenant
            && !tenant.is_platform()
            && !app.authority.tenant_exists(tenant).await?
        {
            return Err(Problem::invalid_body("tenant", "there is no such tenant"));
        }
        let to = self.to.map(|End(to)| to);
        match to {
            Some(Until::Position(position)) => check_position(app, position).await?,
            Some(Until::Time(time)) => check_time(time)?,
            None => {}
        }
        Ok(Work::Rebuild(ReplayPlan {
            projections,
            tenant: self.tenant,
            switch: self.switch.unwrap_or(to.is_none()),
            to,
        }))
    }

    fn named(&self) -> Result<Vec<ProjectionName>, Problem> {
        let known: Vec<_> = models::all();
        let known = known.iter().filter(|projection| !projection.lasting());
        let known: Vec<_> = known.map(|projection| projection.name()).collect();
        match (&self.projections, self.all) {
            (None, true) => Ok(known.iter().filter_map(|name| name.parse().ok()).collect()),
            (Some(named), false) => {
                for (number, name) in named.iter().enumerate() {
                    if !known.contains(&name.as_str()) {
                        let message = format!("must be one of {}", known.join(", "));
                        return Err(Problem::invalid_body(format!("projections[{number}]"), message));
                    }
                }
                Ok(named.clone())
            }
            _ => Err(Problem::invalid_body(
                ".",
                "must have either `projections` or `\"all\": true`",
            )),
        }
    }
}

async fn check_position(app: &App, position: Position) -> Result<(), Problem> {
    let log = match position.source {
        Source::Events => Log::Events(position.shard),
        Source::Messages => Log::Messages(position.shard),
        Source::Deliveries => Log::Attempts,
    };
    let found = app.logs.iter().find(|(known, _)| *known == log);
    let Some((_, port)) = found else {
        return Err(Problem::invalid_body(
            "to",
            format!("there is no log of {position}"),
        ));
    };
    let bounds = port.state().await.map_err(|error| Problem::unavailable(&error))?;
    if (bounds.first..=bounds.last).contains(&position.sequence) {
        return Ok(());
    }
    let (first, last) = (bounds.first, bounds.last);
    let message = format!("there is no record {position}: this log has records {first} to {last}");
    Err(Problem::invalid_body("to", message))
}

fn check_time(time: Timestamp) -> Result<(), Problem> {
    if time > Timestamp::from(SystemTime::now()) {
        return Err(Problem::invalid_body("to", "this time is still to come"));
    }
    Ok(())
}
