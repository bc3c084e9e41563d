//! The guard: which permission each route needs, and who has it.
//!
//! Every operation is registered with [`needs`], which writes the need into its OpenAPI description; the guard reads
//! its table from there, so what is documented is what is checked. Handlers learn who calls from the guard alone: a
//! route that names no need has no caller, and is refused.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::Permission;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path as document;
use utoipa::openapi::{OpenApi, PathItem};
use utoipa_axum::router::UtoipaMethodRouter;

use crate::access_log::Asking;
use crate::app::App;
use crate::auth::Principal;
use crate::catalog::pascal_case;
use crate::draw::Draw;
use crate::idempotency::once;
use crate::problem::{Problem, ProblemType};
use crate::rate::Allowance;
use crate::standstill;
use crate::tenancy;

/// Where an operation's need stands in the OpenAPI document.
const EXTENSION: &str = "x-permission";
/// The need of the platform administrator's routes.
const PLATFORM: &str = "platform";
/// The need of routes that carry their proof in the body.
const NOTHING: &str = "none";
/// The need of routes whose requests are signed.
const SIGNATURE: &str = "signature";

/// What a route needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Need {
    /// A tenant's key that is granted this.
    Permission(Permission),
    /// The platform administrator.
    Platform,
    /// Nobody in particular: the request proves itself otherwise.
    Nothing,
    /// Another system, whose signature the handler checks. It sends no `Idempotency-Key` of ours: its messages have
    /// names of their own, and nothing is kept for who has proved nothing yet.
    Signature,
}

/// What the routes need, by the names handlers' files use.
pub(crate) mod may {
    use domain::Permission;

    use super::Need;

    const fn on_tenant(resource: &'static str, action: &'static str) -> Need {
        Need::Permission(Permission::on_tenant(resource, action))
    }

    pub(crate) const ADMINISTER_PLATFORM: Need = Need::Platform;
    pub(crate) const READ_API_KEYS: Need = on_tenant("api_keys", "read");
    pub(crate) const WRITE_API_KEYS: Need = on_tenant("api_keys", "write");
    pub(crate) const READ_TENANT: Need = on_tenant("tenant", "read");
    pub(crate) const READ_SETTINGS: Need = on_tenant("settings", "read");
    pub(crate) const WRITE_SETTINGS: Need = on_tenant("settings", "write");
    pub(crate) const READ_USERS: Need = on_tenant("users", "read");
    pub(crate) const WRITE_USERS: Need = on_tenant("users", "write");
    pub(crate) const READ_ROLES: Need = on_tenant("roles", "read");
    pub(crate) const WRITE_ROLES: Need = on_tenant("roles", "write");
    /// Giving users roles and permissions, and taking them away.
    pub(crate) const GRANT_ROLES: Need = on_tenant("roles", "grant");
    pub(crate) const CHECK_PERMISSIONS: Need = on_tenant("permissions", "check");
    pub(crate) const READ_TEAMS: Need = on_tenant("teams", "read");
    pub(crate) const WRITE_TEAMS: Need = on_tenant("teams", "write");
    pub(crate) const READ_INVITATIONS: Need = on_tenant("invitations", "read");
    pub(crate) const WRITE_INVITATIONS: Need = on_tenant("invitations", "write");
    pub(crate) const READ_ENDPOINTS: Need = on_tenant("endpoints", "read");
    pub(crate) const WRITE_ENDPOINTS: Need = on_tenant("endpoints", "write");
    pub(crate) const READ_EVENT_TYPES: Need = on_tenant("event_types", "read");
    pub(crate) const WRITE_EVENT_TYPES: Need = on_tenant("event_types", "write");
    pub(crate) const READ_SOURCES: Need = on_tenant("sources", "read");
    pub(crate) const WRITE_SOURCES: Need = on_tenant("sources", "write");
    pub(crate) const READ_EVENTS: Need = on_tenant("events", "read");
    pub(crate) const PUBLISH_EVENTS: Need = on_tenant("events", "publish");
    pub(crate) const READ_DELIVERIES: Need = on_tenant("deliveries", "read");
    pub(crate) const RESEND_DELIVERIES: Need = on_tenant("deliveries", "resend");
    pub(crate) const READ_AUDIT: Need = on_tenant("audit", "read");
    /// Placing and releasing the legal hold.
    pub(crate) const HOLD_AUDIT: Need = on_tenant("audit", "hold");
    pub(crate) const READ_STATS: Need = on_tenant("stats", "read");
    pub(crate) const READ_COMMANDS: Need = on_tenant("commands", "read");
    pub(crate) const EXECUTE_COMMANDS: Need = on_tenant("commands", "execute");
}

