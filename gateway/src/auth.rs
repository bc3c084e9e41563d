//! Authentication: who calls. The tenant comes from the credential and from nowhere else.
//!
//! An API key is `tdk_` + 26 characters of the tenant's ULID + 26 of the key's ULID + 43 of base64url for 32 random
//! bytes. It therefore names the one aggregate that can vouch for it, which is loaded from the log itself, so a key
//! works as soon as its tenant is acknowledged; that somebody holds it is proved against [`Credentials`]. The
//! platform administrator's key is any other `tdk_…`, given by the operator or drawn at the first start.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use commands::Call;
use domain::api_key::ApiKey;
use domain::tenant::Tenant;
use domain::{Actor, Grant, KeyId, Meta, TenantId, Timestamp};
use subtle::ConstantTimeEq;
use ulid::Ulid;
use zeroize::Zeroizing;

use crate::app::App;
use crate::config::Secret;
use crate::credentials::Credentials;
use crate::draw::Draw;
use crate::layers::RequestContext;
use crate::problem::{Problem, ProblemType};

const PREFIX: &str = "tdk_";
const ULID: usize = 26;
const SECRET: usize = 43;

/// How old what is known of a key or tenant may be: a revocation takes effect within this time in every process.
const MAX_AGE: Duration = Duration::from_secs(5);

/// A new API key; its text is shown to its holder once.
pub(crate) struct NewKey {
    /// Its id.
    pub(crate) id: KeyId,
    /// The key itself.
    pub(crate) text: Zeroizing<String>,
}

impl NewKey {
    /// Draws a key for a tenant.
    pub(crate) fn draw(tenant: Ulid, draw: &Draw) -> Self {
        let key = draw.ulid("api key");
        let secret = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(draw.secret("api key").as_slice()));
        Self {
            id: KeyId::new(key),
            text: Zeroizing::new(format!("{PREFIX}{tenant}{key}{}", secret.as_str())),
        }
    }
}

/// The tenant and the key that an API key's text names; none if it has not the form.
fn named(text: &str) -> Option<(TenantId, KeyId)> {
    let rest = text.strip_prefix(PREFIX)?;
    if rest.len() != 2 * ULID + SECRET || !rest.is_ascii() {
        return None;
    }
    let tenant = format!("{}{}", TenantId::PREFIX, &rest[..ULID]).parse().ok()?;
    let key = format!("{}{}", KeyId::PREFIX, &rest[ULID..2 * ULID])
        .parse()
        .ok()?;
    Some((tenant, key))
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) enum Principal {
    /// The platform's administrator.
    Administrator,
    /// The holder of a tenant's key.
    Key(Arc<KeyHolder>),
}

/// The holder of a tenant's key.
#[derive(Debug)]
pub(crate) struct KeyHolder {
    /// For whom they act.
    pub(crate) tenant: TenantId,
    /// Their key.
    pub(crate) key: KeyId,
    /// What it may be used for.
    pub(crate) scopes: Vec<Grant>,
}

/// Tells who holds a credential.
pub(crate) struct Authority {
    dispatcher: commands::Dispatcher,
    credentials: Credentials,
    administrator: [u8; 32],
}

impl Authority {
    /// Over the log of keys and tenants.
    pub(crate) fn new(dispatcher: commands::Dispatcher, credentials: Credentials, admin: &Secret) -> Self {
        let administrator = credentials.hash(admin.expose());
        Self {
            dispatcher,
            credentials,
            administrator,
        }
    }

    /// Keeps what a new key will be checked against, before it is issued.
    pub(crate) async fn keep(&self, tenant: &TenantId, key: &NewKey) -> Result<(), Problem> {
        let kept = self.credentials.keep(tenant, key).await;
        kept.map_err(|error| Problem::unavailable(&error))
    }

