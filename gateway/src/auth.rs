//! Authentication: who calls. The tenant comes from the credential and from nowhere else.
//!
//! An API key's text names the one aggregate that can vouch for it, which is loaded from the log itself, so a key
//! works as soon as it is acknowledged; that somebody holds it is proved against [`Credentials`]. The platform
//! administrator's key is any other `tdk_…`, given by the operator or drawn at the first start.

mod key;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use commands::Call;
use domain::api_key::{ApiKey, RateLimit};
use domain::tenant::Tenant;
use domain::{Actor, Bounded, Grant, InvitationId, KeyId, Meta, SourceAddress, TenantId, Timestamp};
use moka::sync::Cache;
use subtle::ConstantTimeEq;
use ulid::Ulid;

use crate::app::App;
use crate::config::Secret;
use crate::credentials::Credentials;
use crate::draw::Draw;
use crate::layers::RequestContext;
use crate::problem::{Problem, ProblemType};
use crate::rate::{Allowance, RateLimits, Sender};

pub(crate) use key::NewKey;
use key::named;

/// How old what is known of a key or tenant may be: a revocation takes effect within this time in every process.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(5);

/// How many holders of keys are remembered, for the time when the log cannot be asked.
const REMEMBERED: u64 = 10_000;

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) enum Principal {
    /// The platform's administrator.
    Administrator,
    /// The holder of a tenant's key.
    Key(Arc<KeyHolder>),
}

impl Principal {
    /// Of whom they are: of a tenant, or of the platform itself.
    pub(crate) fn tenant(&self) -> TenantId {
        match self {
            Self::Administrator => TenantId::platform(),
            Self::Key(holder) => holder.tenant.clone(),
        }
    }
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
    rate_limit: Option<RateLimit>,
}

/// Tells who holds a credential.
pub(crate) struct Authority {
    dispatcher: commands::Dispatcher,
    credentials: Credentials,
    administrator: [u8; 32],
    limits: RateLimits,
    /// Whoever has proved a key, by the hash of its text.
    remembered: Cache<[u8; 32], Arc<KeyHolder>>,
}

impl Authority {
    /// Over the log of keys and tenants.
    pub(crate) fn new(dispatcher: commands::Dispatcher, credentials: Credentials, admin: &Secret) -> Self {
        let administrator = credentials.hash(admin.expose());
        Self {
            dispatcher,
            credentials,
            administrator,
            limits: RateLimits::new(),
            remembered: Cache::new(REMEMBERED),
        }
    }

    /// Counts a request against the limit of who sends it, if they have one: what is left, or 429.
    pub(crate) fn count(&self, principal: &Principal) -> Result<Option<Allowance>, Problem> {
        match principal {
            Principal::Administrator => Ok(None),
            Principal::Key(holder) => holder
                .rate_limit
                .map(|limit| self.limits.take(Sender::Key(holder.key.clone()), limit))
                .transpose(),
        }
    }

    /// Counts a request against the limit of the tenant whose key sends it: 429 where it has sent too many.
    pub(crate) async fn count_for_tenant(&self, principal: &Principal) -> Result<(), Problem> {
        match principal {
            Principal::Key(holder) => self.count_of_tenant(&holder.tenant).await,
            Principal::Administrator => Ok(()),
        }
    }

    /// Counts what a source sends against its limit, and against its tenant's.
    pub(crate) async fn count_for_source(
        &self,
        address: &SourceAddress,
        limit: Option<RateLimit>,
    ) -> Result<(), Problem> {
        if let Some(limit) = limit {
            self.limits.take(Sender::Source(address.source.clone()), limit)?;
        }
        self.count_of_tenant(&address.tenant).await
    }

    async fn count_of_tenant(&self, id: &TenantId) -> Result<(), Problem> {
        let platform = TenantId::platform();
        let tenant = self.load::<Tenant>(&platform, id.as_str(), MAX_AGE).await?;
        let Some(requests) = tenant.quotas().requests_per_second else {
            return Ok(());
        };
        let limit = RateLimit {
            requests,
            per_seconds: Bounded::fixed::<1>(),
        };
        self.limits.take(Sender::Tenant(id.clone()), limit).map(|_| ())
    }

