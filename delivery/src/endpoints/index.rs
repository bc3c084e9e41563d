//! The endpoints of one shard's tenants, and on the platform's shard the tenants' standings, folded from their
//! events.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker::Record;
use domain::endpoint::{EndpointEvent, EndpointSettings, Secrets};
use domain::tenant::{Standing, TenantEvent};
use domain::{Commit, EndpointId, Message, TenantId, decode_event};
use serde_json::Value;

use crate::health::in_full;
use crate::metrics;

/// How far apart the clocks of two logs may be. An endpoint gets what was stored after it was created, by the
/// logs' clocks, and what was stored at most this long before: were there no bound, an endpoint created while the
/// matcher is behind would get everything of the backlog, however old.
const CLOCKS_APART: Duration = Duration::from_secs(5);

/// One endpoint, as delivery needs to know it.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) settings: EndpointSettings,
    pub(crate) enabled: bool,
    pub(crate) secrets: Secrets,
    /// When it was last created, changed or enabled.
    pub(crate) since: SystemTime,
    created_at: SystemTime,
}

/// A message's data, read for the first endpoint that looks at them; none where they hold a number or a depth that this
/// program cannot: nobody looks at those, for to lose a message would be worse.
type Data = OnceCell<Option<Value>>;

impl Endpoint {
    /// Whether it asked for such messages.
    pub(crate) fn wants(&self, message: &Message) -> bool {
        self.wants_with(message, &Data::new())
    }

    /// The same, with what has been read of the message for other endpoints.
    fn wants_with(&self, message: &Message, data: &Data) -> bool {
        let filters = &self.settings.event_types;
        let wanted = filters.iter().any(|filter| filter.matches(&message.event_type));
        wanted
            && self.settings.policy.filter.as_ref().is_none_or(|filter| {
                let data = data.get_or_init(|| serde_json::from_slice(&message.data).ok());
                data.as_ref().is_none_or(|data| filter.lets_through(data))
            })
    }
}

/// What delivery knows of a shard's tenants.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Endpoints by tenant. Removed ones are absent.
    endpoints: HashMap<TenantId, HashMap<EndpointId, Arc<Endpoint>>>,
    /// Tenants that are not active.
    standings: HashMap<TenantId, Standing>,
}

impl Index {
    /// The tenant's endpoints that want the message. Whether an endpoint is enabled is judged as of now.
    pub(super) fn matching(&self, message: &Message, stored_at: SystemTime) -> Vec<EndpointId> {
        let data = Data::new();
        let wanted = |endpoint: &Endpoint| {
            endpoint.enabled
                && endpoint.created_at <= stored_at + CLOCKS_APART
                && endpoint.wants_with(message, &data)
        };
        let endpoints = self.endpoints.get(&message.tenant);
        if let Some(only) = &message.only_for {
            let there = endpoints.and_then(|endpoints| endpoints.get(only));
            return there
                .filter(|endpoint| endpoint.enabled)
                .map(|_| only.clone())
                .into_iter()
                .collect();
        }
        let endpoints = endpoints.into_iter().flatten();
        endpoints
            .filter(|(_, endpoint)| wanted(endpoint))
            .map(|(id, _)| id.clone())
            .collect()
    }

    pub(super) fn anybody_wants(&self, message: &Message) -> bool {
        let (endpoints, data) = (self.endpoints.get(&message.tenant), Data::new());
        endpoints.is_some_and(|endpoints| {
            endpoints
                .values()
                .any(|endpoint| endpoint.wants_with(message, &data))
        })
    }

    pub(super) fn get(&self, tenant: &TenantId, id: &EndpointId) -> Option<Arc<Endpoint>> {
        self.endpoints.get(tenant)?.get(id).cloned()
    }

    pub(super) fn standing(&self, tenant: &TenantId) -> Standing {
        self.standings.get(tenant).cloned().unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.endpoints.values().map(HashMap::len).sum()
    }

    /// Takes a record of the log of events in; others than endpoints' and tenants' change nothing.
    ///
    /// An event that can't be read leaves its endpoint or tenant as it was and is told of: holding up every other
    /// tenant would be worse.
    pub(super) fn apply(&mut self, record: &Record) {
        let folded = match aggregate(record) {
            Some("endpoint") => self.fold_endpoint(record),
            Some("tenant") => self.fold_tenant(record),
            _ => return,
        };
        if let Err(error) = folded {
            metrics::unreadable("EVENTS");
            tracing::error!(
                sequence = record.sequence,
                subject = %record.subject,
                error = %in_full(error.as_ref()),
                "An event cannot be read; delivery goes on with what was known of its endpoint or tenant."
            );
        }
    }

