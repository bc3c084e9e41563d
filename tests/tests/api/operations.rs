//! One walk over every operation of the served document.

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::Api;
use tests::service::Tidings;

use crate::world::{get_after, tenant, text};

/// Operations that also do without a body.
const OPTIONAL_BODY: &[&str] = &["POST /v1/endpoints/{id}/disable"];

struct Operation {
    method: Method,
    path: String,
    has_body: bool,
    platform: bool,
}

fn operations(document: &Value) -> anyhow::Result<Vec<Operation>> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("a path")? {
            operations.push(Operation {
                method: method.to_uppercase().parse()?,
                path: path.clone(),
                has_body: operation.get("requestBody").is_some(),
                platform: path.starts_with("/v1/tenants"),
            });
        }
    }
    Ok(operations)
}

/// Ids of one tenant, in the places of the document's paths.
struct Ids {
    user: String,
    endpoint: String,
    event: String,
    delivery: String,
    tenant: String,
}

impl Ids {
    fn fill(&self, path: &str) -> String {
        let id = match path.split('/').nth(2) {
            Some("users") => &self.user,
            Some("endpoints") => &self.endpoint,
            Some("events") => &self.event,
            Some("deliveries") => &self.delivery,
            _ => &self.tenant,
        };
        path.replace("{id}", id)
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
    let new = json!({ "url": "http://127.0.0.1:1/", "event_types": ["*"] });
    let endpoint = api.post("/v1/endpoints", &new).await?.expect(201)?;
    let published = api
        .post("/v1/events", &json!({ "type": "a.b", "data": {} }))
        .await?;
    let event = published.expect(202)?;
    get_after(&api, "/v1/events", &published).await?.expect(200)?;
    let found = crate::world::until(&api, "/v1/deliveries", |body| body["data"][0].is_object()).await?;
    Ok(Ids {
        user: text(&user, "id")?.to_owned(),
        endpoint: text(&endpoint, "id")?.to_owned(),
        event: text(&event, "id")?.to_owned(),
        delivery: text(&found["data"][0], "id")?.to_owned(),
        tenant: text(&made, "id")?.to_owned(),
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
            let what = format!("{} {}", operation.method, operation.path);
            let path = ids.fill(&operation.path);
            let context = || what.clone();
            let reply = call(&anyone, operation, &path, &json!({})).await?;
            assert_eq!(reply.problem(401).with_context(context)?, "unauthenticated", "{what}");
            assert!(reply.header("www-authenticate").starts_with("Bearer"), "{what}");

            let wrong = if operation.platform { &stranger } else { &admin };
            let reply = call(wrong, operation, &path, &json!({})).await?;
            assert_eq!(reply.problem(403).with_context(context)?, "forbidden", "{what}");

            let right = if operation.platform { &admin } else { &stranger };
            if operation.has_body {
                let garbage = json!({ "no such field": [] });
                let reply = call(right, operation, &path, &garbage).await?;
                assert_eq!(reply.problem(422).with_context(context)?, "invalid_body", "{what}");
                if !OPTIONAL_BODY.contains(&what.as_str()) {
                    let headers = [("content-type", "text/plain")];
                    let reply = right.call(operation.method.clone(), &path, None, &headers).await?;
                    assert_eq!(reply.problem(415).with_context(context)?, "unsupported_media_type", "{what}");
                }
            }
            if operation.method == Method::GET {
                let reply = right.get(&format!("{path}?no_such_parameter=1")).await?;
                assert!(reply.status < 500, "{what}: {}", reply.status);
            }
            if operation.path.contains("{id}") && !operation.platform {
                let body = match operation.path.as_str() {
                    "/v1/users/{id}" => json!({ "name": "Mallory" }),
                    "/v1/endpoints/{id}" => json!({ "description": "Mallory's" }),
                    _ => json!({}),
                };
                let foreign = call(right, operation, &path, &body).await?;
                assert_eq!(foreign.problem(404).with_context(context)?, "not_found", "{what}");
                for id in ["nonsense", "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV", "%00", "..%2f.."] {
                    let path = operation.path.replace("{id}", id);
                    let unknown = call(right, operation, &path, &body).await?;
                    let same = unknown.problem(404).with_context(context)?;
                    assert_eq!((same.as_str(), &unknown.json()?["detail"]), ("not_found", &foreign.json()?["detail"]));
                }
            }
        }
        Ok(())
    }
}