    /// Keeps what a new text of a key will be checked against, before the log says that it counts.
    pub(crate) async fn keep(&self, tenant: &TenantId, key: &NewKey) -> Result<(), Problem> {
        let kept = self.credentials.keep(tenant, key).await;
        kept.map_err(|error| Problem::unavailable(&error))
    }

    /// Who holds the credential that a request carries.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Problem> {
        let key = bearer(headers).ok_or_else(refused)?;
        let hash = self.credentials.hash(key);
        if bool::from(hash.ct_eq(&self.administrator)) {
            return Ok(Principal::Administrator);
        }
        let (tenant, id) = named(key).ok_or_else(refused)?;
        let holder = self.holder(tenant, id, &hash).await?.map(Arc::new);
        let holder = holder.ok_or_else(refused)?;
        self.remembered.insert(hash, Arc::clone(&holder));
        Ok(Principal::Key(holder))
    }

    /// Who held the credential when this process last saw it proved, without asking the log: for queries while the log
    /// is not trusted. Whether the key is still good is for the caller to find out.
    pub(crate) fn recall(&self, headers: &HeaderMap) -> Result<Option<Principal>, Problem> {
        let key = bearer(headers).ok_or_else(refused)?;
        let hash = self.credentials.hash(key);
        if bool::from(hash.ct_eq(&self.administrator)) {
            return Ok(Some(Principal::Administrator));
        }
        named(key).ok_or_else(refused)?;
        Ok(self.remembered.get(&hash).map(Principal::Key))
    }

    /// Who holds the key with this hash; none if it is not valid.
    async fn holder(
        &self,
        tenant: TenantId,
        id: KeyId,
        hash: &[u8; 32],
    ) -> Result<Option<KeyHolder>, Problem> {
        let mut key = self.load::<ApiKey>(&tenant, id.as_str(), MAX_AGE).await?;
        let mut proved = self.proves(&tenant, &id, &key, hash).await?;
        if !proved && !key.is_revoked() {
            // Another process may just have rotated it, or put off its expiry.
            key = self.load::<ApiKey>(&tenant, id.as_str(), Duration::ZERO).await?;
            proved = self.proves(&tenant, &id, &key, hash).await?;
        }
        // A key is issued before its tenant is provisioned: it is worth nothing until then.
        if !proved || !self.tenant(&tenant).await?.exists() {
            return Ok(None);
        }
        Ok(Some(KeyHolder {
            scopes: key.scopes().to_vec(),
            rate_limit: key.rate_limit(),
            tenant,
            key: id,
        }))
    }

    /// Who holds the credential of a call that carries others, at the time of one of these: long calls do not outlive
    /// their key.
    pub(crate) async fn renew(&self, principal: &Principal) -> Result<Principal, Problem> {
        let Principal::Key(holder) = principal else {
            return Ok(principal.clone());
        };
        let key = self
            .load::<ApiKey>(&holder.tenant, holder.key.as_str(), MAX_AGE)
            .await?;
        if !key.is_valid(Timestamp::from(SystemTime::now())) {
            return Err(Problem::new(
                ProblemType::Unauthenticated,
                "The key of this call was revoked or has expired meanwhile.",
            ));
        }
        Ok(Principal::Key(Arc::new(KeyHolder {
            scopes: key.scopes().to_vec(),
            rate_limit: key.rate_limit(),
            tenant: holder.tenant.clone(),
            key: holder.key.clone(),
        })))
    }

    /// Whether the text with this hash is one by which the key can be held now.
    async fn proves(
        &self,
        tenant: &TenantId,
        id: &KeyId,
        key: &ApiKey,
        hash: &[u8; 32],
    ) -> Result<bool, Problem> {
        for credential in key.credentials(Timestamp::from(SystemTime::now())) {
            let matches = self.credentials.matches(tenant, id, credential, hash).await;
            if matches.map_err(|error| Problem::unavailable(&error))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether there is such a tenant.
    pub(crate) async fn tenant_exists(&self, tenant: &TenantId) -> Result<bool, Problem> {
        Ok(self.tenant(tenant).await?.exists())
    }

    /// A tenant; that it does not exist is believed only of the log itself.
    async fn tenant(&self, tenant: &TenantId) -> Result<Tenant, Problem> {
        let platform = TenantId::platform();
        let known = self.load::<Tenant>(&platform, tenant.as_str(), MAX_AGE).await?;
        if known.exists() {
            return Ok(known);
        }
        self.load(&platform, tenant.as_str(), Duration::ZERO).await
    }

    async fn load<A: domain::Root>(
        &self,
        tenant: &TenantId,
        id: &str,
        max_age: Duration,
    ) -> Result<A, Problem> {
        let loaded = self.dispatcher.load::<A>(tenant, id, max_age).await;
        loaded
            .map(|loaded| loaded.aggregate)
            .map_err(|error| Problem::unavailable(&error))
    }
}

/// The text of the key that a request carries.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn refused() -> Problem {
    Problem::new(
        ProblemType::Unauthenticated,
        "Send the header `Authorization: Bearer <key>` with a valid API key.",
    )
}

