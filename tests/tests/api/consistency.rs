//! Read your writes, in one walk over every query of the served document, before and after all read models were made
//! anew: each waits for what it must have seen and no longer than it may, and tells what its answer is true of.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::Api;
use tests::receiver::{Answer, Receiver};
use tests::service::Tidings;

use crate::world::{tenant, text, until};

/// Queries that are true of no position, and why. This list only shrinks.
const OF_NOTHING_STORED: &[(&str, &str)] = &[
    (
        "/v1/audit/checkpoint/key",
        "made of the installation's secret and the tenant's id",
    ),
    ("/v1/commands", "what the program can do"),
    (
        "/v1/tenants/{tenant}/endpoints/{id}/jwks.json",
        "public keys in a bucket",
    ),
];

/// Queries that are asked by POST, with their question.
const ASKED_BY_POST: &[&str] = &["/v1/permissions/check"];

/// Positions that no log will have while the test runs.
const FAR: &str = "e0-999999999, m0-999999999, d0-999999999";

for_each_engine! {
    /// Read models that never get there answer 412 with the position they have.
    async fn every_query_honours_what_it_must_have_seen_and_tells_what_it_has(engine: Engine) {
        let service = Tidings::start_with(engine, &[("TIDINGS_CONSISTENCY_WAIT", "300ms"), ("TIDINGS_RETRY_SCHEDULE", "20ms")]).await?;
        let api = tenant(&service, "acme").await?;
        let receiver = Receiver::start().await?;
        receiver.script("/hook", [Answer::Status(503)]);
        let (ids, written) = inhabited(&service, &api, &receiver.url("/hook")).await?;
        let document = service.anyone()?.get("/openapi.json").await?.expect(200)?;
        every_query(&service, &api, &document, &ids, &written).await?;
        let all = json!({ "all": true });
        let replay = replayed(&service.admin()?, &all).await?;
        ensure!(replay["differences"] == json!([]), "{replay:#}");
        every_query(&service, &api, &document, &ids, &written).await.context("after the replay")
    }
}

/// Walks every query of the document but the few that are true of nothing.
async fn every_query(
    service: &Tidings,
    api: &Api,
    document: &Value,
    ids: &BTreeMap<&str, String>,
    written: &BTreeMap<char, u64>,
) -> anyhow::Result<()> {
    let header = |parameter: &Value| parameter["name"] == "tidings-at-least";
    let (mut walked, mut excepted) = (0, 0);
    for (path, item) in document["paths"].as_object().context("paths")? {
        let by_post = ASKED_BY_POST.contains(&path.as_str());
        let operation = if by_post { &item["post"] } else { &item["get"] };
        if operation.is_null() {
            continue;
        }
        let waits = operation["parameters"]
            .as_array()
            .is_some_and(|all| all.iter().any(header));
        if OF_NOTHING_STORED.iter().any(|(known, _)| known == path) {
            ensure!(!waits, "{path} waits: take it off the list");
            excepted += 1;
            continue;
        }
        ensure!(waits, "{path} has no parameter tidings-at-least");
        let caller = if operation["x-permission"] == "platform" {
            service.admin()?
        } else {
            api.clone()
        };
        let address = format!("{}{}", filled(path, ids)?, required(operation, ids)?);
        let question = by_post.then(|| json!({ "user": ids["users"], "permission": "users.read.tenant" }));
        let question = question.as_ref();
        walk(&caller, &address, question, written)
            .await
            .with_context(|| address.clone())?;
        if path.contains("{id}") {
            nothing(&caller, path, operation, (ids, written))
                .await
                .with_context(|| path.clone())?;
        }
        walked += 1;
    }
    ensure!(
        excepted == OF_NOTHING_STORED.len(),
        "the list names what is not there"
    );
    ensure!(walked >= 45, "only {walked} queries were walked");
    Ok(())
}

async fn ask(api: &Api, address: &str, question: Option<&Value>, at_least: &str) -> anyhow::Result<Response> {
    let request = match question {
        Some(question) => api.request(Method::POST, address).json(question),
        None => api.request(Method::GET, address),
    };
    // Only the head is read: some bodies never end.
    Ok(request.header("tidings-at-least", at_least).send().await?)
}

