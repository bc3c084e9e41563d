//! The streams of an installation as they must be, how they are made, and where a server's stream differs.
//!
//! Requests are written as JSON rather than with the client's types: so a field this client does not know yet can
//! be set and compared, and every field that could break a promise is named here.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Settings;
use super::connection::{AskError, Connection};
use super::names::Names;
use crate::OpenError;
use crate::layout::{Bucket, Log, Retention};

/// How long a stream recognises message ids; the ports promise two minutes.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(150);

/// One stream as this crate makes it.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Its name.
    pub(super) name: String,
    /// Its complete configuration, in the JetStream API's words.
    config: Map<String, Value>,
    /// What a field may be as well without breaking a promise, in a stream of an earlier version.
    bearable: Map<String, Value>,
}

/// A field of a stream that is not as planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Drift {
    /// The field, in the JetStream API's words.
    pub(super) field: String,
    /// What it should be and what it is.
    pub(super) detail: String,
    tolerable: bool,
}

impl Drift {
    /// A field that is `found` and should be `wanted`.
    pub(super) fn new(field: &str, wanted: &Value, found: &Value) -> Self {
        let tolerable = match field {
            "num_replicas" | "ack_wait" | "max_ack_pending" => true,
            // Another age than wished is a matter of taste, an age where none should be is a loss.
            "max_age" => *wanted != json!(0),
            _ => false,
        };
        Self {
            field: field.to_owned(),
            detail: format!("{field} should be {wanted} and is {found}"),
            tolerable,
        }
    }

    /// Whether something is lost or hidden by it, rather than kept longer, shorter or in fewer copies than wished.
    pub(super) fn breaks_a_promise(&self) -> bool {
        !self.tolerable
    }
}

/// Every stream of the installation.
pub(super) fn plans(settings: &Settings, names: &Names) -> Vec<Plan> {
    let logs = settings
        .layout
        .logs()
        .into_iter()
        .map(|log| log_plan(settings, names, log));
    let buckets = Bucket::ALL
        .into_iter()
        .map(|bucket| bucket_plan(settings, names, bucket));
    logs.chain([
        deliveries_plan(settings, names),
        dead_letters_plan(settings, names),
    ])
    .chain(buckets)
    .collect()
}

fn log_plan(settings: &Settings, names: &Names, log: Log) -> Plan {
    let space = names.log_space(log);
    let subjects: Vec<String> = log
        .subject_roots()
        .iter()
        .map(|root| space.wire(&format!("{root}.>")))
        .collect();
    let mut plan = Plan::new(settings, names.stream(log), &subjects);
    plan.set("allow_atomic", json!(true));
    match settings.layout.retention(log) {
        Retention::Forever => {
            plan.set("deny_delete", json!(true));
            plan.set("deny_purge", json!(true));
            plan.set("discard", json!("new"));
        }
        Retention::Age(age) => plan.set("max_age", nanoseconds(age)),
    }
    plan
}

fn deliveries_plan(settings: &Settings, names: &Names) -> Plan {
    let space = names.queue_space();
    let subjects = [space.wire("job.*.*.*"), space.wire("later.*.*.*")];
    let mut plan = Plan::new(settings, names.deliveries(), &subjects);
    plan.bearable.insert("retention".to_owned(), json!("workqueue"));
    plan.set("allow_atomic", json!(true));
    plan.set("allow_msg_schedules", json!(true));
    // The server switches roll-ups on together with schedules.
    plan.set("allow_rollup_hdrs", json!(true));
    plan
}

fn dead_letters_plan(settings: &Settings, names: &Names) -> Plan {
    let mut plan = Plan::new(
        settings,
        names.dead_letters(),
        &[names.queue_space().wire("dead.*.*.*")],
    );
    plan.set("max_msgs_per_subject", json!(1));
    plan
}

fn bucket_plan(settings: &Settings, names: &Names, bucket: Bucket) -> Plan {
    let name = format!("KV_{}", names.bucket(bucket));
    let mut plan = Plan::new(settings, name, &[names.bucket_space(bucket).wire(">")]);
    plan.set("max_msgs_per_subject", json!(1));
    plan.set("discard", json!("new"));
    plan.set("deny_delete", json!(true));
    plan.set("allow_rollup_hdrs", json!(true));
    plan.set("allow_msg_ttl", json!(true));
    plan
}

