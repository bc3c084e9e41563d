//! What keys may do: one walk over every operation of the served document, once per permission it names.

use std::collections::BTreeMap;

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::service::Tidings;

use crate::world::{tenant, text};

/// An id that nobody has: whether one may call is answered before whether there is such a thing.
const NOBODY: &str = "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV";

struct Operation {
    method: Method,
    path: String,
    has_body: bool,
}

impl Operation {
    async fn call(&self, api: &Api) -> anyhow::Result<Reply> {
        let parts = self.path.split('/');
        let path: Vec<_> = parts
            .map(|part| if part.starts_with('{') { NOBODY } else { part })
            .collect();
        let body = json!({});
        let body = self.has_body.then_some(&body);
        // A stream has no end to wait for: what it is asked for here is refused once its caller is let in.
        let query = if self.path.ends_with("/stream") {
            "?after=nowhere"
        } else {
            ""
        };
        let path = format!("{}{query}", path.join("/"));
        api.call(self.method.clone(), &path, body, &[]).await
    }
}

/// The operations by what they need.
fn operations(document: &Value) -> anyhow::Result<BTreeMap<String, Vec<Operation>>> {
    let mut operations: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (path, item) in document["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("a path")? {
            let need = operation["x-permission"]
                .as_str()
                .with_context(|| format!("{method} {path} names no permission"))?;
            operations.entry(need.to_owned()).or_default().push(Operation {
                method: method.to_uppercase().parse()?,
                path: path.clone(),
                has_body: operation.get("requestBody").is_some(),
            });
        }
    }
    Ok(operations)
}

/// Whether a call needs no key: it proves itself by a token or a signature.
fn is_open(need: &str) -> bool {
    matches!(need, "none" | "signature")
}

async fn key_with(service: &Tidings, owner: &Api, scopes: &[&str]) -> anyhow::Result<Api> {
    let new = json!({ "name": "walker", "scopes": scopes });
    let issued = owner.post("/v1/api-keys", &new).await?.expect(201)?;
    service.tenant(text(&issued, "api_key")?)
}

/// Calls every operation with a key granted just `granted`, and tells those answered otherwise than with 403 naming
/// what is missing.
async fn walk(
    api: &Api,
    operations: &BTreeMap<String, Vec<Operation>>,
    granted: Option<&str>,
) -> anyhow::Result<()> {
    for (need, operations) in operations.iter().filter(|(need, _)| !is_open(need)) {
        for operation in operations {
            let reply = operation.call(api).await?;
            let name = format!("{} {} with {granted:?}", operation.method, operation.path);
            if granted == Some(need.as_str()) {
                assert_ne!(reply.status, 403, "{name}: {}", reply.json()?);
                assert_ne!(reply.status, 401, "{name}");
                continue;
            }
            assert_eq!(reply.problem(403).context(name.clone())?, "forbidden", "{name}");
            let detail = reply.json()?["detail"].to_string();
            let told = detail.contains(need.as_str());
            assert!(told || need == "platform", "{name}: {detail}");
        }
    }
    Ok(())
}

for_each_engine! {
    /// A key without scopes may do nothing; a key with the one permission of an operation may do that, and of all
    /// others only those that need the same.
    async fn a_key_may_do_what_it_is_granted_and_nothing_else(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let owner = tenant(&service, "acme").await?;
        let document = owner.get("/openapi.json").await?.expect(200)?;
        let operations = operations(&document)?;
        assert!(operations.len() >= 12, "only {:?}", operations.keys());
        walk(&key_with(&service, &owner, &[]).await?, &operations, None).await?;
        for need in operations.keys().filter(|need| !is_open(need) && need.as_str() != "platform") {
            let key = key_with(&service, &owner, &[need]).await?;
            walk(&key, &operations, Some(need)).await?;
        }
        Ok(())
    }

    /// What a call carries is checked as if it came alone: a key that may carry and nothing else does nothing.
    async fn a_call_of_many_lets_no_command_past_the_guard(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let owner = tenant(&service, "acme").await?;
        let listed = owner.get("/v1/commands").await?.expect(200)?;
        let listed = listed["data"].as_array().context("commands")?;
        assert!(listed.len() >= 30, "only {} commands", listed.len());
        let mut commands = vec![json!({
            "command": "RegisterUser", "data": { "email": "ada@example.org", "name": "Ada" },
        })];
        for command in listed.iter().filter(|command| command["permission"] != "none") {
            let names = command["path"].as_str().context("a path")?.split('/');
            let names = names.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            let params: BTreeMap<_, _> = names.map(|name| (name, NOBODY)).collect();
            let mut carried = json!({ "command": command["command"], "params": params });
            if command["data"] == true {
                carried["data"] = json!({});
            }
            commands.push(carried);
        }
        let carrier = key_with(&service, &owner, &["commands.execute.tenant"]).await?;
        let answer = carrier.post("/v1/commands", &json!({ "commands": commands })).await?.expect(200)?;
        for (command, result) in commands.iter().zip(answer["results"].as_array().context("results")?) {
            assert_eq!(result["status"], 403, "{command}: {result}");
        }
        let granted = ["commands.execute.tenant", "users.write.tenant"];
        let carrier = key_with(&service, &owner, &granted).await?;
        let answer = carrier.post("/v1/commands", &json!({ "commands": [commands[0]] })).await?.expect(200)?;
        assert_eq!(answer["results"][0]["status"], 201, "{answer}");
        Ok(())
    }

    /// The platform's administrator manages tenants and reads the platform's trail, and may do nothing inside tenants; a
    /// pattern grants what it covers.
    async fn administrators_and_patterns_reach_as_far_as_they_say(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let owner = tenant(&service, "acme").await?;
        let document = owner.get("/openapi.json").await?.expect(200)?;
        let (admin, operations) = (service.admin()?, operations(&document)?);
        let reader = key_with(&service, &owner, &["*.read.tenant"]).await?;
        for (need, operations) in operations.iter().filter(|(need, _)| !is_open(need)) {
            for operation in operations {
                let name = format!("{} {}", operation.method, operation.path);
                let forbidden = operation.call(&admin).await?.status == 403;
                assert_eq!(forbidden, !matches!(need.as_str(), "platform" | "audit.read.tenant"), "{name}");
                let forbidden = operation.call(&reader).await?.status == 403;
                assert_eq!(forbidden, !need.ends_with(".read.tenant"), "{name}");
            }
        }
        Ok(())
    }
}