/// Replays, and answers the replay once it is done.
async fn replayed(admin: &Api, body: &Value) -> anyhow::Result<Value> {
    let id = text(&admin.post("/v1/replays", body).await?.expect(202)?, "id")?.to_owned();
    let over = |replay: &Value| {
        matches!(
            replay["status"].as_str(),
            Some("completed" | "failed" | "cancelled")
        )
    };
    let replay = until(admin, &format!("/v1/replays/{id}"), over).await?;
    ensure!(replay["status"] == "completed", "{replay:#}");
    Ok(replay)
}

fn position(response: &Response) -> anyhow::Result<String> {
    let value = response
        .headers()
        .get("tidings-position")
        .context("Tidings-Position")?;
    Ok(value.to_str()?.to_owned())
}

/// That the answer tells where it stands, and how old that may be.
fn told(response: &Response) -> anyhow::Result<String> {
    let age = response.headers().get("tidings-age").context("Tidings-Age")?;
    let age: f64 = age.to_str()?.parse()?;
    ensure!((0.0..600.0).contains(&age), "it is {age} s old");
    position(response)
}

async fn walk(
    api: &Api,
    address: &str,
    question: Option<&Value>,
    written: &BTreeMap<char, u64>,
) -> anyhow::Result<()> {
    let at_least: Vec<_> = written
        .iter()
        .map(|(log, sequence)| format!("{log}0-{sequence}"))
        .collect();
    let plain = ask(api, address, question, "").await?;
    ensure!(
        plain.status() == 200,
        "answered {} to whom asks for nothing",
        plain.status()
    );
    told(&plain)?;
    let answer = ask(api, address, question, &at_least.join(",")).await?;
    ensure!(answer.status() == 200, "answered {}", answer.status());
    for part in told(&answer)?.split(',') {
        let (log, sequence) = part.split_once("0-").context("a position")?;
        let wanted = log
            .chars()
            .next()
            .and_then(|log| written.get(&log))
            .context("a known log")?;
        ensure!(
            sequence.parse::<u64>()? >= *wanted,
            "{part} has not seen {at_least:?}"
        );
    }
    let stale = ask(api, address, question, FAR).await?;
    ensure!(stale.status() == 412, "answered {} too early", stale.status());
    position(&stale)?;
    let problem: Value = stale.json().await?;
    ensure!(problem["code"] == "stale", "{problem}");
    let wrong = ask(api, address, question, "soon").await?;
    ensure!(
        wrong.status() == 400,
        "a wrong header is answered {}",
        wrong.status()
    );
    Ok(())
}

/// That something is not there is true of some position, too.
async fn nothing(
    api: &Api,
    path: &str,
    operation: &Value,
    (ids, written): (&BTreeMap<&str, String>, &BTreeMap<char, u64>),
) -> anyhow::Result<()> {
    let (kind, _) = path
        .trim_start_matches("/v1/")
        .split_once('/')
        .context("a kind")?;
    let prefix = match kind {
        "tenants" => "ten",
        "users" => "usr",
        "endpoints" => "ep",
        "events" => "evt",
        "deliveries" | "dead-letters" => "dlv",
        "api-keys" => "key",
        "roles" => "rol",
        "teams" => "team",
        "invitations" => "inv",
        "replays" => "rpl",
        "recoveries" => "rcv",
        "sources" => "src",
        _ => anyhow::bail!("tell the ids of {kind}"),
    };
    let path = path.replace("{id}", &format!("{prefix}_{:0>26}", 1));
    let address = format!("{}{}", filled(&path, ids)?, required(operation, ids)?);
    let newest = written.get(&'e').context("a position")?;
    let answer = ask(api, &address, None, &format!("e0-{newest}")).await?;
    ensure!(answer.status() == 404, "answered {}", answer.status());
    told(&answer)?;
    Ok(())
}

/// The address with the ids of things that are there.
fn filled(path: &str, ids: &BTreeMap<&str, String>) -> anyhow::Result<String> {
    let (_, rest) = path.split_once("/v1/").context("a path")?;
    let kind = rest.split('/').next().unwrap_or_default();
    let mut address = path.to_owned();
    for (place, thing) in [
        ("{id}", kind),
        ("{name}", kind),
        ("{position}", "position"),
        ("{attempt}", "attempt"),
    ] {
        if address.contains(place) {
            address = address.replace(place, ids.get(thing).with_context(|| format!("one of {thing}"))?);
        }
    }
    Ok(address.replace("{version}", "1"))
}

