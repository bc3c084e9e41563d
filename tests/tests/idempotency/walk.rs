//! One walk over every operation that changes something: sent twice under a key, and sent again after the process died
//! before its answer was kept, it is answered the same, and nothing happens a second time.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::service::Tidings;

use crate::receipts::{forget_answers, records};
use crate::world::{keyed, same, tenant};

/// An operation as it is called.
struct Operation {
    name: String,
    method: Method,
    path: String,
    body: Option<Value>,
    platform: bool,
}

/// A body with which an operation succeeds on the things of [`inhabited`]; any other is answered with a problem, which
/// must be the same problem again.
fn body_for(name: &str, ids: &BTreeMap<&str, String>) -> Value {
    match name {
        "POST /v1/tenants" => json!({ "name": "New", "slug": "new" }),
        "PATCH /v1/tenants/{id}" | "PATCH /v1/users/{id}" | "PATCH /v1/teams/{id}" => {
            json!({ "name": "Renamed" })
        }
        "POST /v1/api-keys" => json!({ "name": "new", "scopes": ["users.read.tenant"] }),
        "PATCH /v1/api-keys/{id}" => json!({ "name": "renamed" }),
        "POST /v1/users" => json!({ "email": "new@example.org", "name": "New" }),
        "POST /v1/endpoints" => json!({ "url": "http://127.0.0.1:1/", "event_types": ["new"] }),
        "POST /v1/sources" => json!({ "name": "New", "verification": { "scheme": "github" } }),
        "PATCH /v1/sources/{id}" => json!({ "name": "Renamed" }),
        "PATCH /v1/endpoints/{id}" => json!({ "description": "new" }),
        "POST /v1/events" => json!({ "type": "x.y", "data": { "new": true } }),
        "POST /v1/events/bulk" => {
            json!({ "events": [{ "type": "x.y", "data": 1 }, { "type": "x.y", "data": 2 }] })
        }
        "POST /v1/dead-letters/redrive" | "POST /v1/dead-letters/discard" => {
            json!({ "endpoint": ids["endpoints"] })
        }
        "POST /v1/teams" => json!({ "name": "New" }),
        "POST /v1/teams/{id}/members" => json!({ "members": [{ "user": ids["users"] }] }),
        "PUT /v1/teams/{id}/members/{user}" => json!({ "role": "lead" }),
        "POST /v1/teams/{id}/move" => json!({ "parent": ids["heir"] }),
        "POST /v1/teams/{id}/split" => json!({ "name": "Split" }),
        "POST /v1/teams/{id}/merge" => json!({ "into": ids["heir"] }),
        "POST /v1/invitations" => json!({ "email": "eve@example.org" }),
        "POST /v1/invitations/bulk" => {
            json!({ "invitations": [{ "email": "fay@example.org" }, { "email": "gil@example.org" }] })
        }
        "POST /v1/invitations/accept" => json!({ "token": ids["token"], "name": "Bob" }),
        "POST /v1/permissions/check" => json!({ "user": "nobody", "permission": "users.read.tenant" }),
        _ => json!({}),
    }
}

/// Something of each kind, by the first word of its address.
async fn inhabited(service: &Tidings, api: &Api) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let mut ids = BTreeMap::new();
    ids.insert("tenants", first(&service.admin()?, "/v1/tenants").await?);
    let user = json!({ "email": "ada@example.org", "name": "Ada" });
    ids.insert("users", id(&api.post("/v1/users", &user).await?.expect(201)?)?);
    let key = json!({ "name": "key" });
    ids.insert(
        "api-keys",
        id(&api.post("/v1/api-keys", &key).await?.expect(201)?)?,
    );
    let endpoint = json!({ "url": "http://127.0.0.1:1/", "event_types": ["*"] });
    ids.insert(
        "endpoints",
        id(&api.post("/v1/endpoints", &endpoint).await?.expect(201)?)?,
    );
    let source = json!({ "name": "GitHub", "verification": { "scheme": "github" } });
    ids.insert(
        "sources",
        id(&api.post("/v1/sources", &source).await?.expect(201)?)?,
    );
    let event = json!({ "type": "a.b", "data": {} });
    ids.insert("events", id(&api.post("/v1/events", &event).await?.expect(202)?)?);
    for (kind, name) in [("teams", "Sales"), ("heir", "Heir")] {
        let team = api
            .post("/v1/teams", &json!({ "name": name }))
            .await?
            .expect(201)?;
        ids.insert(kind, id(&team)?);
    }
    for (kind, email) in [("invitations", "cleo@example.org"), ("token", "bob@example.org")] {
        let made = api
            .post("/v1/invitations", &json!({ "email": email }))
            .await?
            .expect(201)?;
        let field = if kind == "token" { "token" } else { "id" };
        ids.insert(kind, made[field].as_str().context("an invitation")?.to_owned());
    }
    ids.insert("deliveries", first(api, "/v1/deliveries").await?);
    Ok(ids)
}

