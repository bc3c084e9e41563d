//! `/v1/teams/{id}/move`, `/merge` and `/split`: teams change their places and become one or two.

use axum::extract::State;
use domain::team::{MAX_MEMBERS_AT_ONCE, MAX_TEAMS, TeamName, TeamsCommand};
use domain::{TeamId, UserId};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{TAG, TeamCreated, execute, make, max_depth};
use crate::answer::{Done, Written};
use crate::app::App;
use crate::auth::Member;
use crate::extract::{Body, Id, given};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody};

/// This part's operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::WRITE_TEAMS, routes!(move_team)))
        .routes(needs(may::WRITE_TEAMS, routes!(merge_team)))
        .routes(needs(may::WRITE_TEAMS, routes!(split_team)))
}

/// Where a team shall stand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "a field left away differs from null")]
struct Place {
    /// The team it shall stand under; null for the top. It must be given.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    parent: Option<Option<TeamId>>,
}

/// What a team shall become part of.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Heir {
    /// The team that takes its members and children.
    #[schema(value_type = String)]
    into: TeamId,
}

/// A team to be made of a part of another.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Part {
    /// What the new team is called: 1 to 100 characters, unique beside the team it comes from.
    #[schema(value_type = String)]
    name: TeamName,
    /// The members it takes, who keep their roles: at most 1000.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 1000)]
    members: Vec<UserId>,
    /// The teams directly under the old one that it takes: at most 1000.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 1000)]
    children: Vec<TeamId>,
}

/// Move a team
///
/// All that is below the team moves with it.
#[utoipa::path(
    post, path = "/v1/teams/{id}/move", tag = TAG, params(("id" = String, Path, description = "The team's id.")),
    request_body = Place,
    responses(
        (status = 204, description = "The team stands there."),
        (status = 409, description = "`cycle`: It would stand below itself. `team_name_taken`: Another team there has \
            its name. `limit_reached`: The tree would be deeper than the tenant's settings allow.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn move_team(
    member: Member,
    State(app): State<App>,
    Id(id): Id<TeamId>,
    Body(place): Body<Place>,
) -> Result<Done, Problem> {
    let Some(parent) = place.parent else {
        return Err(Problem::invalid_body(
            "parent",
            "must be given: a team's id, or null for the top",
        ));
    };
    let command = TeamsCommand::Move {
        id,
        parent,
        max_depth: max_depth(&app, &member).await?,
    };
    execute(&app, &member, command, member.meta("MoveTeam")).await
}

/// Merge a team into another
///
/// Its members and children become the other's; whoever is in both keeps the stronger role. The team itself is no
/// more, and its name is free; this cannot be undone.
#[utoipa::path(
    post, path = "/v1/teams/{id}/merge", tag = TAG, params(("id" = String, Path, description = "The team's id.")),
    request_body = Heir,
    responses(
        (status = 204, description = "The team is part of the other."),
        (status = 409, description = "`team_name_taken`: Both have a child of the same name; `detail` names them. \
            `cycle`: The other is below it. `limit_reached`: The tree would be deeper than the tenant's settings allow.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn merge_team(
    member: Member,
    State(app): State<App>,
    Id(id): Id<TeamId>,
    Body(heir): Body<Heir>,
) -> Result<Done, Problem> {
    let command = TeamsCommand::Merge {
        id,
        into: heir.into,
        max_depth: max_depth(&app, &member).await?,
    };
    execute(&app, &member, command, member.meta("MergeTeam")).await
}

/// Split a team
///
/// The new team stands beside the old one and takes the members and children named.
#[utoipa::path(
    post, path = "/v1/teams/{id}/split", tag = TAG, params(("id" = String, Path, description = "The team's id.")),
    request_body = Part,
    responses(
        (status = 201, description = "The new team exists.", body = TeamCreated),
        (status = 409, description = "`team_name_taken`: Another team beside it has this name. `limit_reached`: The \
            tenant has 1000 teams, or as many as its quota.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn split_team(
    member: Member,
    State(app): State<App>,
    Id(id): Id<TeamId>,
    Body(part): Body<Part>,
) -> Result<Written<TeamCreated>, Problem> {
    for (path, count, limit) in [
        ("members", part.members.len(), MAX_MEMBERS_AT_ONCE),
        ("children", part.children.len(), MAX_TEAMS),
    ] {
        if count > limit {
            return Err(Problem::invalid_body(path, format!("must hold at most {limit}")));
        }
    }
    let new = TeamId::new(member.ulid("team"));
    let command = TeamsCommand::Split {
        id,
        new: new.clone(),
        name: part.name,
        members: part.members,
        children: part.children,
    };
    let Done(position) = make(&app, &member, &new, command, member.meta("SplitTeam")).await?;
    Ok(Written::created(position, TeamCreated { id: new }))
}