/// A JSON object of these fields.
pub(super) fn object<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields
        .into_iter()
        .map(|(field, value)| (field.to_owned(), value))
        .collect()
}

fn nanoseconds(duration: Duration) -> Value {
    json!(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

impl Plan {
    /// What all streams have in common; every field that could lose, change or divert messages is stated.
    fn new(settings: &Settings, name: String, subjects: &[String]) -> Self {
        let config = object([
            ("name", json!(name)),
            ("subjects", json!(subjects)),
            ("storage", json!("file")),
            ("retention", json!("limits")),
            ("discard", json!("old")),
            ("num_replicas", json!(settings.replicas)),
            ("max_age", json!(0)),
            ("max_bytes", json!(-1)),
            ("max_msgs", json!(-1)),
            ("max_msgs_per_subject", json!(-1)),
            ("max_msg_size", json!(-1)),
            ("duplicate_window", nanoseconds(DUPLICATE_WINDOW)),
            ("allow_direct", json!(true)),
            ("allow_atomic", json!(false)),
            ("allow_msg_schedules", json!(false)),
            ("allow_msg_ttl", json!(false)),
            ("allow_msg_counter", json!(false)),
            ("allow_rollup_hdrs", json!(false)),
            ("deny_delete", json!(false)),
            ("deny_purge", json!(false)),
            ("no_ack", json!(false)),
            ("sealed", json!(false)),
        ]);
        Self {
            name,
            config,
            bearable: Map::new(),
        }
    }

    fn set(&mut self, field: &str, value: Value) {
        self.config.insert(field.to_owned(), value);
    }

    /// What goes over the wire to create it: a default is left out, since servers refuse some of them spelled out.
    fn request(&self) -> Value {
        let stated = self.config.iter().filter(|(_, value)| **value != json!(false));
        Value::Object(
            stated
                .map(|(field, value)| (field.clone(), value.clone()))
                .collect(),
        )
    }

    /// Where the actual configuration differs from the plan.
    pub(super) fn drift(&self, actual: &Map<String, Value>) -> Vec<Drift> {
        let planned = self.config.iter().filter_map(|(field, wanted)| {
            let found = actual.get(field).cloned().unwrap_or_else(|| absent(wanted));
            let mut drift = (found != *wanted).then(|| Drift::new(field, wanted, &found))?;
            drift.tolerable |= self.bearable.get(field) == Some(&found);
            Some(drift)
        });
        planned.chain(diversions(actual)).collect()
    }
}

/// What an absent field of this kind means.
fn absent(wanted: &Value) -> Value {
    match wanted {
        Value::Bool(_) => json!(false),
        Value::Number(_) => json!(0),
        _ => Value::Null,
    }
}

/// Fields that must not be there at all: they fill a stream from elsewhere, rename its subjects, or acknowledge
/// before anything is stored.
fn diversions(actual: &Map<String, Value>) -> impl Iterator<Item = Drift> {
    const FIELDS: [&str; 5] = [
        "mirror",
        "sources",
        "subject_transform",
        "republish",
        "persist_mode",
    ];
    FIELDS.into_iter().filter_map(|field| {
        let value = actual
            .get(field)
            .filter(|value| !value.is_null() && **value != json!("default"))?;
        Some(Drift::new(field, &Value::Null, value))
    })
}

#[derive(Deserialize)]
struct Info {
    config: Map<String, Value>,
}

/// The configuration of a stream on the server; `None` where there is no such stream.
pub(super) async fn actual(
    connection: &Connection,
    name: &str,
) -> Result<Option<Map<String, Value>>, AskError> {
    match connection
        .ask::<Info>(&format!("STREAM.INFO.{name}"), &json!({}))
        .await
    {
        Ok(info) => Ok(Some(info.config)),
        Err(AskError::Refused(refusal)) if refusal.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the stream if it is missing and may be made. One that is there stays as it is: changing a live stream is
/// an operator's decision, `doctor` says what differs.
pub(super) async fn ensure(
    settings: &Settings,
    connection: &Connection,
    plan: &Plan,
) -> Result<(), OpenError> {
    let asked = actual(connection, &plan.name).await;
    if let Some(actual) = asked.map_err(|error| not_usable(settings, &plan.name, error))? {
        return require_fit(settings, plan, &actual);
    }
    if !settings.manage {
        return Err(OpenError::Unfit {
            what: format!("the stream {} on {}", plan.name, settings.address()),
            advice: "it is missing and this account may not create it; open the installation once with an account \
                     that may"
                .to_owned(),
        });
    }
    let created = connection
        .ask::<Info>(&format!("STREAM.CREATE.{}", plan.name), &plan.request())
        .await;
    match created {
        Ok(_) => Ok(()),
        // Another process may have made it between the question and the order.
        Err(error) => match actual(connection, &plan.name).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => Err(not_usable(settings, &plan.name, error)),
        },
    }
}

fn require_fit(settings: &Settings, plan: &Plan, actual: &Map<String, Value>) -> Result<(), OpenError> {
    let drift = plan.drift(actual);
    let broken: Vec<&str> = drift
        .iter()
        .filter(|drift| drift.breaks_a_promise())
        .map(|drift| drift.detail.as_str())
        .collect();
    if broken.is_empty() {
        return Ok(());
    }
    Err(OpenError::Unfit {
        what: format!("the stream {} on {}", plan.name, settings.address()),
        advice: format!(
            "{}; find out who changed it, then correct it with `nats stream edit`",
            broken.join("; ")
        ),
    })
}

/// Removes the stream with all it holds; one that is not there is no error.
pub(super) async fn remove(
    settings: &Settings,
    connection: &Connection,
    plan: &Plan,
) -> Result<(), OpenError> {
    #[derive(Deserialize)]
    struct Removed {}
    match connection
        .ask::<Removed>(&format!("STREAM.DELETE.{}", plan.name), &json!({}))
        .await
    {
        Ok(Removed {}) => Ok(()),
        Err(AskError::Refused(refusal)) if refusal.is_not_found() => Ok(()),
        Err(error) => Err(not_usable(settings, &plan.name, error)),
    }
}

/// The error for a server that answers, but not as JetStream should.
pub(super) fn not_usable(settings: &Settings, what: &str, error: AskError) -> OpenError {
    let address = settings.address();
    match error {
        AskError::Refused(refusal) => OpenError::Unfit {
            what: format!("{what} on {address}"),
            advice: format!("the server says: {refusal}"),
        },
        AskError::Unanswered(cause) => OpenError::Unreachable {
            what: format!("JetStream on {address}"),
            advice: "the server is there but JetStream does not answer; switch it on (`jetstream {}` in its \
                     configuration), and allow this account the subjects `$JS.API.>`"
                .to_owned(),
            cause,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Token;
    use crate::layout::Layout;

    fn events() -> Plan {
        let prefix = Token::new("tidings").unwrap();
        let settings = Settings::new("nats://localhost", prefix.clone(), Layout::default());
        log_plan(&settings, &Names::new(&prefix), Log::Events(0))
    }

    #[test]
    fn a_stream_as_planned_has_no_drift_even_if_the_server_leaves_defaults_out() {
        let plan = events();
        let mut actual = plan.config.clone();
        actual.retain(|_, value| *value != json!(false));
        actual.insert("compression".to_owned(), json!("none"));
        assert_eq!(plan.drift(&actual), []);
    }

    #[test]
    fn every_field_that_differs_is_named() {
        let plan = events();
        let mut actual = plan.config.clone();
        actual.insert("max_msgs".to_owned(), json!(3));
        actual.remove("deny_purge");
        actual.insert("persist_mode".to_owned(), json!("async"));
        let mut fields: Vec<String> = plan.drift(&actual).into_iter().map(|drift| drift.field).collect();
        fields.sort();
        assert_eq!(fields, ["deny_purge", "max_msgs", "persist_mode"]);
    }

    #[test]
    fn only_the_queue_may_still_be_a_work_queue() {
        let prefix = Token::new("tidings").unwrap();
        let settings = Settings::new("nats://localhost", prefix.clone(), Layout::default());
        let names = Names::new(&prefix);
        for (plan, breaks) in [(deliveries_plan(&settings, &names), false), (events(), true)] {
            let mut actual = plan.config.clone();
            actual.insert("retention".to_owned(), json!("workqueue"));
            let drift = plan.drift(&actual);
            assert_eq!(drift.len(), 1, "{}", plan.name);
            assert_eq!(drift[0].breaks_a_promise(), breaks, "{}", plan.name);
        }
    }
}