    /// Who holds the credential that a request carries.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Problem> {
        let refused = || {
            Problem::new(
                ProblemType::Unauthenticated,
                "Send the header `Authorization: Bearer <key>` with a valid API key.",
            )
        };
        let text = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(refused)?;
        let (scheme, key) = text.split_once(' ').ok_or_else(refused)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused());
        }
        let key = key.trim();
        let hash = self.credentials.hash(key);
        if bool::from(hash.ct_eq(&self.administrator)) {
            return Ok(Principal::Administrator);
        }
        let (tenant, id) = named(key).ok_or_else(refused)?;
        self.holder(tenant, id, &hash)
            .await?
            .map(|holder| Principal::Key(Arc::new(holder)))
            .ok_or_else(refused)
    }

    /// Who holds the key with this hash; none if it is not valid.
    async fn holder(
        &self,
        tenant: TenantId,
        id: KeyId,
        hash: &[u8; 32],
    ) -> Result<Option<KeyHolder>, Problem> {
        let key = self.load::<ApiKey>(&tenant, id.as_str()).await?;
        if !key.is_valid() {
            return Ok(None);
        }
        let proved = self.credentials.matches(&tenant, &id, hash).await;
        if !proved.map_err(|error| Problem::unavailable(&error))? {
            return Ok(None);
        }
        // A key is issued before its tenant is provisioned: it is worth nothing until then.
        let platform = TenantId::platform();
        if !self.load::<Tenant>(&platform, tenant.as_str()).await?.exists() {
            return Ok(None);
        }
        let scopes = key.scopes().iter().filter_map(|scope| scope.parse().ok());
        Ok(Some(KeyHolder {
            scopes: scopes.collect(),
            tenant,
            key: id,
        }))
    }

    /// Loads what vouches; that something does not exist is believed only of the log itself.
    async fn load<A: domain::Root>(&self, tenant: &TenantId, id: &str) -> Result<A, Problem> {
        let mut loaded = self.dispatcher.load::<A>(tenant, id, MAX_AGE).await;
        if matches!(&loaded, Ok(loaded) if loaded.version == 0) {
            loaded = self.dispatcher.load::<A>(tenant, id, Duration::ZERO).await;
        }
        loaded
            .map(|loaded| loaded.aggregate)
            .map_err(|error| Problem::unavailable(&error))
    }
}

/// The caller of a tenant's route: the holder of one of its keys.
pub(crate) struct Member {
    /// For whom everything is done.
    pub(crate) tenant: TenantId,
    holder: Arc<KeyHolder>,
    caller: Caller,
}

/// The caller of a platform route: the platform's administrator.
pub(crate) struct Administrator {
    caller: Caller,
}

#[derive(Clone)]
struct Caller {
    actor: Actor,
    request: RequestContext,
    draw: Draw,
    /// The ids of the request's commands so far; the first led to the others.
    commands: Arc<Mutex<Vec<String>>>,
}

impl Caller {
    fn of(parts: &Parts, actor: Actor) -> Self {
        Self {
            actor,
            request: RequestContext::of(parts),
            draw: parts.extensions.get().cloned().unwrap_or_else(Draw::fresh),
            commands: Arc::default(),
        }
    }

    fn call(&self, command: &str) -> Call {
        let (command_id, causation_id) = self.next_command(command);
        let meta = Meta {
            causation_id,
            command_id,
            command: command.to_owned(),
            actor: self.actor.clone(),
            request_id: Some(self.request.id.clone()),
            origin: self.request.origin.map(|address| address.to_string()),
            correlation_id: Some(self.request.correlation_id.clone()),
            traceparent: self.request.traceparent.clone(),
            at: Timestamp::from(SystemTime::now()),
        };
        Call {
            meta,
            repeated: self.draw.repeats().is_some(),
        }
    }
}

impl Caller {
    /// The id of a command, and of the one that led to it. The same command again has another id, the same each time
    /// the request is repeated.
    fn next_command(&self, command: &str) -> (String, Option<String>) {
        let mut ids = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let mut id = self.draw.ulid(command).to_string();
        let mut number = 1;
        while ids.contains(&id) {
            number += 1;
            id = self.draw.ulid(&format!("{command}/{number}")).to_string();
        }
        let cause = ids.first().cloned();
        ids.push(id.clone());
        (id, cause)
    }
}

impl Member {
    /// Where a command of this caller comes from. A request that sends the same command several times, and not in an
    /// order that is its own, takes each from [`Member::nth`] or [`Member::apart`].
    pub(crate) fn meta(&self, command: &str) -> Call {
        self.caller.call(command)
    }

