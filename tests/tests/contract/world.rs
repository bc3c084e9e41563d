//! Something of each kind, so that requests with these ids come further than "there is no such thing".

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::http::Api;
use tests::service::Tidings;
use tokio::time::Instant;

/// How long a read model may take to know what was just made.
const PATIENCE: Duration = Duration::from_secs(30);

/// What there is.
pub(crate) struct World {
    /// Calls of who made it.
    pub(crate) api: Api,
    /// The key of who made it.
    pub(crate) key: String,
    /// Ids by the first word of their address.
    pub(crate) ids: BTreeMap<&'static str, Vec<String>>,
    /// The id of that key, where it is a tenant's.
    pub(crate) own_key: Option<String>,
}

impl World {
    /// A tenant with three of each.
    pub(crate) async fn of_tenant(service: &Tidings, slug: &str) -> anyhow::Result<Self> {
        let new = json!({ "name": slug, "slug": slug });
        let made = service.admin()?.post("/v1/tenants", &new).await?.expect(201)?;
        let key = text(&made, "api_key")?;
        let api = service.tenant(&key)?;
        let mut ids = BTreeMap::new();
        ids.insert("tenants", vec![text(&made, "id")?]);
        for number in 0..3 {
            for (kind, status, body) in things(number) {
                let made = api.post(&format!("/v1/{kind}"), &body).await?.expect(status)?;
                let name = if kind == "event-types" { "name" } else { "id" };
                let id = body.get(name).and_then(Value::as_str).map(str::to_owned);
                let id = id.map_or_else(|| text(&made, "id"), Ok)?;
                ids.entry(kind).or_insert_with(Vec::new).push(id);
            }
        }
        ids.insert("permissions", vec!["users.read.tenant".to_owned()]);
        ids.insert("deliveries", first(&api, "/v1/deliveries").await?);
        ids.insert("attempts", vec!["1".to_owned()]);
        ids.insert("versions", vec!["1".to_owned()]);
        let own_key = first(&api, "/v1/api-keys").await?;
        let issued = ids.get("api-keys").context("keys")?;
        let own_key = own_key.into_iter().find(|key| !issued.contains(key));
        Ok(Self {
            own_key: Some(own_key.context("the tenant's first key")?),
            api,
            key,
            ids,
        })
    }

    /// An installation with two tenants.
    pub(crate) async fn of_platform(service: &Tidings) -> anyhow::Result<Self> {
        let api = service.admin()?;
        let mut ids = BTreeMap::new();
        for slug in ["acme", "globex"] {
            let made = api
                .post("/v1/tenants", &json!({ "name": slug, "slug": slug }))
                .await?;
            let id = text(&made.expect(201)?, "id")?;
            ids.entry("tenants").or_insert_with(Vec::new).push(id);
        }
        let projections = ["users", "teams", "stats"].map(str::to_owned).to_vec();
        ids.insert("projections", projections);
        let key = tests::service::ADMIN_KEY.to_owned();
        Ok(Self {
            own_key: None,
            api,
            key,
            ids,
        })
    }

    /// What the hooks read.
    pub(crate) fn told(&self) -> Value {
        let mut told = json!(self.ids);
        told["own_key"] = json!(self.own_key);
        told
    }
}

fn things(number: u8) -> [(&'static str, u16, Value); 9] {
    let email = |name: &str| format!("{name}{number}@example.org");
    [
        ("users", 201, json!({ "email": email("ada"), "name": "Ada" })),
        (
            "api-keys",
            201,
            json!({ "name": "key", "scopes": ["users.read.tenant"] }),
        ),
        (
            "endpoints",
            201,
            json!({ "url": "http://127.0.0.1:1/", "event_types": ["*"], "signature": "ed25519" }),
        ),
        (
            "sources",
            201,
            json!({ "name": format!("source {number}"), "verification": { "scheme": "github" } }),
        ),
        (
            "event-types",
            201,
            json!({ "name": format!("invoice.paid{number}"), "schema": { "type": "object" } }),
        ),
        (
            "events",
            202,
            json!({ "type": "order.placed", "data": { "amount": 7 } }),
        ),
        ("teams", 201, json!({ "name": format!("team {number}") })),
        (
            "roles",
            201,
            json!({ "name": format!("role {number}"), "permissions": ["users.read.tenant"] }),
        ),
        ("invitations", 201, json!({ "email": email("bob") })),
    ]
}

/// A text in a body.
pub(crate) fn text(body: &Value, field: &str) -> anyhow::Result<String> {
    let text = body[field].as_str();
    Ok(text
        .with_context(|| format!("{field} is missing in {body}"))?
        .to_owned())
}

/// The ids of a list, once the read model has some.
async fn first(api: &Api, path: &str) -> anyhow::Result<Vec<String>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = api.get(path).await?.expect(200)?;
        let rows = list["data"].as_array().context("rows")?;
        let ids: Vec<_> = rows.iter().filter_map(|row| text(row, "id").ok()).collect();
        if !ids.is_empty() && (path != "/v1/api-keys" || ids.len() > 3) {
            return Ok(ids);
        }
        ensure!(Instant::now() < deadline, "{path} stays empty");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
