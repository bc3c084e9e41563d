//! `/v1/teams`: a tenant's teams, which stand under each other, and who belongs to them.

mod members;
mod tree;

use std::time::Duration;

use axum::extract::State;
use commands::{Call, Dispatcher};
use domain::team::{
    MAX_MEMBERSHIPS, MAX_TEAMS, TeamDescription, TeamName, Teams, TeamsCommand, TeamsRejection,
};
use domain::tenant::Counted;
use domain::{TeamId, Timestamp, UserId};
use projections::{Page, TeamFilter, TeamRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::{Done, Written};
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Body, Id, Limit, Parameters, given};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::{quotas, settings};

const TAG: &str = "teams";
const READ_MODEL: &[&str] = &["teams"];

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::WRITE_TEAMS, routes!(create_team)))
        .routes(needs(may::READ_TEAMS, routes!(list_teams)))
        .routes(needs(may::READ_TEAMS, routes!(show_team)))
        .routes(needs(may::WRITE_TEAMS, routes!(change_team, retire_team)))
        .merge(tree::router())
        .merge(members::router())
}

/// A team to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTeam {
    /// What it is called: 1 to 100 characters, unique among the teams under the same parent; upper and lower case
    /// count as the same.
    #[schema(value_type = String, example = "Nordics")]
    name: TeamName,
    /// The team it stands under; none for a team at the top.
    #[schema(value_type = Option<String>)]
    parent: Option<TeamId>,
    /// What it is for: at most 500 characters.
    #[schema(value_type = Option<String>)]
    description: Option<TeamDescription>,
}

/// What shall change; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "a field left away differs from null")]
struct TeamPatch {
    /// The new name.
    #[schema(value_type = Option<String>)]
    name: Option<TeamName>,
    /// The new description; null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<TeamDescription>>,
}

/// A team that has come into being.
#[derive(Debug, Serialize, ToSchema)]
struct TeamCreated {
    /// The team's id.
    #[schema(value_type = String, example = "team_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: TeamId,
}

/// A team.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Team)]
struct TeamView {
    /// The team's id.
    #[schema(value_type = String)]
    id: TeamId,
    /// What it is called.
    name: String,
    /// What it is for.
    description: Option<String>,
    /// The team it stands under; none at the top.
    #[schema(value_type = Option<String>)]
    parent: Option<TeamId>,
    /// How many belong to it.
    members: u64,
    /// How many teams stand directly under it.
    children: u64,
    /// When it was created.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// When it last changed; who belongs to it is no part of this.
    #[schema(value_type = String, format = "date-time")]
    updated_at: Timestamp,
}

/// Where listed teams stand.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct ParentFilter(Option<TeamId>);

impl TryFrom<String> for ParentFilter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let team = text.parse().map_err(|error| format!("{error}; or `none`"))?;
        Ok(Self(Some(team)))
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct TeamQuery {
    /// Only the teams directly under this one; `none` for those at the top.
    #[param(value_type = Option<String>)]
    parent: Option<ParentFilter>,
    /// Only the teams that this user belongs to.
    #[param(value_type = Option<String>)]
    member: Option<UserId>,
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct RetireQuery {
    /// Whether all that is below the team goes with it; without this, a team with others below it is not retired.
    #[serde(default)]
    recursive: bool,
}

/// Create a team
#[utoipa::path(
    post, path = "/v1/teams", tag = TAG, request_body = NewTeam,
    responses(
        (status = 201, description = "The team exists.", body = TeamCreated),
        (status = 409, description = "`team_name_taken`: Another team under the same parent has this name. \
            `limit_reached`: The tenant has 1000 teams or as many as its quota, or the tree would be deeper than its settings allow.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn create_team(
    member: Member,
    State(app): State<App>,
    Body(new): Body<NewTeam>,
) -> Result<Written<TeamCreated>, Problem> {
    let id = TeamId::new(member.ulid("team"));
    let command = TeamsCommand::Create {
        id: id.clone(),
        name: new.name,
        parent: new.parent,
        description: new.description,
        max_depth: max_depth(&app, &member).await?,
    };
    let Done(position) = make(&app, &member, &id, command, member.meta("CreateTeam")).await?;
    Ok(Written::created(position, TeamCreated { id }))
}

/// List teams
#[utoipa::path(
    get, path = "/v1/teams", tag = TAG, params(TeamQuery),
    responses((status = 200, description = "A page of teams, newest first.", body = List<TeamView>))
)]
async fn list_teams(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<TeamQuery>,
) -> Result<Found<List<TeamView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let filter = TeamFilter {
        parent: query.parent.map(|ParentFilter(parent)| parent),
        member: query.member,
    };
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    let teams = app.read_models.teams(&member.tenant).list(&filter, &page).await?;
    Ok(Found::list(teams, TeamView::from))
}

/// Show a team
#[utoipa::path(
    get, path = "/v1/teams/{id}", tag = TAG, params(("id" = String, Path, description = "The team's id.")),
    responses((status = 200, description = "The team.", body = TeamView))
)]
async fn show_team(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<TeamId>,
) -> Result<Found<TeamView>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let team = app.read_models.teams(&member.tenant).get(&id).await?;
    Found::one(team, TeamView::from)
}

