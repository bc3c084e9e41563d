//! The durable pull consumer that all workers of an installation share.

use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, pull};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::OpenError;
use crate::jetstream::Settings;
use crate::jetstream::connection::{AskError, Connection};
use crate::jetstream::names::Names;
use crate::jetstream::streams::{Drift, not_usable, object};

/// Its name.
pub(in crate::jetstream) const CONSUMER: &str = "workers";
/// Room for jobs in workers' hands.
const MAX_PENDING: u64 = 1_000_000;

/// How much longer than ours the server's clock of a lease runs: it starts earlier, by the way to us.
fn grace(lease: Duration) -> Duration {
    (lease / 4).clamp(Duration::from_millis(250), Duration::from_secs(2))
}

/// The consumer as it must be.
fn consumer_plan(settings: &Settings, names: &Names) -> Map<String, Value> {
    let lease = settings.layout.lease;
    let wait = u64::try_from((lease + grace(lease)).as_nanos()).unwrap_or(u64::MAX);
    object([
        ("durable_name", json!(CONSUMER)),
        ("filter_subject", json!(names.queue_space().wire("job.>"))),
        ("deliver_policy", json!("all")),
        ("ack_policy", json!("explicit")),
        ("ack_wait", json!(wait)),
        ("max_deliver", json!(-1)),
        ("max_ack_pending", json!(MAX_PENDING)),
        ("replay_policy", json!("instant")),
    ])
}

#[derive(Deserialize)]
struct Info {
    config: Map<String, Value>,
}

/// Makes the consumer, or checks that it is there; with the right to manage, a changed lease time is taken over.
pub(in crate::jetstream) async fn ensure_consumer(
    settings: &Settings,
    connection: &Connection,
    names: &Names,
) -> Result<Consumer<pull::Config>, OpenError> {
    let stream = names.deliveries();
    let what = format!("the consumer {CONSUMER} of the stream {stream}");
    let drift = consumer_drift(settings, connection, names).await;
    let drift = drift.map_err(|error| not_usable(settings, &what, error))?;
    match (drift.as_deref(), settings.manage) {
        (Some([]), _) => {}
        (_, true) => {
            let mut config = consumer_plan(settings, names);
            config.insert("name".to_owned(), json!(CONSUMER));
            let body = json!({ "stream_name": stream, "config": config, "action": "" });
            let made = connection
                .ask::<Info>(&format!("CONSUMER.CREATE.{stream}.{CONSUMER}"), &body)
                .await;
            made.map_err(|error| not_usable(settings, &what, error))?;
        }
        (Some(drift), false) => {
            let details: Vec<&str> = drift.iter().map(|drift| drift.detail.as_str()).collect();
            return Err(unfit(settings, &what, &details.join("; ")));
        }
        (None, false) => {
            return Err(unfit(
                settings,
                &what,
                "it is missing and this account may not create it",
            ));
        }
    }
    let consumer = connection
        .context
        .get_consumer_from_stream(CONSUMER, stream.as_str())
        .await;
    consumer.map_err(|error| unfit(settings, &what, &error.to_string()))
}

fn unfit(settings: &Settings, what: &str, advice: &str) -> OpenError {
    OpenError::Unfit {
        what: format!("{what} on {}", settings.address()),
        advice: advice.to_owned(),
    }
}

/// Where the consumer differs from the plan; `None` where there is none.
pub(in crate::jetstream) async fn consumer_drift(
    settings: &Settings,
    connection: &Connection,
    names: &Names,
) -> Result<Option<Vec<Drift>>, AskError> {
    let asked = connection
        .ask::<Info>(
            &format!("CONSUMER.INFO.{}.{CONSUMER}", names.deliveries()),
            &json!({}),
        )
        .await;
    let actual = match asked {
        Ok(info) => info.config,
        Err(AskError::Refused(refusal)) if refusal.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let plan = consumer_plan(settings, names);
    let drift = plan.iter().filter_map(|(field, wanted)| {
        let found = actual.get(field).cloned().unwrap_or(Value::Null);
        (found != *wanted).then(|| Drift::new(field, wanted, &found))
    });
    Ok(Some(drift.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_lease_outlives_ours_by_a_little() {
        assert_eq!(grace(Duration::from_secs(30)), Duration::from_secs(2));
        assert_eq!(grace(Duration::from_millis(400)), Duration::from_millis(250));
    }
}
