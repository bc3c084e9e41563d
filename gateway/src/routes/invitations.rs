//! `/v1/invitations`: people asked to become users of a tenant.
//!
//! The application that invites gets the token and sends it to the person in its own words; accepting needs nothing
//! but the token.

mod accept;
mod invite;

use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use commands::{Call, Receipt};
use domain::invitation::{Invitation, InvitationCommand, InvitationRejection, Status, Terms};
use domain::user::Email;
use domain::{InvitationId, RoleId, TenantId, Timestamp, UserId};
use projections::{InvitationFilter, InvitationRow, Page};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access_log::{Showing, Shown};
use crate::answer::{Done, Written};
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Id, Limit, Parameters};
use crate::gifts::Gifts;
use crate::guard::{may, needs};
use crate::invitation_tokens::NewToken;
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::settings;

const TAG: &str = "invitations";
const READ_MODEL: &[&str] = &["invitations"];

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(invite::router())
        .merge(accept::router())
        .routes(needs(may::READ_INVITATIONS, routes!(list_invitations)))
        .routes(needs(may::READ_INVITATIONS, routes!(show_invitation)))
        .routes(needs(may::WRITE_INVITATIONS, routes!(resend_invitation)))
        .routes(needs(may::WRITE_INVITATIONS, routes!(revoke_invitation)))
}

/// An invitation that was sent, and the token to send on.
#[derive(Debug, Serialize, ToSchema)]
struct Invited {
    /// The invitation's id.
    #[schema(value_type = String, example = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: InvitationId,
    /// What the person accepts it with; send it to their address, and to nobody else. It is shown here and never
    /// again.
    #[schema(example = "tdi_…")]
    token: String,
    /// From when on it can no longer be accepted.
    #[schema(value_type = String, format = "date-time")]
    expires_at: Timestamp,
}

/// An invitation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invitation)]
struct InvitationView {
    /// The invitation's id.
    #[schema(value_type = String)]
    id: InvitationId,
    /// To whom.
    email: String,
    /// What they are called, as far as the inviter knew.
    name: Option<String>,
    /// The roles they will have, or have got.
    #[schema(value_type = Vec<String>)]
    roles: Vec<RoleId>,
    /// `pending`, `accepted`, `revoked` or `expired`.
    #[schema(value_type = String, example = "pending")]
    status: Status,
    /// From when on it can, or could, no longer be accepted.
    #[schema(value_type = String, format = "date-time")]
    expires_at: Timestamp,
    /// How often it was sent.
    sent: u32,
    /// The user it made.
    #[schema(value_type = Option<String>)]
    user: Option<UserId>,
    /// When it was first sent.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = "date-time")]
    updated_at: Timestamp,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct InvitationQuery {
    /// Only those that are `pending`, `accepted`, `revoked` or `expired` now.
    #[param(value_type = Option<String>)]
    status: Option<Status>,
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List invitations
#[utoipa::path(
    get, path = "/v1/invitations", tag = TAG, params(InvitationQuery),
    responses((status = 200, description = "A page of invitations, newest first.", body = List<InvitationView>))
)]
async fn list_invitations(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<InvitationQuery>,
) -> Result<Found<List<InvitationView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let filter = InvitationFilter {
        status: query.status,
        now: now(),
    };
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    let invitations = app.read_models.invitations(&member.tenant);
    Ok(Found::list(
        invitations.list(&filter, &page).await?,
        InvitationView::from,
    ))
}

/// Show an invitation
#[utoipa::path(
    get, path = "/v1/invitations/{id}", tag = TAG,
    params(("id" = String, Path, description = "The invitation's id.")),
    responses((status = 200, description = "The invitation.", body = InvitationView))
)]
async fn show_invitation(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<InvitationId>,
) -> Result<Found<InvitationView>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let invitations = app.read_models.invitations(&member.tenant);
    Found::one(invitations.get(&id, now()).await?, InvitationView::from)
}