impl Need {
    fn as_text(&self) -> String {
        match self {
            Self::Permission(permission) => permission.to_string(),
            Self::Platform => PLATFORM.to_owned(),
            Self::Nothing => NOTHING.to_owned(),
            Self::Signature => SIGNATURE.to_owned(),
        }
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            PLATFORM => Some(Self::Platform),
            NOTHING => Some(Self::Nothing),
            SIGNATURE => Some(Self::Signature),
            text => text.parse().ok().map(Self::Permission),
        }
    }
}

/// Registers operations with what they need.
#[expect(clippy::needless_pass_by_value, reason = "reads as a constant at each route")]
pub(crate) fn needs(need: Need, routes: UtoipaMethodRouter<App>) -> UtoipaMethodRouter<App> {
    let (schemas, mut paths, router) = routes;
    for item in paths.paths.values_mut() {
        for operation in operations_of(item) {
            let named = ExtensionsBuilder::new().add(EXTENSION, need.as_text()).build();
            operation.extensions.get_or_insert_default().merge(named);
        }
    }
    (schemas, paths, router)
}

fn operations_of(item: &mut PathItem) -> impl Iterator<Item = &mut document::Operation> {
    [
        &mut item.get,
        &mut item.post,
        &mut item.put,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}

/// An operation of the document, as requests are told of.
#[derive(Debug)]
pub(crate) struct Operation {
    need: Need,
    /// What it asks for, as `RegisterUser`.
    pub(crate) command: String,
    /// Its path, as `/v1/users/{id}`.
    pub(crate) path: String,
    /// It publishes events, and commands nothing.
    pub(crate) publishes: bool,
}

impl Operation {
    fn read(path: &str, operation: &document::Operation) -> Option<Self> {
        let need = need_of(operation)?;
        Some(Self {
            publishes: need == may::PUBLISH_EVENTS,
            need,
            command: pascal_case(operation.operation_id.as_deref().unwrap_or_default()),
            path: path.to_owned(),
        })
    }
}

/// Who may call what.
#[derive(Clone)]
pub(crate) struct Guard {
    app: App,
    operations: Arc<HashMap<(Method, String), Arc<Operation>>>,
}

impl Guard {
    /// With the needs that the document names.
    pub(crate) fn new(app: &App, document: &OpenApi) -> Self {
        let mut known = HashMap::new();
        for (path, item) in &document.paths.paths {
            let operations = [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ];
            for (method, operation) in operations {
                let operation = operation.as_ref();
                if let Some(operation) = operation.and_then(|operation| Operation::read(path, operation)) {
                    known.insert((method, path.clone()), Arc::new(operation));
                }
            }
        }
        Self {
            app: app.clone(),
            operations: Arc::new(known),
        }
    }

    fn operation(&self, request: &Request) -> Option<&Arc<Operation>> {
        let path = request.extensions().get::<MatchedPath>()?.as_str().to_owned();
        let method = match *request.method() {
            Method::HEAD => Method::GET,
            ref method => method.clone(),
        };
        self.operations.get(&(method, path))
    }
}

/// What an operation of the document needs.
pub(crate) fn need_of(operation: &document::Operation) -> Option<Need> {
    let named = operation.extensions.as_ref()?.get(EXTENSION)?;
    named.as_str().and_then(Need::read)
}

/// Every permission that some operation of the document needs.
pub(crate) fn permissions(document: &OpenApi) -> BTreeSet<Permission> {
    let items = document.paths.paths.values();
    let operations = items.flat_map(|item| [&item.get, &item.post, &item.put, &item.patch, &item.delete]);
    operations
        .flatten()
        .filter_map(need_of)
        .filter_map(|need| match need {
            Need::Permission(permission) => Some(permission),
            Need::Platform | Need::Nothing | Need::Signature => None,
        })
        .collect()
}

/// Lets a request through to its handler with who calls, or answers why not.
pub(crate) async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    // What another call carries is answered with it, and repeated with it.
    let carried = request.extensions().get::<Draw>().is_some();
    // What names no need goes on without a caller, even one that another call carries: the router refuses the method,
    // or the handler the missing caller.
    let Some(operation) = guard.operation(&request).cloned() else {
        request.extensions_mut().remove::<Principal>();
        return next.run(request).await;
    };
    let app = &guard.app;
    let admitted = admit(app, &operation.need, &mut request).await;
    let asking = asking(&operation, &request);
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(problem) => {
            if let Some(asking) = asking {
                asking.refused(&app.access, problem.kind());
            }
            return problem.into_response();
        }
    };
    let mut response = match admitted.refusal {
        Some(problem) => problem.into_response(),
        None if carried || operation.need == Need::Signature => next.run(request).await,
        None => once(app, request, next).await,
    };
    if let Some(asking) = asking {
        response = asking.answered(&app.access, response, carried).await;
    }
    if let Some(allowance) = admitted.allowance {
        allowance.write(response.headers_mut());
    }
    response
}

