//! `POST /v1/invitations/accept`: somebody becomes a user by their own word.

use std::time::Duration;

use axum::extract::State;
use commands::{Call, Dispatcher, Order, Receipt};
use domain::invitation::{Invitation, InvitationCommand, Status, Terms};
use domain::tenant::Counted;
use domain::user::{Attributes, User, UserCommand, UserName};
use domain::{InvitationId, TenantId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{TAG, must_be_admitted, now};
use crate::answer::Written;
use crate::app::App;
use crate::auth::Anyone;
use crate::extract::Body;
use crate::guard::{Need, needs};
use crate::invitation_tokens::named;
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::{quotas, tenancy};

/// This part's operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(needs(Need::Nothing, routes!(accept_invitation)))
}

/// An invitation to accept.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Acceptance {
    /// The token that came with the invitation.
    #[schema(example = "tdi_…")]
    token: String,
    /// What the user shall be called: 1 to 100 characters; the name in the invitation unless given.
    #[schema(value_type = Option<String>, example = "Ada")]
    name: Option<UserName>,
}

/// Somebody who has become a user.
#[derive(Debug, Serialize, ToSchema)]
struct Welcome {
    /// The user's id.
    #[schema(value_type = String, example = "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    user: UserId,
}

/// Accept an invitation
///
/// The token is all it takes: this call needs no key. The user has the invitation's address and roles. The invitation
/// is used up and the user registered in one step: never one without the other.
#[utoipa::path(
    post, path = "/v1/invitations/accept", tag = TAG, request_body = Acceptance,
    responses(
        (status = 201, description = "The user is registered.", body = Welcome),
        (status = 429, description = "`rate_limited`: Too many wrong tokens came from this address.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`: This is not a valid token.", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "`email_taken`: A user has the address meanwhile. \
            `limit_reached`: The tenant has as many users as its quota. `not_possible`: The tenant no longer \
            allows the address.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "`invitation_gone`: It was accepted or revoked before, or has expired.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn accept_invitation(
    anyone: Anyone,
    State(app): State<App>,
    Body(acceptance): Body<Acceptance>,
) -> Result<Written<Welcome>, Problem> {
    app.strikes.admit(anyone.origin().as_ref())?;
    let (tenant, id) = named(&acceptance.token).ok_or_else(refused)?;
    let proved = proved(&app, &tenant, &id, &acceptance.token).await;
    let terms = proved.inspect_err(|problem| {
        if problem.kind() == ProblemType::Unauthenticated {
            app.strikes.count(anyone.origin().as_ref());
        }
    })?;
    may_change(&app, &tenant).await?;
    let invitee = anyone.invited(&tenant, &id);
    let user = UserId::new(invitee.ulid("user"));
    let calls = (invitee.meta("AcceptInvitation"), invitee.meta("RegisterUser"));
    let done = app
        .dispatcher
        .done::<User>(&tenant, user.as_str(), &calls.1)
        .await;
    let done = done.map_err(|error| Problem::unavailable(&error))?;
    let receipt = if let Some(receipt) = done {
        receipt
    } else {
        let (accept, register) = orders(&app, &tenant, terms, acceptance.name, &user).await?;
        let (accept, register) = ((&id, accept, calls.0), (&user, register, calls.1));
        become_user(&app, &tenant, accept, register).await?
    };
    Ok(Written::created(receipt.position, Welcome { user }))
}

/// What makes a user of an invitation, as things stand now.
async fn orders(
    app: &App,
    tenant: &TenantId,
    terms: Terms,
    name: Option<UserName>,
    user: &UserId,
) -> Result<(InvitationCommand, UserCommand), Problem> {
    let at = now();
    let status = terms.status(at);
    // What is over says so, whatever else is against it.
    if status == Status::Pending {
        must_be_admitted(app, tenant, &terms.email).await?;
    }
    let Some(name) = name.or(terms.name) else {
        return Err(match status {
            Status::Pending => Problem::invalid_body("name", "must be given: the invitation names nobody"),
            over => gone(over),
        });
    };
    let accept = InvitationCommand::Accept {
        token: terms.token,
        user: user.clone(),
        at,
    };
    let register = UserCommand::Register {
        email: terms.email,
        name,
        attributes: Attributes::default(),
        roles: terms.roles,
    };
    Ok((accept, register))
}

/// Uses the invitation up and registers the user, if the tenant's quota allows one more.
async fn become_user(
    app: &App,
    tenant: &TenantId,
    (id, accept, taken): (&InvitationId, InvitationCommand, Call),
    (user, register, registered): (&UserId, UserCommand, Call),
) -> Result<Receipt, Problem> {
    let there = is_there(app, tenant, user);
    let make = |dispatcher: Dispatcher| {
        let accept = Order::<Invitation> {
            id: id.as_str(),
            command: accept.clone(),
            meta: taken.clone(),
        };
        let register = Order::<User> {
            id: user.as_str(),
            command: register.clone(),
            meta: registered.clone(),
        };
        async move { dispatcher.execute_together(tenant, accept, register).await }
    };
    let (_, receipt) = quotas::create(app, tenant, Counted::Users, there, make).await?;
    Ok(receipt)
}

/// Whether the user has come into being, which a request that is repeated may have done.
async fn is_there(app: &App, tenant: &TenantId, user: &UserId) -> Result<bool, Problem> {
    let loaded = app
        .dispatcher
        .load::<User>(tenant, user.as_str(), Duration::ZERO)
        .await;
    loaded
        .map(|loaded| loaded.version > 0)
        .map_err(|error| Problem::unavailable(&error))
}

/// A tenant that may not change gets no users.
async fn may_change(app: &App, tenant: &TenantId) -> Result<(), Problem> {
    let tenant = tenancy::tenant(app, tenant).await?;
    tenant.standing().map_or(Ok(()), tenancy::may_change)
}

/// What an invitation offers to whoever has proved to hold its token. What is wrong about a token is not told.
async fn proved(app: &App, tenant: &TenantId, id: &InvitationId, token: &str) -> Result<Terms, Problem> {
    let loaded = app
        .dispatcher
        .load::<Invitation>(tenant, id.as_str(), Duration::ZERO)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    let terms = loaded.aggregate.terms().cloned().ok_or_else(refused)?;
    let matches = app
        .invitation_tokens
        .matches((tenant, id), &terms.token, token)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    if matches { Ok(terms) } else { Err(refused()) }
}

/// The token proves nothing.
pub(super) fn refused() -> Problem {
    Problem::new(
        ProblemType::Unauthenticated,
        "This is not a valid token: it was mistyped, or the invitation was sent again with another.",
    )
}

/// The invitation is over.
pub(super) fn gone(status: Status) -> Problem {
    Problem::new(
        ProblemType::InvitationGone,
        format!("The invitation is {status}; ask for another."),
    )
}
