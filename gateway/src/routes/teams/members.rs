//! `/v1/teams/{id}/members`: who belongs to a team.

use std::time::Duration;

use axum::extract::State;
use commands::Call;
use domain::team::{MAX_MEMBERS_AT_ONCE, Membership, TeamRole, Teams, TeamsCommand, TeamsRejection};
use domain::user::{User, UserStatus};
use domain::{TeamId, Timestamp, UserId};
use futures::{StreamExt, TryStreamExt, stream};
use projections::{Page, TeamMemberRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{READ_MODEL, TAG, execute, teams};
use crate::answer::Done;
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Body, Id, Limit, Pair, Parameters, object};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody};

/// Users looked up at a time.
const LOOK_UPS: usize = 32;

/// This part's operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::READ_TEAMS, routes!(list_team_members)))
        .routes(needs(may::WRITE_TEAMS, routes!(add_team_members)))
        .routes(needs(
            may::WRITE_TEAMS,
            routes!(set_team_member, remove_team_member),
        ))
}

/// A user who shall belong to a team.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMember {
    /// The user's id.
    #[schema(value_type = String)]
    user: UserId,
    /// `lead` or `member`; `member` unless given.
    #[serde(default = "ordinary")]
    #[schema(value_type = String, example = "member")]
    role: TeamRole,
}

/// One of several: an object, whatever else serde would take for one.
#[derive(Debug, Deserialize)]
struct Item(#[serde(deserialize_with = "object")] NewMember);

/// Users who shall belong to a team.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMembers {
    /// 1 to 1000 of them; who belongs to it already takes the role given here.
    #[schema(value_type = Vec<NewMember>, min_items = 1, max_items = 1000)]
    members: Vec<Item>,
}

/// What a user shall be in a team.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRole {
    /// `lead` or `member`.
    #[schema(value_type = String, example = "lead")]
    role: TeamRole,
}

/// A member of a team.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TeamMember)]
struct MemberView {
    /// The user's id.
    #[schema(value_type = String)]
    user: UserId,
    /// `lead` or `member`.
    role: String,
    /// Since when the user belongs to the team, or to one that became part of it.
    #[schema(value_type = String, format = "date-time")]
    since: Timestamp,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct MemberQuery {
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

fn ordinary() -> TeamRole {
    TeamRole::Member
}

/// List a team's members
///
/// Users who were removed belong to no team.
#[utoipa::path(
    get, path = "/v1/teams/{id}/members", tag = TAG,
    params(("id" = String, Path, description = "The team's id."), MemberQuery),
    responses((status = 200, description = "A page of members, the newest users first.", body = List<MemberView>))
)]
async fn list_team_members(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<TeamId>,
    Parameters(query): Parameters<MemberQuery>,
) -> Result<Found<List<MemberView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    let members = app.read_models.teams(&member.tenant).members(&id, &page).await?;
    Found::one(members, |page| List {
        data: page.data.into_iter().map(MemberView::from).collect(),
        next_cursor: page.next_cursor,
    })
}