/// The id of the first thing in a list, once the read model has one.
async fn first(api: &Api, path: &str) -> anyhow::Result<String> {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let list = api.get(path).await?.expect(200)?;
        if let Ok(found) = id(&list["data"][0]) {
            return Ok(found);
        }
        ensure!(tokio::time::Instant::now() < deadline, "{path} stays empty");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn id(body: &Value) -> anyhow::Result<String> {
    Ok(body["id"].as_str().context("id")?.to_owned())
}

/// Every operation of the served document that changes something.
async fn operations(service: &Tidings, ids: &BTreeMap<&str, String>) -> anyhow::Result<Vec<Operation>> {
    let document = service.anyone()?.get("/openapi.json").await?.expect(200)?;
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("a path")? {
            let method: Method = method.to_uppercase().parse()?;
            let name = format!("{method} {path}");
            // What another system signs is known by its own name instead.
            if method == Method::GET || operation["x-permission"] == "signature" {
                continue;
            }
            let documented = operation["parameters"].as_array().into_iter().flatten();
            ensure!(
                documented
                    .into_iter()
                    .any(|parameter| parameter["name"] == "idempotency-key"),
                "{name} does not document Idempotency-Key"
            );
            let kind = path.split('/').nth(2).unwrap_or_default();
            let id = ids.get(kind).map_or("nothing", String::as_str);
            operations.push(Operation {
                body: operation.get("requestBody").map(|_| body_for(&name, ids)),
                platform: operation["x-permission"] == "platform",
                path: path.replace("{id}", id).replace("{user}", &ids["users"]),
                method,
                name,
            });
        }
    }
    // What ends a thing comes last.
    let ends = ["/revoke", "/merge"];
    operations.sort_by_key(|operation| {
        operation.method == Method::DELETE || ends.iter().any(|end| operation.path.ends_with(end))
    });
    Ok(operations)
}

async fn call(service: &Tidings, key: &str, operation: &Operation) -> anyhow::Result<Reply> {
    let api = if operation.platform {
        service.admin()?
    } else {
        service.tenant(key)?
    };
    let Operation {
        name,
        method,
        path,
        body,
        ..
    } = operation;
    let name = name.replace(['/', ' ', '{', '}'], "-");
    keyed(&api, &name, method.clone(), path, body.as_ref()).await
}

/// Calls each operation twice, lets the answers be lost, as when the process dies before it keeps them, and calls each
/// that succeeded once more; answers how many did.
async fn walk(service: &mut Tidings, key: &str, operations: &[Operation]) -> anyhow::Result<usize> {
    let mut first = Vec::new();
    for operation in operations {
        let reply = call(service, key, operation).await?;
        let again = call(service, key, operation).await?;
        same(&reply, &again).with_context(|| operation.name.clone())?;
        let marked = again.header("idempotent-replayed") == "true";
        ensure!(marked, "{} was not replayed", operation.name);
        first.push(reply);
    }
    service.terminate().await?;
    let before = records(service).await?;
    let forgotten = forget_answers(service).await?;
    ensure!(
        forgotten >= operations.len(),
        "{forgotten} receipts for {} requests",
        operations.len()
    );
    service.restart().await?;
    let mut mistakes = Vec::new();
    let succeeded = operations.iter().zip(&first);
    let succeeded: Vec<_> = succeeded.filter(|(_, reply)| reply.status < 300).collect();
    for (operation, reply) in &succeeded {
        let again = call(service, key, operation).await?;
        if let Err(error) = same(reply, &again) {
            mistakes.push(format!("{}: {error:#}", operation.name));
        }
    }
    ensure!(
        mistakes.is_empty(),
        "repeated after a crash:\n{}",
        mistakes.join("\n")
    );
    service.terminate().await?;
    ensure!(records(service).await? == before, "something happened twice");
    service.restart().await?;
    Ok(succeeded.len())
}

for_each_engine! {
    /// Every operation under a key, twice, and once more after its answer was lost; what ends things in a walk of its
    /// own, since what is gone when a request is taken up again is answered as gone.
    async fn every_change_happens_once_under_its_key(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let key = tenant(&service, "acme").await?;
        let ids = inhabited(&service, &service.tenant(&key)?).await?;
        let (ends, changes): (Vec<_>, Vec<_>) = operations(&service, &ids)
            .await?
            .into_iter()
            .partition(|operation| operation.method == Method::DELETE);
        ensure!(changes.len() >= 10, "only {} operations change something", changes.len());
        let succeeded = walk(&mut service, &key, &changes).await?;
        ensure!(succeeded >= 10, "only {succeeded} of {} succeeded", changes.len());
        walk(&mut service, &key, &ends).await?;
        Ok(())
    }
}