/// Send an invitation again
///
/// It gets another token and a whole lifetime from now on, also when it was too late already; every token before is
/// worthless. Whoever sends it again must be able to give its roles, and its address must still be in a domain that the
/// tenant allows.
#[utoipa::path(
    post, path = "/v1/invitations/{id}/resend", tag = TAG,
    params(("id" = String, Path, description = "The invitation's id.")),
    responses(
        (status = 200, description = "The new token, to send on.", body = Invited),
        (status = 409, description = "`not_possible`: It was accepted or revoked, its address was invited anew, or \
            the tenant no longer allows the address.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn resend_invitation(
    member: Member,
    State(app): State<App>,
    Id(id): Id<InvitationId>,
) -> Result<Showing<Written<Invited>>, Problem> {
    let call = member.meta("ResendInvitation");
    let shown = Shown::invitation(&id);
    let (receipt, body) = match done(&app, &member, &id, &call).await? {
        Some(receipt) => (receipt, invited_before(&app, &member, id).await?),
        None => send_again(&app, &member, id, call).await?,
    };
    let written = Written {
        status: StatusCode::OK,
        positions: vec![receipt.position],
        body,
    };
    Ok(Showing(written, shown))
}

async fn send_again(
    app: &App,
    member: &Member,
    id: InvitationId,
    call: Call,
) -> Result<(Receipt, Invited), Problem> {
    let terms = terms(app, member, &id).await?;
    must_give(app, member, &terms).await?;
    must_be_admitted(app, &member.tenant, &terms.email).await?;
    let (token, expires_at) = token(app, member, &id).await?;
    let command = InvitationCommand::Resend {
        token: token.id,
        expires_at,
    };
    let receipt = execute(app, member, &id, command, call).await?;
    let token = token.text.to_string();
    Ok((
        receipt,
        Invited {
            id,
            token,
            expires_at,
        },
    ))
}

/// Revoke an invitation
///
/// Its token is worthless, and its address can be invited anew.
#[utoipa::path(
    post, path = "/v1/invitations/{id}/revoke", tag = TAG,
    params(("id" = String, Path, description = "The invitation's id.")),
    responses(
        (status = 204, description = "It can no longer be accepted."),
        (status = 409, description = "`not_possible`: It was accepted, or its address was invited anew.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn revoke_invitation(
    member: Member,
    State(app): State<App>,
    Id(id): Id<InvitationId>,
) -> Result<Done, Problem> {
    let meta = member.meta("RevokeInvitation");
    let receipt = execute(&app, &member, &id, InvitationCommand::Revoke, meta).await?;
    Ok(Done(receipt.position))
}

/// Changes an invitation, which must not be over.
async fn execute(
    app: &App,
    member: &Member,
    id: &InvitationId,
    command: InvitationCommand,
    call: Call,
) -> Result<Receipt, Problem> {
    let changed = app
        .dispatcher
        .execute::<Invitation>(&member.tenant, id.as_str(), command, call)
        .await;
    changed.map_err(|error| match error {
        commands::Error::Rejected(InvitationRejection::Over(status)) => Problem::new(
            ProblemType::NotPossible,
            format!("The invitation is {status}; invite the address anew."),
        ),
        error => error.into(),
    })
}

/// What the request did when it was here before. Settings, roles and users may have changed since.
async fn done(
    app: &App,
    member: &Member,
    id: &InvitationId,
    call: &Call,
) -> Result<Option<Receipt>, Problem> {
    let done = app
        .dispatcher
        .done::<Invitation>(&member.tenant, id.as_str(), call)
        .await;
    done.map_err(|error| Problem::unavailable(&error))
}

/// What a request that has sent this invitation already answered, or would have.
async fn invited_before(app: &App, member: &Member, id: InvitationId) -> Result<Invited, Problem> {
    let token = NewToken::draw(&member.tenant, &id, member.draw());
    let terms = terms(app, member, &id).await?;
    let expires_at = if terms.token == token.id {
        terms.expires_at
    } else {
        // Another request has sent it again, and this token is worthless: the invitation tells only of the new one.
        expiry(member, lifetime(app, member).await?)
    };
    Ok(Invited {
        id,
        token: token.text.to_string(),
        expires_at,
    })
}

/// The tenant may have narrowed the domains it allows since the address was invited.
async fn must_be_admitted(app: &App, tenant: &TenantId, email: &Email) -> Result<(), Problem> {
    if settings::current(app, tenant).await?.admits(email) {
        return Ok(());
    }
    Err(Problem::new(
        ProblemType::NotPossible,
        "The invitation's address is in none of the domains that the tenant's setting allowed_email_domains names.",
    ))
}

/// Whoever gets a token can hand on what the invitation gives.
async fn must_give(app: &App, member: &Member, terms: &Terms) -> Result<(), Problem> {
    if terms.roles.is_empty() {
        return Ok(());
    }
    let gifts = Gifts::of(app, member).await?;
    for role in &terms.roles {
        match gifts.role(role) {
            // A role that is retired meanwhile grants nothing.
            Err(problem) if problem.kind() != ProblemType::NotFound => return Err(problem),
            _ => {}
        }
    }
    Ok(())
}

/// What an invitation offers, as the log has it now.
async fn terms(app: &App, member: &Member, id: &InvitationId) -> Result<Terms, Problem> {
    let loaded = app
        .dispatcher
        .load::<Invitation>(&member.tenant, id.as_str(), Duration::ZERO)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    loaded.aggregate.terms().cloned().ok_or_else(Problem::not_found)
}

/// Draws a token for an invitation and keeps what it will be checked against, before the invitation names it.
async fn token(app: &App, member: &Member, id: &InvitationId) -> Result<(NewToken, Timestamp), Problem> {
    let lifetime = lifetime(app, member).await?;
    let token = NewToken::draw(&member.tenant, id, member.draw());
    app.invitation_tokens
        .keep((&member.tenant, id), &token, lifetime)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    Ok((token, expiry(member, lifetime)))
}

async fn lifetime(app: &App, member: &Member) -> Result<Duration, Problem> {
    let settings = settings::current(app, &member.tenant).await?;
    let hours = settings.invitation_lifetime_hours.get();
    Ok(Duration::from_hours(u64::from(hours)))
}

/// Counted from when the request was first here, so that a repeated one says the same.
fn expiry(member: &Member, lifetime: Duration) -> Timestamp {
    let begun = i64::try_from(member.ulid("invitation token").timestamp_ms()).unwrap_or(i64::MAX);
    Timestamp::from_millis(begun).saturating_add(lifetime)
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

impl From<InvitationRow> for InvitationView {
    fn from(row: InvitationRow) -> Self {
        Self {
            id: row.id,
            email: row.email,
            name: row.name,
            roles: row.roles,
            status: row.status,
            expires_at: row.expires_at,
            sent: row.sent,
            user: row.user,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl From<InvitationRejection> for Problem {
    fn from(rejection: InvitationRejection) -> Self {
        match rejection {
            InvitationRejection::NotFound => Self::not_found(),
            // Only an id drawn twice could lead here.
            InvitationRejection::AlreadyCreated => {
                Self::new(ProblemType::Conflict, "Send the request again.")
            }
            InvitationRejection::Over(status) => accept::gone(status),
            InvitationRejection::TokenReplaced => accept::refused(),
            InvitationRejection::InTime => {
                Self::new(ProblemType::NotPossible, "The invitation can still be accepted.")
            }
        }
    }
}