/// The parameters without which a query is refused.
fn required(operation: &Value, ids: &BTreeMap<&str, String>) -> anyhow::Result<String> {
    let mut pairs = Vec::new();
    for parameter in operation["parameters"].as_array().context("parameters")? {
        if parameter["in"] != "query" || parameter["required"] != json!(true) {
            continue;
        }
        let name = text(parameter, "name")?;
        let value = match name {
            "format" => "jsonl",
            "metric" => "deliveries",
            "interval" => "day",
            "from" => "1",
            "permission" => "users.read.tenant",
            "table" => "users",
            "tenant" => ids.get("tenants").context("a tenant")?,
            _ => anyhow::bail!("tell what a query asks for as {name}"),
        };
        pairs.push(format!("{name}={value}"));
    }
    Ok(if pairs.is_empty() {
        String::new()
    } else {
        format!("?{}", pairs.join("&"))
    })
}

/// Something of each kind, and the newest position of each log that an answer told.
async fn inhabited(
    service: &Tidings,
    api: &Api,
    hook: &str,
) -> anyhow::Result<(BTreeMap<&'static str, String>, BTreeMap<char, u64>)> {
    let (mut ids, mut written) = (BTreeMap::new(), BTreeMap::new());
    for (kind, body) in [
        ("users", json!({ "email": "ada@example.org", "name": "Ada" })),
        ("api-keys", json!({ "name": "key" })),
        (
            "roles",
            json!({ "name": "Reader", "permissions": ["users.read.tenant"] }),
        ),
        ("teams", json!({ "name": "Sales" })),
        ("invitations", json!({ "email": "bob@example.org" })),
        ("event-types", json!({ "name": "a.b", "schema": {} })),
        ("endpoints", json!({ "url": hook, "event_types": ["*"] })),
        (
            "sources",
            json!({ "name": "GitHub", "verification": { "scheme": "github" } }),
        ),
        ("events", json!({ "type": "a.b", "data": {} })),
    ] {
        let made = api.post(&format!("/v1/{kind}"), &body).await?;
        ensure!(
            (200..300).contains(&made.status),
            "{kind}: {}",
            String::from_utf8_lossy(&made.body)
        );
        let field = if kind == "event-types" { "name" } else { "id" };
        ids.insert(kind, text(&made.json()?, field)?.to_owned());
        ids.insert("position", made.header("tidings-position").to_owned());
        let (log, sequence) = made
            .header("tidings-position")
            .split_once("0-")
            .context("a position")?;
        written.insert(log.chars().next().context("a log")?, sequence.parse()?);
    }
    // The newest of the log of events, which the proof is of.
    let newest = *written.get(&'e').context("a position")?;
    ids.insert("position", format!("e0-{newest}"));
    let any = |list: &Value| list["data"][0]["id"].is_string();
    let deliveries = until(api, "/v1/deliveries", any).await?;
    ids.insert("deliveries", text(&deliveries["data"][0], "id")?.to_owned());
    let dead = until(api, "/v1/dead-letters", any).await?;
    ids.insert("dead-letters", text(&dead["data"][0], "id")?.to_owned());
    let attempts = format!("/v1/deliveries/{}/attempts", ids["deliveries"]);
    let attempts = until(api, &attempts, any).await?;
    ids.insert("attempt", text(&attempts["data"][0], "id")?.to_owned());
    // Of events that are not there, so that the dead letter stays.
    let recovery = json!({ "since": "2026-01-01T00:00:00Z", "event_types": ["no.such"] });
    let recovery = api
        .post(&format!("/v1/endpoints/{}/recover", ids["endpoints"]), &recovery)
        .await?
        .expect(202)?;
    ids.insert("recoveries", text(&recovery, "id")?.to_owned());
    written.insert('d', 1);
    let tenants = until(&service.admin()?, "/v1/tenants", any).await?;
    ids.insert("tenants", text(&tenants["data"][0], "id")?.to_owned());
    ids.insert("projections", "users".to_owned());
    // A copy that has seen all of this.
    let copy = json!({ "projections": ["users"], "to": format!("e0-{newest}") });
    let copy = replayed(&service.admin()?, &copy).await?;
    ids.insert("replays", text(&copy, "id")?.to_owned());
    Ok((ids, written))
}
