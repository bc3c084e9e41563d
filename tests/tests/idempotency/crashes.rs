//! Clients that repeat their requests until they are answered, while processes die under them: each request happens
//! once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use broker::layout::Log;
use domain::{Commit, Message};
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::Api;
use tests::service::{Engine, Tidings};
use tokio::sync::{RwLock, watch};
use tokio::time::Instant;

use crate::world::{post, tenant};

const CLIENTS: usize = 8;
const KILLS: u64 = 8;
const PATIENCE: Duration = Duration::from_mins(2);
/// On the cluster engine a request that died with its process counts as running for this long, and a little more.
const TIMEOUT: (&str, &str) = ("TIDINGS_REQUEST_TIMEOUT", "2s");

/// Where the service is now: another address after each restart.
type Address = Arc<RwLock<Vec<Api>>>;

/// What a client asked for, and the id it was answered.
type Answers = BTreeMap<String, String>;

/// Sends a request under its key until it is answered with success; each time to another process, if there are more.
async fn until_done(address: &Address, key: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    for turn in 0.. {
        let apis = address.read().await.clone();
        let reply = post(&apis[turn % apis.len()], key, path, body).await;
        match reply {
            Ok(reply) if reply.status < 300 => return reply.json(),
            // Running, or the service cannot do it now; nothing else may come.
            Ok(reply) if reply.status == 409 => assert_eq!(reply.problem(409)?, "request_running"),
            Ok(reply) => ensure!(reply.status >= 500, "{path}: {}", reply.status),
            // It died, or is not back yet.
            Err(_) => {}
        }
        ensure!(Instant::now() < deadline, "{path} was not answered in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("the turns ended")
}

/// Registers users and publishes events, every value unique, until told to stop.
async fn work(address: Address, client: usize, stop: watch::Receiver<bool>) -> anyhow::Result<Answers> {
    let mut answers = Answers::new();
    for number in 0.. {
        if *stop.borrow() {
            break;
        }
        let name = format!("c{client}-{number}");
        let user = json!({ "email": format!("{name}@example.org"), "name": name });
        let user = until_done(&address, &format!("user-{name}"), "/v1/users", &user).await?;
        answers.insert(format!("{name}@example.org"), text(&user)?);
        let event = json!({ "type": "a.b", "data": name });
        let event = until_done(&address, &format!("event-{name}"), "/v1/events", &event).await?;
        answers.insert(format!("\"{name}\""), text(&event)?);
        let two = json!({ "events": [
            { "type": "a.b", "data": format!("{name}/0") }, { "type": "a.b", "data": format!("{name}/1") }] });
        let two = until_done(&address, &format!("two-{name}"), "/v1/events/bulk", &two).await?;
        for index in 0..2 {
            answers.insert(format!("\"{name}/{index}\""), text(&two["results"][index])?);
        }
    }
    Ok(answers)
}

fn text(body: &Value) -> anyhow::Result<String> {
    Ok(body["id"].as_str().context("id")?.to_owned())
}

/// What stands in the logs: by e-mail address or data, the ids.
async fn found(service: &mut Tidings) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in service.events().await? {
        if !record.subject.as_str().contains(".user.") {
            continue;
        }
        let commit = Commit::decode(&record.payload)?;
        let email = commit.events[0].data["email"].as_str().context("email")?;
        found.entry(email.to_owned()).or_default().push(commit.id.clone());
    }
    for record in service.records(Log::Messages(0)).await? {
        let message = Message::decode(&record.payload)?;
        let data = String::from_utf8(message.data)?;
        found.entry(data).or_default().push(message.id.to_string());
    }
    Ok(found)
}

fn check(found: &BTreeMap<String, Vec<String>>, answers: &[Answers]) -> anyhow::Result<()> {
    let mut asked = 0;
    for (value, id) in answers.iter().flatten() {
        let ids = found.get(value).with_context(|| format!("{value} was lost"))?;
        ensure!(
            ids == std::slice::from_ref(id),
            "{value}: {id} was answered, {ids:?} happened"
        );
        asked += 1;
    }
    ensure!(
        found.len() == asked,
        "{} things happened, {asked} were asked for",
        found.len()
    );
    Ok(())
}

/// A time between kills, unlike from one to the next.
fn between(round: u64) -> Duration {
    Duration::from_millis(60 + round * 137 % 400)
}

async fn kill_under_repeating_clients(kind: Engine) -> anyhow::Result<()> {
    let mut service = Tidings::start_with(kind, &[TIMEOUT]).await?;
    let key = tenant(&service, "acme").await?;
    let address: Address = Arc::new(RwLock::new(vec![service.tenant(&key)?]));
    let (stop, stopped) = watch::channel(false);
    let clients = (0..CLIENTS).map(|client| tokio::spawn(work(address.clone(), client, stopped.clone())));
    let clients: Vec<_> = clients.collect();
    for round in 0..KILLS {
        tokio::time::sleep(between(round)).await;
        service.restart().await?;
        *address.write().await = vec![service.tenant(&key)?];
    }
    stop.send_replace(true);
    let mut answers = Vec::new();
    for client in clients {
        answers.push(client.await??);
    }
    service.terminate().await?;
    check(&found(&mut service).await?, &answers)
}

for_each_engine! {
    /// Killed (SIGKILL) again and again while clients repeat what was not answered: each thing happened once, under
    /// the id that was answered.
    async fn a_killed_service_does_each_request_once(engine: Engine) {
        kill_under_repeating_clients(engine).await
    }
}

/// Two gateways on one log, each client asking them in turn, one killed in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_do_each_request_once() -> anyhow::Result<()> {
    let mut service = Tidings::start_with(Engine::Cluster, &[TIMEOUT]).await?;
    let key = tenant(&service, "acme").await?;
    let mut other = service.beside().await?;
    let both = vec![service.tenant(&key)?, other.tenant(&key)?];
    for (path, body) in [
        ("/v1/users", json!({ "email": "both@example.org", "name": "Ada" })),
        ("/v1/events", json!({ "type": "a.b", "data": "both" })),
    ] {
        let calls = (0..50).map(|number| post(&both[number % 2], "k", path, &body));
        for reply in futures::future::try_join_all(calls).await? {
            ensure!(reply.status < 300 || reply.problem(409)? == "request_running");
        }
    }
    let address: Address = Arc::new(RwLock::new(both));
    let mut answers = vec![Answers::new()];
    for (path, key, value) in [
        ("/v1/users", "user", "both@example.org"),
        ("/v1/events", "event", "\"both\""),
    ] {
        let body = match key {
            "user" => json!({ "email": value, "name": "Ada" }),
            _ => json!({ "type": "a.b", "data": "both" }),
        };
        let answer = until_done(&address, "k", path, &body).await?;
        answers[0].insert(value.to_owned(), text(&answer)?);
    }
    let (stop, stopped) = watch::channel(false);
    let clients = (0..CLIENTS).map(|client| tokio::spawn(work(address.clone(), client, stopped.clone())));
    let clients: Vec<_> = clients.collect();
    tokio::time::sleep(between(3)).await;
    other.kill().await?;
    tokio::time::sleep(between(1)).await;
    stop.send_replace(true);
    for client in clients {
        answers.push(client.await??);
    }
    check(&found(&mut service).await?, &answers)
}
