//! One walk over every operation of the served document.

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::Api;
use tests::service::Tidings;

use crate::world::{get_after, tenant, text};

/// Operations that also do without a body.
const OPTIONAL_BODY: &[&str] = &[
    "POST /v1/endpoints/{id}/disable",
    "POST /v1/endpoints/{id}/rotate-secret",
    "POST /v1/endpoints/{id}/test",
    "POST /v1/sources/{id}/disable",
    "POST /v1/sources/{id}/rotate-secret",
    "POST /v1/users/{id}/deactivate",
    "POST /v1/api-keys/{id}/rotate",
    "POST /v1/tenants/{id}/api-keys",
    "POST /v1/projections/{name}/pause",
    "POST /v1/projections/{name}/resume",
    "POST /v1/projections/{name}/rollback",
    "POST /v1/replays/{id}/cancel",
];
/// Operations that take any object.
const ANY_OBJECT: &[&str] = &["PUT /v1/users/{id}/preferences"];

/// An event type that one tenant has registered.
const EVENT_TYPE: &str = "invoice.paid";

#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own")]
struct Operation {
    method: Method,
    path: String,
    has_body: bool,
    platform: bool,
    /// It reads the trail of whoever calls: a tenant's, or the platform's own.
    trail: bool,
    /// It needs no credential: the body proves itself.
    open: bool,
}

fn operations(document: &Value) -> anyhow::Result<Vec<Operation>> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("a path")? {
            // What another system signs has tests of its own: without a signature everything is refused.
            if operation["x-permission"] == "signature" {
                continue;
            }
            operations.push(Operation {
                method: method.to_uppercase().parse()?,
                path: path.clone(),
                has_body: operation["requestBody"]["content"]
                    .get("application/json")
                    .is_some(),
                platform: operation["x-permission"] == "platform",
                trail: operation["x-permission"] == "audit.read.tenant",
                open: operation["x-permission"] == "none",
            });
        }
    }
    Ok(operations)
}

/// Ids of one tenant, in the places of the document's paths.
struct Ids {
    user: String,
    role: String,
    team: String,
    invitation: String,
    endpoint: String,
    source: String,
    event: String,
    delivery: String,
    recovery: String,
    tenant: String,
    key: String,
}

impl Ids {
    fn fill(&self, path: &str) -> String {
        let id: &str = match path.split('/').nth(2) {
            Some("api-keys") => &self.key,
            Some("users") => &self.user,
            Some("roles") => &self.role,
            Some("teams") => &self.team,
            Some("invitations") => &self.invitation,
            Some("endpoints") => &self.endpoint,
            Some("sources") => &self.source,
            Some("events") => &self.event,
            Some("deliveries" | "dead-letters") => &self.delivery,
            Some("recoveries") => &self.recovery,
            // One that there is not: a body is read before that is found out.
            Some("replays") => "rpl_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            _ => &self.tenant,
        };
        let name = if path.starts_with("/v1/projections") {
            "audit"
        } else {
            EVENT_TYPE
        };
        path.replace("{id}", id)
            .replace("{role}", &self.role)
            .replace("{user}", &self.user)
            .replace("{permission}", "users.read.tenant")
            .replace("{name}", name)
            .replace("{version}", "1")
            .replace("{generation}", "0")
            .replace("{position}", "e0-1")
            .replace("{attempt}", "d0-1")
    }
}

/// A tenant with one of everything, and one delivery.
async fn inhabited(service: &Tidings) -> anyhow::Result<Ids> {
    let made = service
        .admin()?
        .post("/v1/tenants", &json!({ "name": "Acme", "slug": "acme" }))
        .await?
        .expect(201)?;
    let api = service.tenant(text(&made, "api_key")?)?;
    let user = api
        .post("/v1/users", &json!({ "email": "ada@example.org", "name": "Ada" }))
        .await?
        .expect(201)?;
    let role = api
        .post("/v1/roles", &json!({ "name": "Readers" }))
        .await?
        .expect(201)?;
    let key = api
        .post("/v1/api-keys", &json!({ "name": "key" }))
        .await?
        .expect(201)?;
    let team = api
        .post("/v1/teams", &json!({ "name": "Sales" }))
        .await?
        .expect(201)?;
    let invitation = api
        .post("/v1/invitations", &json!({ "email": "bob@example.org" }))
        .await?
        .expect(201)?;
    let new = json!({ "url": "http://127.0.0.1:1/", "event_types": ["*"] });
    let endpoint = api.post("/v1/endpoints", &new).await?.expect(201)?;
    let new = json!({ "name": "GitHub", "verification": { "scheme": "github" } });
    let source = api.post("/v1/sources", &new).await?.expect(201)?;
    let event_type = json!({ "name": EVENT_TYPE, "schema": {} });
    api.post("/v1/event-types", &event_type).await?.expect(201)?;
    let published = api
        .post("/v1/events", &json!({ "type": "a.b", "data": {} }))
        .await?;
    let event = published.expect(202)?;
    get_after(&api, "/v1/events", &published).await?.expect(200)?;
    let found = crate::world::until(&api, "/v1/deliveries", |body| body["data"][0].is_object()).await?;
    let path = format!("/v1/endpoints/{}/recover", text(&endpoint, "id")?);
    let recovery = api
        .post(&path, &json!({ "since": "2020-01-01T00:00:00Z" }))
        .await?
        .expect(202)?;
    Ok(Ids {
        recovery: text(&recovery, "id")?.to_owned(),
        user: text(&user, "id")?.to_owned(),
        role: text(&role, "id")?.to_owned(),
        team: text(&team, "id")?.to_owned(),
        invitation: text(&invitation, "id")?.to_owned(),
        endpoint: text(&endpoint, "id")?.to_owned(),
        source: text(&source, "id")?.to_owned(),
        event: text(&event, "id")?.to_owned(),
        delivery: text(&found["data"][0], "id")?.to_owned(),
        tenant: text(&made, "id")?.to_owned(),
        key: text(&key, "id")?.to_owned(),
    })
}

