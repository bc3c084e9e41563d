//! `POST /v1/invitations` and `/bulk`: people are asked.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use commands::{Call, Receipt};
use domain::invitation::{self, Invitation, InvitationCommand, InvitationRejection, MAX_ROLES, Status};
use domain::user::{Email, UserName};
use domain::{InvitationId, Position, RoleId, Timestamp};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Invited, TAG, done, invited_before, now, terms, token};
use crate::access_log::{RefusedParts, Showing, Shown, Shows};
use crate::answer::Written;
use crate::app::App;
use crate::auth::Member;
use crate::extract::{Body, BulkBody, object};
use crate::gifts::Gifts;
use crate::guard::{may, needs};
use crate::idempotency::{Unfinished, is_for_good};
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::settings;

/// The most invitations of one call.
const MAX_BULK: usize = 1_000;
/// Invitations of one call that are under way at a time.
const AT_A_TIME: usize = 32;
/// How often an address is tried to be freed of an invitation that is too late.
const TRIES: usize = 3;

/// This part's operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::WRITE_INVITATIONS, routes!(invite_user)))
        .routes(needs(may::WRITE_INVITATIONS, routes!(invite_users)))
}

/// Somebody to invite.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewInvitation {
    /// Their e-mail address, which will be the user's.
    #[schema(value_type = String, format = "email", example = "ada@example.org")]
    email: Email,
    /// The roles the user will have: at most 32, each of which the caller's key must cover.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 32)]
    roles: Vec<RoleId>,
    /// What they are called, as far as known; they can give another name: 1 to 100 characters.
    #[schema(value_type = Option<String>, example = "Ada")]
    name: Option<UserName>,
}

/// One of several: an object, whatever else serde would take for one.
#[derive(Debug, Deserialize)]
struct Item(#[serde(deserialize_with = "object")] NewInvitation);

/// People to invite.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewInvitations {
    /// 1 to 1000 of them.
    #[schema(value_type = Vec<NewInvitation>, min_items = 1, max_items = 1000)]
    invitations: Vec<Item>,
}

/// What became of one of several invitations.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
enum InvitationResult {
    /// It was sent.
    Invited(Invited),
    /// It was not.
    Rejected {
        /// The problem's code.
        code: &'static str,
        /// The problem in words.
        detail: String,
    },
}

/// What became of each, in the order in which they were sent.
#[derive(Debug, Serialize, ToSchema)]
struct InvitationResults {
    /// One result per invitation.
    results: Vec<InvitationResult>,
}

/// Invite somebody
///
/// Send the token to the address yourself, in your own words; it can be accepted once, until it expires (by the
/// setting `invitation_lifetime_hours`).
#[utoipa::path(
    post, path = "/v1/invitations", tag = TAG, request_body = NewInvitation,
    responses(
        (status = 201, description = "The invitation, and the token to send on.", body = Invited),
        (status = 409, description = "`already_invited`: An invitation to this address is pending. `email_taken`: A \
            user has this address.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn invite_user(
    member: Member,
    State(app): State<App>,
    Body(new): Body<NewInvitation>,
) -> Result<Showing<Written<Invited>>, Problem> {
    let asked = Asked::of(&app, &member, new).await?;
    let roles = Roles::of(&app, &member, asked.needs_roles()).await?;
    asked.check(&app, &member, &roles, "").await?;
    let (position, invited) = invite(&app, &member, asked).await?;
    let shown = Shown::invitation(&invited.id);
    Ok(Showing(Written::created(position, invited), shown))
}

/// Invite up to 1,000 people
///
/// Each is invited, or not, by itself. A body that is not valid, or roles the caller cannot give, invite nobody. Sent
/// again under its `Idempotency-Key`, a call invites whom the service could not invite then, and nobody twice.
#[utoipa::path(
    post, path = "/v1/invitations/bulk", tag = TAG, request_body = NewInvitations,
    responses((status = 200, description = "What became of each invitation.", body = InvitationResults))
)]
async fn invite_users(
    member: Member,
    State(app): State<App>,
    BulkBody(new): BulkBody<NewInvitations>,
) -> Result<Response, Problem> {
    if !(1..=MAX_BULK).contains(&new.invitations.len()) {
        return Err(Problem::invalid_body(
            "invitations",
            format!("must hold 1 to {MAX_BULK} invitations"),
        ));
    }
    let people = new.invitations.into_iter().enumerate();
    let people: Vec<_> = stream::iter(people.map(|(index, Item(new))| (member.nth(index), new)))
        .map(async |(member, new)| {
            let asked = Asked::of(&app, &member, new).await?;
            Ok::<_, Problem>((member, asked))
        })
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    let checked = check_all(&app, &member, &people).await?;
    let outcomes: Vec<_> = stream::iter(people.into_iter().zip(checked))
        .map(async |((member, asked), checked)| {
            checked?;
            invite(&app, &member, asked).await
        })
        .buffered(AT_A_TIME)
        .collect()
        .await;
    Ok(answer(outcomes))
}

