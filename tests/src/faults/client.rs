//! Clients that ask for something all the time, and take down what they asked and what they were told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::dice::Dice;
use super::evidence::FIRST_NAME;
use super::history::{Asked, Kind, Recorder, Step};

/// How long a client waits for an answer: longer than the service may take ([`super::world::REQUEST_TIMEOUT`]).
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// How long one repeats a command under its idempotency key to learn its outcome.
const REPEATS_FOR: Duration = Duration::from_secs(45);
/// Between two tries of a command, and after a refusal.
const PAUSE: Duration = Duration::from_millis(40);

/// What every client of a tenant knows.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: String,
    pub(crate) key: String,
    /// Where the service is; it changes with every start.
    pub(crate) address: watch::Receiver<String>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) http: Client,
}

/// The text that stands in everything a tenant's clients ask for, and in nothing else.
pub(crate) fn mark(tenant: &str) -> String {
    format!("{tenant}-w")
}

/// A client for these callers.
pub(crate) fn http() -> anyhow::Result<Client> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let builder = Client::builder().no_proxy().timeout(ANSWERED_WITHIN);
    Ok(builder.build()?)
}

/// A command as it goes over the wire.
#[derive(Debug)]
struct Request {
    kind: Kind,
    value: String,
    method: Method,
    path: String,
    body: Value,
    /// The id of what it changes, which its answer does not repeat; none where it makes something.
    changes: Option<String>,
    /// Whether it goes under an idempotency key, so that it can be repeated until its outcome is known.
    keyed: bool,
}

impl Caller {
    /// Registers a user; answers its id if that was acknowledged.
    pub(crate) async fn register(&self, value: String, keyed: bool) -> Option<String> {
        let body = json!({ "email": format!("{value}@example.org"), "name": FIRST_NAME });
        let request = Request {
            kind: Kind::Register,
            value,
            method: Method::POST,
            path: "/v1/users".to_owned(),
            body,
            changes: None,
            keyed,
        };
        self.perform(&request).await
    }

    /// Renames a user.
    pub(crate) async fn rename(&self, user: &str, value: String, keyed: bool) {
        let body = json!({ "name": value });
        let request = Request {
            kind: Kind::Rename,
            value,
            method: Method::PATCH,
            path: format!("/v1/users/{user}"),
            body,
            changes: Some(user.to_owned()),
            keyed,
        };
        self.perform(&request).await;
    }

    /// Publishes an event; answers its id if that was acknowledged.
    pub(crate) async fn publish(&self, value: String, keyed: bool) -> Option<String> {
        let body = json!({ "type": "fault.tried", "data": { "value": value } });
        let request = Request {
            kind: Kind::Publish,
            value,
            method: Method::POST,
            path: "/v1/events".to_owned(),
            body,
            changes: None,
            keyed,
        };
        self.perform(&request).await
    }

    /// Sends a command, again where that is safe and its outcome unknown, and takes everything down.
    async fn perform(&self, request: &Request) -> Option<String> {
        let number = self.recorder.number();
        let deadline = Instant::now() + REPEATS_FOR;
        loop {
            let asked = Asked {
                tenant: self.tenant.clone(),
                kind: request.kind,
                value: request.value.clone(),
            };
            self.recorder.take(number, Step::Invoke(asked));
            let step = self.send(request).await;
            self.recorder.take(number, step.clone());
            match step {
                Step::Ok(id) => return Some(id),
                Step::Unknown(_) if request.keyed && Instant::now() < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                Step::Fail(_) => {
                    tokio::time::sleep(PAUSE).await;
                    return None;
                }
                Step::Unknown(_) | Step::Invoke(_) => return None,
            }
        }
    }

    async fn send(&self, request: &Request) -> Step {
        let url = format!("{}{}", self.address.borrow().as_str(), request.path);
        let mut call = self.http.request(request.method.clone(), url);
        call = call.bearer_auth(&self.key).json(&request.body);
        if request.keyed {
            // The value names the command for ever.
            call = call.header("idempotency-key", &request.value);
        }
        let response = match call.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Step::Fail("not_sent".to_owned()),
            Err(error) => return Step::Unknown(in_full(&error)),
        };
        let status = response.status().as_u16();
        let position = response.headers().get("tidings-position");
        let position = position.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = match response.bytes().await {
            Ok(body) => serde_json::from_slice(&body).unwrap_or_default(),
            Err(error) => return Step::Unknown(format!("{status} and then {}", in_full(&error))),
        };
        if let Some(position) = position {
            self.recorder.stands_at(&position);
        }
        told(status, &body, request.changes.as_deref())
    }
}

/// What an answer says of a command.
fn told(status: u16, body: &Value, changes: Option<&str>) -> Step {
    if (200..300).contains(&status) {
        return match body["id"].as_str().or(changes) {
            Some(id) => Step::Ok(id.to_owned()),
            None => Step::Unknown(format!("{status} without an id: {body}")),
        };
    }
    let code = body["code"].as_str().unwrap_or("a problem without a code");
    match code {
        // The page of each says that it may have happened; the first try of a key is still at it in the last.
        "outcome_unknown" | "timeout" | "internal" | "request_running" => Step::Unknown(code.to_owned()),
        _ => Step::Fail(code.to_owned()),
    }
}

fn in_full(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Asks for one thing after the other until it is stopped: users, names for them and for the one user that all of the
/// tenant's writers know, and events.
pub(crate) async fn write(
    caller: Caller,
    writer: u64,
    shared: String,
    mut dice: Dice,
    stop: CancellationToken,
) {
    let mut own = shared.clone();
    let mut number = 0;
    while !stop.is_cancelled() {
        number += 1;
        let value = format!("{}{writer}-{number}", mark(&caller.tenant));
        let keyed = dice.percent(50);
        match dice.number(0..10) {
            0..=1 => {
                if let Some(id) = caller.register(value, keyed).await {
                    own = id;
                }
            }
            2..=3 => caller.rename(&own, value, keyed).await,
            4 => caller.rename(&shared, value, keyed).await,
            _ => {
                caller.publish(value, keyed).await;
            }
        }
        let pause = dice.millis(5..30);
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_whether_it_happened() {
        let problem = |code: &str| json!({ "code": code });
        assert_eq!(
            told(201, &json!({ "id": "usr_1" }), None),
            Step::Ok("usr_1".to_owned())
        );
        assert_eq!(
            told(503, &problem("unavailable"), None),
            Step::Fail("unavailable".to_owned())
        );
        assert_eq!(
            told(503, &problem("outcome_unknown"), Some("usr_1")),
            Step::Unknown("outcome_unknown".to_owned())
        );
        let changed = told(204, &Value::Null, Some("usr_1"));
        assert_eq!(changed, Step::Ok("usr_1".to_owned()));
        assert!(matches!(told(200, &json!({}), None), Step::Unknown(_)));
    }
}