async fn call(
    api: &Api,
    operation: &Operation,
    path: &str,
    body: &Value,
) -> anyhow::Result<tests::http::Reply> {
    api.call(
        operation.method.clone(),
        path,
        operation.has_body.then_some(body),
        &[],
    )
    .await
}

/// One operation, a caller of the right kind, and an address with another tenant's ids.
struct Trial<'a> {
    operation: &'a Operation,
    name: String,
    path: String,
    right: &'a Api,
}

impl Trial<'_> {
    async fn is_refused(&self, api: &Api, status: u16, code: &str) -> anyhow::Result<()> {
        let reply = call(api, self.operation, &self.path, &json!({})).await?;
        assert_eq!(
            reply.problem(status).context(self.name.clone())?,
            code,
            "{}",
            self.name
        );
        assert_eq!(
            reply.header("www-authenticate").starts_with("Bearer"),
            status == 401,
            "{}",
            self.name
        );
        Ok(())
    }

    async fn refuses_garbage(&self) -> anyhow::Result<()> {
        let (method, name) = (&self.operation.method, &self.name);
        if *method == Method::GET {
            let reply = self
                .right
                .get(&format!("{}?no_such_parameter=1", self.path))
                .await?;
            assert!(reply.status < 500, "{name}: {}", reply.status);
        }
        if !self.operation.has_body {
            return Ok(());
        }
        let garbage = if ANY_OBJECT.contains(&name.as_str()) {
            json!([])
        } else {
            json!({ "no such field": [] })
        };
        let reply = call(self.right, self.operation, &self.path, &garbage).await?;
        assert_eq!(
            reply.problem(422).context(name.clone())?,
            "invalid_body",
            "{name}"
        );
        if !OPTIONAL_BODY.contains(&name.as_str()) {
            let headers = [("content-type", "text/plain")];
            let reply = self
                .right
                .call(method.clone(), &self.path, None, &headers)
                .await?;
            assert_eq!(
                reply.problem(415).context(name.clone())?,
                "unsupported_media_type",
                "{name}"
            );
        }
        Ok(())
    }

    /// Another tenant's id and no id at all are answered in the same words.
    async fn hides_what_is_foreign(&self) -> anyhow::Result<()> {
        let body = match self.operation.path.as_str() {
            "/v1/users/{id}"
            | "/v1/roles/{id}"
            | "/v1/api-keys/{id}"
            | "/v1/teams/{id}"
            | "/v1/teams/{id}/split" => {
                json!({ "name": "Mallory" })
            }
            "/v1/users/{id}/permissions/{permission}" => json!({ "effect": "deny" }),
            "/v1/event-types/{name}/versions" => json!({ "schema": {} }),
            "/v1/teams/{id}/move" => json!({ "parent": null }),
            "/v1/teams/{id}/merge" => json!({ "into": "team_01ARZ3NDEKTSV4RRFFQ69G5FAV" }),
            "/v1/teams/{id}/members" => json!({ "members": [{ "user": "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV" }] }),
            "/v1/teams/{id}/members/{user}" => json!({ "role": "lead" }),
            "/v1/endpoints/{id}" => json!({ "description": "Mallory's" }),
            "/v1/endpoints/{id}/recover" => json!({ "since": "2020-01-01T00:00:00Z" }),
            _ => json!({}),
        };
        let foreign = call(self.right, self.operation, &self.path, &body).await?;
        assert_eq!(
            foreign.problem(404).context(self.name.clone())?,
            "not_found",
            "{}",
            self.name
        );
        for id in ["nonsense", "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV", "%00", "..%2f.."] {
            let path = self
                .operation
                .path
                .replace("{id}", id)
                .replace("{name}", id)
                .replace("{version}", "1")
                .replace("{position}", id)
                .replace("{attempt}", id);
            let unknown = call(self.right, self.operation, &path, &body).await?;
            assert_eq!(
                unknown.problem(404).context(self.name.clone())?,
                "not_found",
                "{}",
                self.name
            );
            assert_eq!(
                unknown.json()?["detail"],
                foreign.json()?["detail"],
                "{}",
                self.name
            );
        }
        Ok(())
    }
}

for_each_engine! {
    /// No credential: 401. A wrong kind of key: 403. Another tenant's ids: 404. Garbage: a problem.
    async fn every_operation_guards_itself(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let ids = inhabited(&service).await?;
        let (anyone, admin, stranger) = (service.anyone()?, service.admin()?, tenant(&service, "stranger").await?);
        let document = anyone.get("/openapi.json").await?.expect(200)?;
        let operations = operations(&document)?;
        assert!(operations.len() >= 25, "only {} operations are documented", operations.len());
        for operation in &operations {
            let (right, wrong) = if operation.platform { (&admin, &stranger) } else { (&stranger, &admin) };
            let name = format!("{} {}", operation.method, operation.path);
            let trial = Trial { operation, name, path: ids.fill(&operation.path), right };
            if !operation.open {
                trial.is_refused(&anyone, 401, "unauthenticated").await?;
                if !operation.trail {
                    trial.is_refused(wrong, 403, "forbidden").await?;
                }
            }
            trial.refuses_garbage().await?;
            // What needs no credential hides nothing.
            if operation.path.contains('{') && !operation.platform && !operation.open {
                trial.hides_what_is_foreign().await?;
            }
        }
        Ok(())
    }
}
