//! What is known of a request before its handler has it, and what its answer gives to tell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::access_log::{AccessEvent, Asked, Refused, Resource, Shown as ShownEvent};
use domain::{Actor, EventType, EventTypeId, TenantId, Timestamp};
use percent_encoding::percent_decode_str;

use super::{AccessLog, Shown, Shows};
use crate::auth::Principal;
use crate::guard::Operation;
use crate::idempotency::REPLAYED;
use crate::layers::RequestContext;
use crate::problem::{Problem, ProblemType};

/// The longest name of a thing that is kept, in characters.
const LONGEST_ID: usize = 128;

/// The parts of a call that were refused while it was answered as a whole, in its response's extensions.
#[derive(Debug, Clone)]
pub(crate) struct RefusedParts(pub(crate) Vec<ProblemType>);

/// A request of a known caller.
pub(crate) struct Asking {
    operation: Arc<Operation>,
    principal: Principal,
    path: String,
    context: RequestContext,
    changes: bool,
}

impl Asking {
    /// Remembers what will be told of a request; `changes` where it would change something.
    pub(crate) fn new(
        operation: &Arc<Operation>,
        principal: &Principal,
        request: &Request,
        changes: bool,
    ) -> Self {
        Self {
            operation: Arc::clone(operation),
            principal: principal.clone(),
            path: request.uri().path().to_owned(),
            context: RequestContext::of(request.headers(), request.extensions()),
            changes,
        }
    }

    /// Looks at the answer before it is given. A refusal is left to be written; of an answer that shows a secret, this
    /// is written now, and another answer given where it cannot be. What another call carries is answered with it.
    pub(crate) async fn answered(self, log: &AccessLog, mut response: Response, carried: bool) -> Response {
        if let Some(problem) = response.extensions().get::<Problem>() {
            self.refused(log, problem.kind());
            return response;
        }
        if let Some(RefusedParts(kinds)) = response.extensions_mut().remove() {
            for kind in kinds {
                self.refused(log, kind);
            }
        }
        if carried {
            return response;
        }
        match response.extensions_mut().remove() {
            Some(Shows(secrets)) => {
                let again = response.headers().contains_key(REPLAYED);
                match self.shown(log, secrets, again).await {
                    Ok(()) => response,
                    Err(problem) => problem.into_response(),
                }
            }
            None => response,
        }
    }

    /// Tells of a request that was refused before it reached its handler.
    pub(crate) fn refused(&self, log: &AccessLog, kind: ProblemType) {
        let (tenant, at) = (self.tenant(), now());
        match told(kind, self.changes, self.operation.publishes) {
            Told::No => {}
            Told::Counted => log.limited(&tenant, at),
            Told::Each => {
                let refused = Refused {
                    asked: self.asked(self.resource(&tenant), at),
                    problem: kind.code().to_owned(),
                    status: kind.status().as_u16(),
                };
                let event = if self.changes {
                    AccessEvent::CommandRefused(refused)
                } else {
                    AccessEvent::ReadRefused(refused)
                };
                log.refused(&tenant, event, at);
            }
        }
    }

    async fn shown(&self, log: &AccessLog, secrets: Vec<Shown>, again: bool) -> Result<(), Problem> {
        let mut of_tenants: BTreeMap<TenantId, Vec<AccessEvent>> = BTreeMap::new();
        for Shown { kind, id, tenant } in secrets {
            let resource = Resource {
                kind: kind_of(&id).to_owned(),
                id: Some(id),
            };
            let event = AccessEvent::SecretShown(ShownEvent {
                asked: self.asked(resource, now()),
                secret: kind,
                again,
            });
            let tenant = tenant.unwrap_or_else(|| self.tenant());
            of_tenants.entry(tenant).or_default().push(event);
        }
        let asked = self.asked(self.resource(&self.tenant()), now());
        for (tenant, events) in of_tenants {
            log.shown(&tenant, events, &asked).await?;
        }
        Ok(())
    }

    fn tenant(&self) -> TenantId {
        self.principal.tenant()
    }