/// What may be told of a request, where it is known who asks.
fn asking(operation: &Arc<Operation>, request: &Request) -> Option<Asking> {
    let principal = request.extensions().get::<Principal>()?;
    let changes = tenancy::changes(&operation.need, request.method());
    Some(Asking::new(operation, principal, request, changes))
}

/// A request whose sender is known and has not sent too many.
#[derive(Default)]
struct Admitted {
    /// What is left to them, where they have a limit.
    allowance: Option<Allowance>,
    /// Why they may not do this.
    refusal: Option<Problem>,
}

async fn admit(app: &App, need: &Need, request: &mut Request) -> Result<Admitted, Problem> {
    if request.extensions().get::<Draw>().is_none() {
        request.extensions_mut().insert(Draw::fresh());
    }
    if let Some(why) = app.trust.lost() {
        let principal = standstill::admit(app, need, request.method(), request.headers(), &why).await?;
        let refusal = authorize(need, &principal).err();
        request.extensions_mut().insert(principal);
        let allowance = None;
        return Ok(Admitted { allowance, refusal });
    }
    if matches!(need, Need::Nothing | Need::Signature) {
        return Ok(Admitted::default());
    }
    // A call that carries others has been proved and counted once for all of them.
    let known = request.extensions().get::<Principal>().cloned();
    let (principal, allowance) = if let Some(principal) = known {
        (app.authority.renew(&principal).await?, None)
    } else {
        let principal = app.authority.authenticate(request.headers()).await?;
        request.extensions_mut().insert(principal.clone());
        let allowance = app.authority.count(&principal)?;
        app.authority.count_for_tenant(&principal).await?;
        (principal, allowance)
    };
    let refusal = match authorize(need, &principal) {
        Ok(()) => tenancy::admit(app, &principal, need, request.method())
            .await
            .err(),
        Err(problem) => Some(problem),
    };
    request.extensions_mut().insert(principal);
    Ok(Admitted { allowance, refusal })
}

/// Whether a caller has what is needed.
pub(crate) fn authorize(need: &Need, principal: &Principal) -> Result<(), Problem> {
    let refusal = match (need, principal) {
        (Need::Nothing | Need::Signature, _) | (Need::Platform, Principal::Administrator) => return Ok(()),
        // What operators decide is in the platform's own trail, and whose trail is read follows from who reads.
        (need, Principal::Administrator) if *need == may::READ_AUDIT => return Ok(()),
        (Need::Platform, Principal::Key(_)) => {
            "Only the platform administrator's key can do this.".to_owned()
        }
        (Need::Permission(_), Principal::Administrator) => {
            "The platform administrator's key manages tenants and reads the platform's own audit trail; use a tenant's \
             own key here."
                .to_owned()
        }
        (Need::Permission(permission), Principal::Key(key)) => {
            if key.scopes.iter().any(|grant| grant.covers(permission)) {
                return Ok(());
            }
            format!("This needs the permission {permission}, which no scope of this key covers.")
        }
    };
    Err(Problem::new(ProblemType::Forbidden, refusal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router;

    /// Deny by default would refuse it anyway; this finds it before anybody calls.
    #[test]
    fn every_operation_names_what_it_needs() {
        let (_, mut document) = router::operations();
        for (path, item) in &mut document.paths.paths {
            for operation in operations_of(item) {
                assert!(
                    need_of(operation).is_some(),
                    "{path}: {:?}",
                    operation.operation_id
                );
            }
        }
    }

    #[test]
    fn needs_are_read_as_they_are_written() {
        for need in [may::READ_USERS, Need::Platform, Need::Nothing, Need::Signature] {
            assert_eq!(Need::read(&need.as_text()), Some(need));
        }
        assert_eq!(Need::read("anything else"), None);
    }
}