/// Checks all before anybody is invited. Only where the request was here before and has invited some already, those
/// whom nothing allows any more are refused one by one: it can no longer invite nobody.
async fn check_all(
    app: &App,
    member: &Member,
    people: &[(Member, Asked)],
) -> Result<Vec<Result<(), Problem>>, Problem> {
    let any_roles = people.iter().any(|(_, asked)| asked.needs_roles());
    let roles = Roles::of(app, member, any_roles).await?;
    let begun = people.iter().any(|(_, asked)| asked.done.is_some());
    let mut checked = Vec::with_capacity(people.len());
    for (index, (_, asked)) in people.iter().enumerate() {
        let place = format!("invitations[{index}].");
        match asked.check(app, member, &roles, &place).await {
            Err(problem) if !begun => return Err(problem),
            outcome => checked.push(outcome),
        }
    }
    Ok(checked)
}

/// Where something was refused only for now, the answer is not kept under the request's key: sent again, it invites
/// the rest.
fn answer(outcomes: Vec<Result<(Position, Invited), Problem>>) -> Response {
    let last = outcomes.iter().flatten().map(|(position, _)| *position).max();
    let finished = outcomes.iter().all(|outcome| match outcome {
        Ok(_) => true,
        Err(problem) => is_for_good(problem.kind()),
    });
    let shown = outcomes.iter().flatten();
    let shown = shown.map(|(_, invited)| Shown::invitation(&invited.id)).collect();
    let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    let refused = refused.map(Problem::kind).collect();
    let results = outcomes.into_iter().map(|outcome| match outcome {
        Ok((_, invited)) => InvitationResult::Invited(invited),
        Err(problem) => InvitationResult::Rejected {
            code: problem.kind().code(),
            detail: problem.detail().to_owned(),
        },
    });
    let written = Written {
        status: StatusCode::OK,
        positions: last.into_iter().collect(),
        body: InvitationResults {
            results: results.collect(),
        },
    };
    let mut response = written.into_response();
    Shows::mark(&mut response, shown);
    response.extensions_mut().insert(RefusedParts(refused));
    if !finished {
        response.extensions_mut().insert(Unfinished);
    }
    response
}

/// Somebody to invite, and what the request did about them when it was here before.
struct Asked {
    new: NewInvitation,
    id: InvitationId,
    call: Call,
    done: Option<Receipt>,
}

impl Asked {
    async fn of(app: &App, member: &Member, new: NewInvitation) -> Result<Self, Problem> {
        let id = InvitationId::new(member.ulid("invitation"));
        let call = member.meta("InviteUser");
        let done = done(app, member, &id, &call).await?;
        Ok(Self { new, id, call, done })
    }

    fn needs_roles(&self) -> bool {
        self.done.is_none() && !self.new.roles.is_empty()
    }