    fn asked(&self, resource: Resource, at: Timestamp) -> Asked {
        let context = self.context.clone();
        Asked {
            at,
            actor: match &self.principal {
                Principal::Administrator => Actor::PlatformAdmin,
                Principal::Key(holder) => Actor::ApiKey(holder.key.as_str().to_owned()),
            },
            command: self.operation.command.clone(),
            resource,
            request_id: Some(context.id),
            origin: context.origin.map(|address| address.to_string()),
            correlation_id: Some(context.correlation_id),
            traceparent: context.traceparent,
        }
    }

    /// What the address names: the kind of thing by its collection, and the first thing in it.
    fn resource(&self, tenant: &TenantId) -> Resource {
        let parts = self.operation.path.split('/').zip(self.path.split('/'));
        let mut named = parts.filter(|(template, _)| template.starts_with('{'));
        let id = named.next().map(|(_, part)| {
            let text = percent_decode_str(part).decode_utf8_lossy();
            text.chars().take(LONGEST_ID).collect::<String>()
        });
        let collection = self.operation.path.split('/').nth(2).unwrap_or_default();
        let kind = kind_in(collection);
        let id = match (kind.as_str(), id) {
            ("settings" | "audit", None) => Some(tenant.as_str().to_owned()),
            // As its own events name it.
            ("event_type", Some(name)) => Some(match EventType::try_from(name.clone()) {
                Ok(name) => EventTypeId::derive(&name).as_str().to_owned(),
                Err(_) => name,
            }),
            (_, id) => id,
        };
        Resource { kind, id }
    }
}

/// Whether, and how, a refusal is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is not.
    No,
    /// Too many to tell each.
    Counted,
    /// It is.
    Each,
}

/// Changes that were refused for good are told, and reads that the caller may not make. Events that do not fit their
/// type are no commands against the tenant, and as many as their publisher likes.
pub(super) fn told(kind: ProblemType, changes: bool, publishes: bool) -> Told {
    match kind.status() {
        StatusCode::TOO_MANY_REQUESTS => Told::Counted,
        StatusCode::FORBIDDEN => Told::Each,
        StatusCode::UNAUTHORIZED => Told::No,
        status
            if status.is_client_error() && changes && !publishes && kind != ProblemType::RequestRunning =>
        {
            Told::Each
        }
        _ => Told::No,
    }
}

/// The kind of thing in a collection of the API: `api-keys` holds an `api_key` each.
fn kind_in(collection: &str) -> String {
    let singular = match collection {
        "deliveries" => "delivery",
        "settings" => "settings",
        other => other.strip_suffix('s').unwrap_or(other),
    };
    singular.replace('-', "_")
}

/// The kind of thing that an id names.
fn kind_of(id: &str) -> &'static str {
    match id.split_once('_').map(|(prefix, _)| prefix) {
        Some("key") => "api_key",
        Some("ep") => "endpoint",
        Some("src") => "source",
        _ => "invitation",
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_good_is_told() {
        for kind in [
            ProblemType::Forbidden,
            ProblemType::NotFound,
            ProblemType::EmailTaken,
            ProblemType::InvalidBody,
            ProblemType::InvitationGone,
            ProblemType::TenantSuspended,
        ] {
            assert_eq!(told(kind, true, false), Told::Each, "{kind:?}");
        }
        for kind in [
            ProblemType::Unauthenticated,
            ProblemType::Unavailable,
            ProblemType::RequestRunning,
            ProblemType::Timeout,
        ] {
            assert_eq!(told(kind, true, false), Told::No, "{kind:?}");
        }
        assert_eq!(told(ProblemType::RateLimited, true, false), Told::Counted);
        assert_eq!(told(ProblemType::NotFound, false, false), Told::No);
        assert_eq!(told(ProblemType::Forbidden, false, false), Told::Each);
        assert_eq!(told(ProblemType::SchemaViolation, true, true), Told::No);
        assert_eq!(told(ProblemType::Forbidden, true, true), Told::Each);
    }

    #[test]
    fn collections_hold_things_of_a_kind() {
        for (collection, kind) in [
            ("users", "user"),
            ("api-keys", "api_key"),
            ("event-types", "event_type"),
            ("deliveries", "delivery"),
            ("dead-letters", "dead_letter"),
            ("settings", "settings"),
            ("audit", "audit"),
        ] {
            assert_eq!(kind_in(collection), kind);
        }
    }
}