/// Add members to a team
#[utoipa::path(
    post, path = "/v1/teams/{id}/members", tag = TAG, params(("id" = String, Path, description = "The team's id.")),
    request_body = NewMembers,
    responses(
        (status = 204, description = "All of them belong to the team."),
        (status = 409, description = "`limit_reached`: The tenant's teams have 20000 memberships.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn add_team_members(
    member: Member,
    State(app): State<App>,
    Id(id): Id<TeamId>,
    Body(new): Body<NewMembers>,
) -> Result<Done, Problem> {
    if !(1..=MAX_MEMBERS_AT_ONCE).contains(&new.members.len()) {
        return Err(Problem::invalid_body(
            "members",
            format!("must hold 1 to {MAX_MEMBERS_AT_ONCE} members"),
        ));
    }
    let call = member.meta("AddTeamMembers");
    if let Some(done) = done(&app, &member, &call).await? {
        return Ok(done);
    }
    must_exist(&app, &member, &id).await?;
    let users: Vec<_> = new
        .members
        .iter()
        .map(|Item(member)| member.user.clone())
        .collect();
    if let Some(place) = unknown(&app, &member, users).await? {
        let path = format!("members[{place}].user");
        return Err(Problem::invalid_body(
            path,
            "there is no such user, or it was removed",
        ));
    }
    let members = new.members.into_iter().map(|Item(member)| Membership {
        user: member.user,
        role: member.role,
    });
    let command = TeamsCommand::AddMembers {
        id,
        members: members.collect(),
    };
    execute(&app, &member, command, call).await
}

/// Make a user a member of a team
///
/// Where the user belongs to the team already, it takes this role.
#[utoipa::path(
    put, path = "/v1/teams/{id}/members/{user}", tag = TAG,
    params(
        ("id" = String, Path, description = "The team's id."),
        ("user" = String, Path, description = "The user's id."),
    ),
    request_body = NewRole,
    responses(
        (status = 204, description = "The user belongs to the team in this role."),
        (status = 409, description = "`limit_reached`: The tenant's teams have 20000 memberships.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn set_team_member(
    member: Member,
    State(app): State<App>,
    Pair(id, user): Pair<TeamId, UserId>,
    Body(NewRole { role }): Body<NewRole>,
) -> Result<Done, Problem> {
    let call = member.meta("SetTeamMember");
    if let Some(done) = done(&app, &member, &call).await? {
        return Ok(done);
    }
    must_exist(&app, &member, &id).await?;
    if unknown(&app, &member, vec![user.clone()]).await?.is_some() {
        return Err(Problem::not_found());
    }
    let command = TeamsCommand::AddMembers {
        id,
        members: vec![Membership { user, role }],
    };
    execute(&app, &member, command, call).await
}

/// Take a user out of a team
#[utoipa::path(
    delete, path = "/v1/teams/{id}/members/{user}", tag = TAG,
    params(
        ("id" = String, Path, description = "The team's id."),
        ("user" = String, Path, description = "The user's id."),
    ),
    responses((status = 204, description = "The user no longer belongs to the team."))
)]
async fn remove_team_member(
    member: Member,
    State(app): State<App>,
    Pair(id, user): Pair<TeamId, UserId>,
) -> Result<Done, Problem> {
    let command = TeamsCommand::RemoveMembers {
        id,
        users: vec![user],
    };
    let (tenant, meta) = (&member.tenant, member.meta("RemoveTeamMember"));
    let removed = app
        .dispatcher
        .execute::<Teams>(tenant, tenant.as_str(), command, meta)
        .await;
    match removed {
        Ok(receipt) => Ok(Done(receipt.position)),
        // The address names somebody who is not there.
        Err(commands::Error::Rejected(TeamsRejection::NotAMember { .. })) => Err(Problem::not_found()),
        Err(error) => Err(error.into()),
    }
}

/// What the request did when it was here before; the team and its users may have changed since.
async fn done(app: &App, member: &Member, call: &Call) -> Result<Option<Done>, Problem> {
    let tenant = &member.tenant;
    let receipt = app
        .dispatcher
        .done::<Teams>(tenant, tenant.as_str(), call)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    Ok(receipt.map(|receipt| Done(receipt.position)))
}

/// Another tenant's team is told apart from a mistake in the body before the body is judged.
async fn must_exist(app: &App, member: &Member, team: &TeamId) -> Result<(), Problem> {
    if teams(app, member).await?.contains(team) {
        Ok(())
    } else {
        Err(Problem::not_found())
    }
}

/// The place of the first of these users who does not exist, or no longer.
async fn unknown(app: &App, member: &Member, users: Vec<UserId>) -> Result<Option<usize>, Problem> {
    let tenant = &member.tenant;
    let looked_up = stream::iter(users).map(async |user: UserId| {
        let user = app
            .dispatcher
            .load::<User>(tenant, user.as_str(), Duration::ZERO)
            .await
            .map_err(|error| Problem::unavailable(&error))?;
        let status = user.aggregate.status();
        Ok::<_, Problem>(status.is_some_and(|status| status != UserStatus::Removed))
    });
    let exist: Vec<bool> = looked_up.buffered(LOOK_UPS).try_collect().await?;
    Ok(exist.iter().position(|exists| !exists))
}

impl From<TeamMemberRow> for MemberView {
    fn from(row: TeamMemberRow) -> Self {
        Self {
            user: row.user,
            role: row.role,
            since: row.since,
        }
    }
}