    /// Whether they can be invited, who stand at `place` of the body.
    async fn check(&self, app: &App, member: &Member, roles: &Roles<'_>, place: &str) -> Result<(), Problem> {
        if self.done.is_some() {
            return Ok(());
        }
        let (email, tenant) = (&self.new.email, &member.tenant);
        settings::admit_email(app, tenant, email, &format!("{place}email")).await?;
        roles.check(&self.new.roles, &format!("{place}roles"))
    }
}

/// What the caller can give, read only where something is given.
struct Roles<'m>(Option<Gifts<'m>>);

impl<'m> Roles<'m> {
    async fn of(app: &App, member: &'m Member, needed: bool) -> Result<Self, Problem> {
        Ok(Self(if needed {
            Some(Gifts::of(app, member).await?)
        } else {
            None
        }))
    }

    fn check(&self, roles: &[RoleId], path: &str) -> Result<(), Problem> {
        if roles.len() > MAX_ROLES {
            return Err(Problem::invalid_body(
                path,
                format!("must hold at most {MAX_ROLES} roles"),
            ));
        }
        match &self.0 {
            Some(gifts) if !roles.is_empty() => gifts.roles(roles, path).map(drop),
            _ => Ok(()),
        }
    }
}

async fn invite(app: &App, member: &Member, asked: Asked) -> Result<(Position, Invited), Problem> {
    let Asked { new, id, call, done } = asked;
    if let Some(receipt) = done {
        // The user who has the address by now may be the very one whom this invitation made.
        return Ok((receipt.position, invited_before(app, member, id).await?));
    }
    must_be_nobody(app, member, &new.email).await?;
    let (token, expires_at) = token(app, member, &id).await?;
    let command = InvitationCommand::Invite {
        email: new.email.clone(),
        name: new.name,
        roles: new.roles.into_iter().collect(),
        token: token.id,
        expires_at,
    };
    for _ in 0..TRIES {
        let (command, call) = (command.clone(), call.clone());
        let executed = app
            .dispatcher
            .execute::<Invitation>(&member.tenant, id.as_str(), command, call)
            .await;
        match executed {
            Ok(receipt) => {
                let token = token.text.to_string();
                let invited = Invited {
                    id,
                    token,
                    expires_at,
                };
                return Ok((receipt.position, invited));
            }
            Err(commands::Error::Taken {
                kind: invitation::CLAIM,
            }) => {
                free(app, member, &new.email).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Problem::new(
        ProblemType::Conflict,
        "Nothing was changed; send the request again.",
    ))
}

/// Whoever is a user already is not invited; the append that accepts judges it again.
async fn must_be_nobody(app: &App, member: &Member, email: &Email) -> Result<(), Problem> {
    let holder = app
        .dispatcher
        .holder(&member.tenant, "email", &email.folded())
        .await;
    match holder.map_err(|error| Problem::unavailable(&error))? {
        None => Ok(()),
        Some(_) => Err(Problem::new(
            ProblemType::EmailTaken,
            "A user of this tenant has this e-mail address.",
        )),
    }
}

/// Notes that the invitation which holds an address is too late, where it is; it is a problem where it is not.
async fn free(app: &App, member: &Member, email: &Email) -> Result<(), Problem> {
    let holder = app
        .dispatcher
        .holder(&member.tenant, invitation::CLAIM, &email.folded())
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    let named = holder.as_deref().and_then(|holder| holder.split_once('.'));
    let Some(Ok(id)) = named.map(|(_, id)| id.parse::<InvitationId>()) else {
        return Ok(());
    };
    let at: Timestamp = now();
    if terms(app, member, &id).await?.status(at) == Status::Pending {
        return Err(Problem::new(
            ProblemType::AlreadyInvited,
            format!("The invitation {id} to this address is pending: resend it, or revoke it first."),
        ));
    }
    let meta = member.meta("ExpireInvitation");
    let expired = app
        .dispatcher
        .execute::<Invitation>(
            &member.tenant,
            id.as_str(),
            InvitationCommand::Expire { at },
            meta,
        )
        .await;
    match expired {
        // Sent again in between: the next try finds it pending.
        Ok(_) | Err(commands::Error::Rejected(InvitationRejection::InTime)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