    fn fold_endpoint(&mut self, record: &Record) -> Result<(), Box<dyn std::error::Error>> {
        let commit = Commit::decode(&record.payload)?;
        let id: EndpointId = commit.id.parse()?;
        // A log that was restored says later times than those at which its records were first stored.
        let at = record.stored_at.min(commit.meta.at.into());
        let endpoints = self.endpoints.entry(commit.tenant).or_default();
        for event in &commit.events {
            step(endpoints, &id, &decode_event(event)?, at);
        }
        Ok(())
    }

    fn fold_tenant(&mut self, record: &Record) -> Result<(), Box<dyn std::error::Error>> {
        let commit = Commit::decode(&record.payload)?;
        let id: TenantId = commit.id.parse()?;
        for event in &commit.events {
            match decode_event(event)? {
                TenantEvent::Suspended { reason } => {
                    self.standings.insert(id.clone(), Standing::Suspended(reason));
                }
                TenantEvent::Terminated { reason, .. } => {
                    self.standings.insert(id.clone(), Standing::Terminated(reason));
                }
                TenantEvent::Reactivated {} => {
                    self.standings.remove(&id);
                }
                TenantEvent::Provisioned { .. }
                | TenantEvent::Renamed { .. }
                | TenantEvent::PlanChanged { .. }
                | TenantEvent::QuotasChanged { .. } => {}
            }
        }
        Ok(())
    }
}

fn step(
    endpoints: &mut HashMap<EndpointId, Arc<Endpoint>>,
    id: &EndpointId,
    event: &EndpointEvent,
    at: SystemTime,
) {
    let change: &dyn Fn(&mut Endpoint) = match event {
        EndpointEvent::Created { settings } => {
            let endpoint = Endpoint {
                settings: settings.clone(),
                enabled: true,
                secrets: Secrets::default(),
                since: at,
                created_at: at,
            };
            endpoints.insert(id.clone(), Arc::new(endpoint));
            return;
        }
        EndpointEvent::Removed {} => {
            endpoints.remove(id);
            return;
        }
        EndpointEvent::Changed { to, .. } => &|endpoint| {
            endpoint.settings = to.clone();
            endpoint.since = at;
        },
        EndpointEvent::Disabled { .. } => &|endpoint| endpoint.enabled = false,
        EndpointEvent::Enabled {} => &|endpoint| {
            endpoint.enabled = true;
            endpoint.since = at;
        },
        EndpointEvent::SecretRotated {
            secret,
            previous_valid_until,
        } => &|endpoint| endpoint.secrets.rotate(secret.clone(), *previous_valid_until),
        // The module `requests` carries these out.
        EndpointEvent::RedriveRequested { .. }
        | EndpointEvent::DiscardRequested { .. }
        | EndpointEvent::ResendRequested { .. } => return,
    };
    if let Some(endpoint) = endpoints.get_mut(id) {
        change(Arc::make_mut(endpoint));
    }
}

/// The kind of aggregate a record is of: subjects of the log are `ev.<tenant>.<aggregate>.<id>`.
fn aggregate(record: &Record) -> Option<&str> {
    let mut tokens = record.subject.as_str().split('.');
    tokens.next().filter(|kind| *kind == "ev")?;
    tokens.nth(1)
}

#[cfg(test)]
mod tests {
    use domain::{Actor, EventRecord, Meta, Text, Timestamp, encode_event};

    use super::*;
    use crate::work::subject;