    /// What this request draws: ids and secrets.
    pub(crate) fn draw(&self) -> &Draw {
        &self.caller.draw
    }

    /// The ULID that this request draws under a name.
    pub(crate) fn ulid(&self, name: &str) -> Ulid {
        self.caller.draw.ulid(name)
    }

    /// The same caller for the n-th of several like things in one request.
    pub(crate) fn nth(&self, n: usize) -> Self {
        self.drawing(self.caller.draw.nth(n))
    }

    /// The same caller for one of several things in one request, by its name.
    pub(crate) fn apart(&self, name: &str) -> Self {
        self.drawing(self.caller.draw.apart(name))
    }

    fn drawing(&self, draw: Draw) -> Self {
        Self {
            tenant: self.tenant.clone(),
            holder: self.holder.clone(),
            caller: Caller {
                draw,
                commands: Arc::default(),
                ..self.caller.clone()
            },
        }
    }

    /// Whether the caller's key grants all that this grants: nobody hands on more than they have.
    pub(crate) fn holds(&self, grant: &Grant) -> bool {
        self.holder.scopes.iter().any(|own| own.implies(grant))
    }

    /// What the caller's key grants.
    pub(crate) fn grants(&self) -> &[Grant] {
        &self.holder.scopes
    }

    /// Where an event published by this caller comes from.
    pub(crate) fn origin(&self) -> commands::Origin {
        commands::Origin {
            actor: self.caller.actor.clone(),
            request_id: Some(self.caller.request.id.clone()),
            correlation_id: Some(self.caller.request.correlation_id.clone()),
            causation_id: {
                let ids = self.caller.commands.lock();
                ids.unwrap_or_else(PoisonError::into_inner).first().cloned()
            },
            traceparent: self.caller.request.traceparent.clone(),
            at: Timestamp::from(SystemTime::now()),
            repeats: self.caller.draw.repeats(),
        }
    }
}

impl Administrator {
    /// Where a command of this caller comes from.
    pub(crate) fn meta(&self, command: &str) -> Call {
        self.caller.call(command)
    }

    /// What this request draws: ids and secrets.
    pub(crate) fn draw(&self) -> &Draw {
        &self.caller.draw
    }
}

impl FromRequestParts<App> for Member {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let Some(Principal::Key(holder)) = parts.extensions.get::<Principal>() else {
            return Err(unguarded());
        };
        let holder = holder.clone();
        tracing::Span::current().record("tenant.id", holder.tenant.as_str());
        Ok(Self {
            tenant: holder.tenant.clone(),
            caller: Caller::of(parts, Actor::ApiKey(holder.key.as_str().to_owned())),
            holder,
        })
    }
}

impl FromRequestParts<App> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        match parts.extensions.get::<Principal>() {
            Some(Principal::Administrator) => Ok(Self {
                caller: Caller::of(parts, Actor::PlatformAdmin),
            }),
            _ => Err(unguarded()),
        }
    }
}

/// Whatever the guard did not let through has no caller.
fn unguarded() -> Problem {
    Problem::new(
        ProblemType::Forbidden,
        "This address does not say what it needs, so nobody may use it.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_tenant_and_itself() {
        let tenant = Ulid::generate();
        let key = NewKey::draw(tenant, &Draw::fresh());
        assert_eq!(named(&key.text), Some((TenantId::new(tenant), key.id.clone())));
        assert_eq!(key.text.len(), PREFIX.len() + 2 * ULID + SECRET);
    }

    #[test]
    fn what_has_not_the_form_of_a_key_names_nothing() {
        let good = NewKey::draw(Ulid::generate(), &Draw::fresh()).text.to_string();
        let lower = good.to_lowercase();
        let (short, long) = (&good[..good.len() - 1], format!("{good}A"));
        let foreign = format!("tdk_{}", "ä".repeat(47));
        for text in ["", "tdk_", "Bearer", &good[4..], short, &long, &lower, &foreign] {
            assert_eq!(named(text), None, "{text:?}");
        }
    }
}