/// The caller of a tenant's route: the holder of one of its keys.
pub(crate) struct Member {
    /// For whom everything is done.
    pub(crate) tenant: TenantId,
    holder: Arc<KeyHolder>,
    caller: Caller,
}

/// Whoever reads an audit trail: the holder of a tenant's key that tenant's, and the platform's administrator the
/// platform's own.
pub(crate) struct Auditor {
    /// Whose trail it is.
    pub(crate) tenant: TenantId,
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
            request: RequestContext::of(&parts.headers, &parts.extensions),
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
    /// Where an event published by this caller comes from.
    fn origin(&self) -> commands::Origin {
        commands::Origin {
            actor: self.actor.clone(),
            request_id: Some(self.request.id.clone()),
            correlation_id: Some(self.request.correlation_id.clone()),
            causation_id: {
                let ids = self.commands.lock();
                ids.unwrap_or_else(PoisonError::into_inner).first().cloned()
            },
            traceparent: self.request.traceparent.clone(),
            at: Timestamp::from(SystemTime::now()),
            repeats: self.draw.repeats(),
        }
    }

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

    /// What the caller's key may be used for.
    pub(crate) fn scopes(&self) -> &[Grant] {
        &self.holder.scopes
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
        self.caller.origin()
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

impl FromRequestParts<App> for Auditor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let principal = parts.extensions.get::<Principal>().ok_or_else(unguarded)?;
        let tenant = principal.tenant();
        tracing::Span::current().record("tenant.id", tenant.as_str());
        Ok(Self { tenant })
    }
}

/// The caller of a route that needs no credential.
pub(crate) struct Anyone(Caller);

/// Whoever takes up an invitation.
pub(crate) struct Invitee(Caller);

impl Anyone {
    /// The address the request came from.
    pub(crate) fn origin(&self) -> Option<IpAddr> {
        self.0.request.origin
    }

    /// The caller, who has proved to hold an invitation's token.
    pub(crate) fn invited(self, tenant: &TenantId, invitation: &InvitationId) -> Invitee {
        tracing::Span::current().record("tenant.id", tenant.as_str());
        Invitee(Caller {
            actor: Actor::Invitee(invitation.as_str().to_owned()),
            ..self.0
        })
    }
}

impl Anyone {
    /// What is known of the request.
    pub(crate) fn context(&self) -> &RequestContext {
        &self.0.request
    }

    /// Where an event comes from that this caller sent, who has proved to be a source.
    pub(crate) fn sending(&self, address: &SourceAddress) -> commands::Origin {
        commands::Origin {
            actor: Actor::Source(address.source.as_str().to_owned()),
            ..self.0.origin()
        }
    }
}

impl Invitee {
    /// Where a command of this caller comes from.
    pub(crate) fn meta(&self, command: &str) -> Call {
        self.0.call(command)
    }

    /// The ULID that this request draws under a name.
    pub(crate) fn ulid(&self, name: &str) -> Ulid {
        self.0.draw.ulid(name)
    }
}

impl FromRequestParts<App> for Anyone {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        Ok(Self(Caller::of(parts, Actor::System("anyone".to_owned()))))
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