    const ID: &str = "ep_01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn settings(event_types: &str) -> EndpointSettings {
        serde_json::from_value(serde_json::json!({
            "url": "https://example.org/", "event_types": [event_types], "description": null
        }))
        .unwrap()
    }

    fn record(event: &EndpointEvent, stored_at: SystemTime) -> Record {
        record_of("endpoint", ID, encode_event(event).unwrap(), stored_at)
    }

    fn record_of(aggregate: &str, id: &str, event: EventRecord, stored_at: SystemTime) -> Record {
        let commit = Commit {
            v: Commit::VERSION,
            tenant: TenantId::platform(),
            aggregate: aggregate.into(),
            id: id.into(),
            first_version: 1,
            events: vec![event],
            meta: Meta {
                command_id: "1".into(),
                command: "Test".into(),
                actor: Actor::PlatformAdmin,
                request_id: None,
                origin: None,
                correlation_id: None,
                causation_id: None,
                traceparent: None,
                at: stored_at.into(),
            },
            prev: None,
        };
        Record {
            sequence: 1,
            subject: subject(format!("ev.platform.{aggregate}.{id}")),
            message_id: "platform:1".into(),
            stored_at,
            payload: commit.encode().into(),
        }
    }

    fn message() -> Message {
        Message {
            v: Message::VERSION,
            tenant: TenantId::platform(),
            id: "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            event_type: "invoice.paid".parse().unwrap(),
            data: b"{}".to_vec(),
            published_at: Timestamp::default(),
            actor: Actor::PlatformAdmin,
            request_id: None,
            correlation_id: None,
            causation_id: None,
            traceparent: None,
            only_for: None,
        }
    }

    #[test]
    fn an_endpoint_is_matched_while_it_is_there_enabled_and_wants_the_type() {
        let now = SystemTime::now();
        let created = EndpointEvent::Created {
            settings: settings("invoice.*"),
        };
        let disabled = EndpointEvent::Disabled {
            reason: Text::new("testing").unwrap(),
            automatic: None,
        };
        let changed = EndpointEvent::Changed {
            from: settings("invoice.*"),
            to: settings("user.*"),
        };
        let mut index = Index::default();
        let mut matches_after = |event: &EndpointEvent| {
            index.apply(&record(event, now));
            index.matching(&message(), now).len()
        };
        assert_eq!(matches_after(&created), 1);
        assert_eq!(matches_after(&disabled), 0);
        assert_eq!(matches_after(&EndpointEvent::Enabled {}), 1);
        assert_eq!(matches_after(&changed), 0);
        assert_eq!(matches_after(&created), 1);
        assert_eq!(matches_after(&EndpointEvent::Removed {}), 0);
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn a_filter_looks_at_the_data_and_lets_through_what_cannot_be_read() {
        let now = SystemTime::now();
        let mut index = Index::default();
        let settings = serde_json::from_value(serde_json::json!({
            "url": "https://example.org/", "event_types": ["*"], "description": null,
            "filter": { "path": "/amount", "at_least": 100 }
        }));
        let created = EndpointEvent::Created {
            settings: settings.unwrap(),
        };
        index.apply(&record(&created, now));
        let matches = |data: &str| {
            let message = Message {
                data: data.into(),
                ..message()
            };
            index.matching(&message, now).len()
        };
        assert_eq!(matches(r#"{"amount":100}"#), 1);
        assert_eq!(matches(r#"{"amount":99}"#), 0);
        assert_eq!(matches("{}"), 0);
        assert_eq!(matches(r#"{"amount":1e999}"#), 1);
        let for_it = Message {
            only_for: Some(ID.parse().unwrap()),
            ..message()
        };
        assert_eq!(index.matching(&for_it, now).len(), 1);
    }

    #[test]
    fn a_message_for_one_endpoint_reaches_it_whatever_it_asked_for() {
        let now = SystemTime::now();
        let mut index = Index::default();
        let created = EndpointEvent::Created {
            settings: settings("other.*"),
        };
        index.apply(&record(&created, now));
        let for_endpoint = |id: &str| Message {
            only_for: Some(id.parse().unwrap()),
            ..message()
        };
        assert_eq!(index.matching(&message(), now).len(), 0);
        assert_eq!(
            index.matching(&for_endpoint(ID), now),
            [ID.parse::<EndpointId>().unwrap()]
        );
        let another = "ep_01ARZ3NDEKTSV4RRFFQ69G5FAW";
        assert_eq!(index.matching(&for_endpoint(another), now), []);
        let reason = Text::new("testing").unwrap();
        index.apply(&record(
            &EndpointEvent::Disabled {
                reason,
                automatic: None,
            },
            now,
        ));
        assert_eq!(index.matching(&for_endpoint(ID), now), []);
    }

    #[test]
    fn a_new_endpoint_gets_no_backlog() {
        let created_at = SystemTime::now();
        let mut index = Index::default();
        let created = EndpointEvent::Created {
            settings: settings("*"),
        };
        index.apply(&record(&created, created_at));
        let matches = |before: u64| {
            let stored_at = created_at.checked_sub(Duration::from_secs(before)).unwrap();
            index.matching(&message(), stored_at).len()
        };
        assert_eq!((matches(0), matches(4), matches(6)), (1, 1, 0));
    }

    #[test]
    fn a_tenant_stands_as_its_last_event_says() {
        let id = "ten_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let reason = Text::new("unpaid").unwrap();
        let suspended = TenantEvent::Suspended { reason };
        let mut index = Index::default();
        let mut stands_after = |event: &TenantEvent| {
            index.apply(&record_of(
                "tenant",
                id,
                encode_event(event).unwrap(),
                SystemTime::now(),
            ));
            index.standing(&id.parse().unwrap()).as_str()
        };
        assert_eq!(stands_after(&suspended), "suspended");
        assert_eq!(stands_after(&TenantEvent::Reactivated {}), "active");
        let terminated = TenantEvent::Terminated {
            reason: Text::new("gone").unwrap(),
            slug: "acme".to_owned().try_into().unwrap(),
        };
        assert_eq!(stands_after(&terminated), "terminated");
        assert_eq!(index.standing(&TenantId::platform()).as_str(), "active");
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let now = SystemTime::now();
        let mut index = Index::default();
        let created = EndpointEvent::Created {
            settings: settings("*"),
        };
        index.apply(&record(&created, now));
        let mut damaged = record(&EndpointEvent::Removed {}, now);
        damaged.payload = b"\xc1".as_slice().into();
        index.apply(&damaged);
        assert_eq!(index.matching(&message(), now).len(), 1);
    }
}
