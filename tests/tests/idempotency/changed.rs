//! Repeated after the answer was lost *and* things have changed: still the first answer, and nothing more happens.

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::service::Tidings;

use crate::receipts::{forget_answers, records};
use crate::world::{keyed, same, tenant};

/// A request under a key.
struct Request {
    key: &'static str,
    method: Method,
    path: String,
    body: Option<Value>,
}

impl Request {
    fn new(key: &'static str, method: Method, path: impl Into<String>, body: Option<Value>) -> Self {
        let path = path.into();
        Self {
            key,
            method,
            path,
            body,
        }
    }

    fn post(key: &'static str, path: impl Into<String>, body: Value) -> Self {
        Self::new(key, Method::POST, path, Some(body))
    }

    async fn send(&self, api: &Api) -> anyhow::Result<Reply> {
        keyed(api, self.key, self.method.clone(), &self.path, self.body.as_ref()).await
    }
}

/// What stands before: a user, a role, an invitation, an endpoint, an event type with a schema that takes everything.
struct World {
    user: String,
    role: String,
    invitation: String,
    endpoint: String,
}

async fn made(api: &Api, path: &str, body: Value) -> anyhow::Result<String> {
    let made = api.post(path, &body).await?.expect(201)?;
    Ok(made["id"].as_str().context("id")?.to_owned())
}

async fn world(api: &Api) -> anyhow::Result<World> {
    let schema = json!({ "name": "a.b", "schema": {} });
    api.post("/v1/event-types", &schema).await?.expect(201)?;
    let endpoint = json!({ "url": "http://127.0.0.1:1/", "event_types": ["none"] });
    Ok(World {
        user: made(
            api,
            "/v1/users",
            json!({ "email": "ada@example.org", "name": "Ada" }),
        )
        .await?,
        role: made(
            api,
            "/v1/roles",
            json!({ "name": "Clerk", "permissions": ["users.read.own"] }),
        )
        .await?,
        invitation: made(api, "/v1/invitations", json!({ "email": "eve@example.org" })).await?,
        endpoint: made(api, "/v1/endpoints", endpoint).await?,
    })
}

/// Requests whose handlers look at what the changes below change.
fn requests(world: &World) -> Vec<Request> {
    let World {
        user,
        role,
        invitation,
        endpoint,
    } = world;
    let bob = json!({ "email": "bob@example.org", "name": "Bob", "roles": [role] });
    let dora = json!({ "email": "dora@example.org", "roles": [role] });
    let event = json!({ "type": "a.b", "data": { "n": 1 } });
    let url = json!({ "url": "http://127.0.0.1:1/", "event_types": ["none"] });
    vec![
        Request::post("register", "/v1/users", bob),
        Request::new(
            "grant",
            Method::PUT,
            format!("/v1/users/{user}/roles/{role}"),
            None,
        ),
        Request::new(
            "update",
            Method::PATCH,
            format!("/v1/users/{user}"),
            Some(json!({ "email": "new@example.org" })),
        ),
        Request::post(
            "invite",
            "/v1/invitations",
            json!({ "email": "cleo@example.org", "roles": [role] }),
        ),
        Request::post(
            "invite-many",
            "/v1/invitations/bulk",
            json!({ "invitations": [dora] }),
        ),
        Request::new(
            "resend",
            Method::POST,
            format!("/v1/invitations/{invitation}/resend"),
            None,
        ),
        Request::post(
            "version",
            "/v1/event-types/a.b/versions",
            json!({ "schema": { "type": "object" } }),
        ),
        Request::post("publish", "/v1/events", event.clone()),
        Request::post("publish-many", "/v1/events/bulk", json!({ "events": [event] })),
        Request::post("endpoint", "/v1/endpoints", url),
        Request::new(
            "rotate",
            Method::POST,
            format!("/v1/endpoints/{endpoint}/rotate-secret"),
            None,
        ),
        Request::new(
            "try",
            Method::POST,
            format!("/v1/endpoints/{endpoint}/test"),
            None,
        ),
        Request::post("team", "/v1/teams", json!({ "name": "Sales" })),
    ]
}

/// Makes each of the requests one that would be refused, or answered otherwise, if it came for the first time.
async fn change(api: &Api, world: &World, first: &[(Request, Reply)]) -> anyhow::Result<()> {
    let settings = json!({ "allowed_email_domains": ["example.net"], "invitation_lifetime_hours": 1 });
    let changed = api
        .call(Method::PATCH, "/v1/settings", Some(&settings), &[])
        .await?;
    ensure!(changed.status < 300, "{}", changed.status);
    let strict = json!({ "schema": { "type": "object", "required": ["never given"] } });
    api.post("/v1/event-types/a.b/versions", &strict)
        .await?
        .expect(201)?;
    let id = |key: &str| -> anyhow::Result<String> {
        let reply = &first
            .iter()
            .find(|(request, _)| request.key == key)
            .context("a request")?
            .1;
        Ok(reply.json()?["id"].as_str().context("id")?.to_owned())
    };
    let gone = [
        format!("/v1/endpoints/{}", world.endpoint),
        format!("/v1/endpoints/{}", id("endpoint")?),
        format!("/v1/teams/{}", id("team")?),
        format!("/v1/roles/{}", world.role),
    ];
    for path in gone {
        let removed = api.call(Method::DELETE, &path, None, &[]).await?;
        ensure!(removed.status == 204, "{path}: {}", removed.status);
    }
    Ok(())
}

for_each_engine! {
    /// The process dies between what it did and the answer it kept; then roles and endpoints go, domains are closed
    /// and schemas changed; then the client asks again.
    async fn a_lost_answer_is_given_again_whatever_has_changed(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let key = tenant(&service, "acme").await?;
        let api = service.tenant(&key)?;
        let world = world(&api).await?;
        let mut first = Vec::new();
        for request in requests(&world) {
            let reply = request.send(&api).await?;
            ensure!(reply.status < 300, "{}: {}", request.key, String::from_utf8_lossy(&reply.body));
            first.push((request, reply));
        }
        change(&api, &world, &first).await?;
        service.terminate().await?;
        let before = records(&service).await?;
        ensure!(forget_answers(&service).await? >= first.len(), "answers were not kept");
        service.restart().await?;
        let api = service.tenant(&key)?;
        let mut mistakes = Vec::new();
        for (request, reply) in &first {
            if let Err(error) = same(reply, &request.send(&api).await?) {
                mistakes.push(format!("{}: {error:#}", request.key));
            }
        }
        ensure!(mistakes.is_empty(), "{}", mistakes.join("\n"));
        service.terminate().await?;
        ensure!(records(&service).await? == before, "something happened twice");
        Ok(())
    }
}