/// Change a team
#[utoipa::path(
    patch, path = "/v1/teams/{id}", tag = TAG, params(("id" = String, Path, description = "The team's id.")),
    request_body = TeamPatch,
    responses(
        (status = 204, description = "The team is as asked for."),
        (status = 409, description = "`team_name_taken`: Another team under the same parent has this name.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn change_team(
    member: Member,
    State(app): State<App>,
    Id(id): Id<TeamId>,
    Body(change): Body<TeamPatch>,
) -> Result<Done, Problem> {
    if change.name.is_none() && change.description.is_none() {
        return Err(Problem::invalid_body(
            ".",
            "must name at least one of name, description",
        ));
    }
    let command = TeamsCommand::Change {
        id,
        name: change.name,
        description: change.description,
    };
    execute(&app, &member, command, member.meta("ChangeTeam")).await
}

/// Retire a team
///
/// Nobody belongs to it any more and its name is free; this cannot be undone.
#[utoipa::path(
    delete, path = "/v1/teams/{id}", tag = TAG,
    params(("id" = String, Path, description = "The team's id."), RetireQuery),
    responses(
        (status = 204, description = "The team is no more."),
        (status = 409, description = "`in_use`: There are teams below it.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn retire_team(
    member: Member,
    State(app): State<App>,
    Id(id): Id<TeamId>,
    Parameters(query): Parameters<RetireQuery>,
) -> Result<Done, Problem> {
    let command = TeamsCommand::Retire {
        id,
        recursive: query.recursive,
    };
    execute(&app, &member, command, member.meta("RetireTeam")).await
}

/// Lets the tenant's teams decide.
async fn execute(app: &App, member: &Member, command: TeamsCommand, call: Call) -> Result<Done, Problem> {
    let tenant = &member.tenant;
    let receipt = app
        .dispatcher
        .execute::<Teams>(tenant, tenant.as_str(), command, call)
        .await?;
    Ok(Done(receipt.position))
}

/// Lets the tenant's teams decide on one more, if the tenant's quota allows it.
async fn make(
    app: &App,
    member: &Member,
    id: &TeamId,
    command: TeamsCommand,
    call: Call,
) -> Result<Done, Problem> {
    let tenant = &member.tenant;
    // What a request made when it was here before may have been retired since.
    let there = async {
        let done = app.dispatcher.done::<Teams>(tenant, tenant.as_str(), &call).await;
        let done = done.map_err(|error| Problem::unavailable(&error))?;
        Ok(done.is_some() || teams(app, member).await?.contains(id))
    };
    let make = |dispatcher: Dispatcher| {
        let (command, call) = (command.clone(), call.clone());
        async move {
            dispatcher
                .execute::<Teams>(tenant, tenant.as_str(), command, call)
                .await
        }
    };
    let receipt = quotas::create(app, tenant, Counted::Teams, there, make).await?;
    Ok(Done(receipt.position))
}

/// The tenant's teams, as the log has them now.
async fn teams(app: &App, member: &Member) -> Result<Teams, Problem> {
    let tenant = &member.tenant;
    let loaded = app
        .dispatcher
        .load::<Teams>(tenant, tenant.as_str(), Duration::ZERO)
        .await;
    loaded
        .map(|loaded| loaded.aggregate)
        .map_err(|error| Problem::unavailable(&error))
}

/// How deep the tenant's settings let its teams stand.
async fn max_depth(app: &App, member: &Member) -> Result<usize, Problem> {
    let settings = settings::current(app, &member.tenant).await?;
    Ok(settings.team_max_depth.get() as usize)
}

impl From<TeamRow> for TeamView {
    fn from(row: TeamRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            parent: row.parent,
            members: row.members,
            children: row.children,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl From<TeamsRejection> for Problem {
    fn from(rejection: TeamsRejection) -> Self {
        let text = rejection.to_string();
        match rejection {
            TeamsRejection::NotFound => Self::not_found(),
            // Only an id drawn twice could lead here.
            TeamsRejection::AlreadyCreated => Self::new(ProblemType::Conflict, "Send the request again."),
            TeamsRejection::UnknownParent { .. } => Self::invalid_body("parent", text),
            TeamsRejection::UnknownHeir { .. } => Self::invalid_body("into", text),
            TeamsRejection::NotAMember { .. } => Self::invalid_body("members", text),
            TeamsRejection::NotAChild { .. } => Self::invalid_body("children", text),
            TeamsRejection::NameTaken { name, by } => Self::new(
                ProblemType::TeamNameTaken,
                format!("The team {by} is called {name} under the same parent; choose another name."),
            ),
            TeamsRejection::ChildNamesTaken { names } => {
                let names: Vec<_> = names.iter().map(TeamName::as_str).collect();
                let detail = format!(
                    "Both teams have a child of the same name; rename or move one of each first: {}.",
                    names.join(", ")
                );
                Self::new(ProblemType::TeamNameTaken, detail)
            }
            TeamsRejection::Cycle => Self::new(
                ProblemType::Cycle,
                "A team cannot stand below itself; choose a team that is not below it.",
            ),
            TeamsRejection::TooDeep { limit } => Self::new(
                ProblemType::LimitReached,
                format!(
                    "Teams of this tenant can stand at most {limit} deep; `team_max_depth` in its settings."
                ),
            ),
            TeamsRejection::HasChildren => Self::new(
                ProblemType::InUse,
                "There are teams below this one; move them away, or retire all with `?recursive=true`.",
            ),
            TeamsRejection::TooManyTeams => Self::new(
                ProblemType::LimitReached,
                format!("A tenant can have at most {MAX_TEAMS} teams."),
            ),
            TeamsRejection::TooManyMemberships => Self::new(
                ProblemType::LimitReached,
                format!("The teams of a tenant can have at most {MAX_MEMBERSHIPS} memberships together."),
            ),
        }
    }
}
