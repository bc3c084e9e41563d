//! Files of the trail.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::Api;
use tests::service::Tidings;

use crate::world::{entries, tenant, text};

async fn file(api: &Api, query: &str) -> anyhow::Result<String> {
    let reply = api.get(&format!("/v1/audit/export?{query}")).await?;
    ensure!(reply.status == 200, "{}", reply.status);
    Ok(String::from_utf8(reply.body.to_vec())?)
}

/// What version 1.3.0 of the schema requires of the classes used.
fn schema() -> anyhow::Result<jsonschema::Validator> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/ocsf/audit-1.3.0.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    Ok(jsonschema::validator_for(&schema)?)
}

for_each_engine! {
    /// The same entries in each form, also over more than one page; OCSF events fit their classes.
    async fn the_trail_is_exported_in_each_form(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (id, api) = tenant(&service, "acme").await?;
        let register = |number: usize| json!({ "command": "RegisterUser", "data": { "email": format!("u{number}@example.org"), "name": "=1+1" } });
        let commands = json!({ "commands": (0..450).map(register).collect::<Vec<_>>() });
        let made = api.post("/v1/commands", &commands).await?.expect(200)?;
        let user = text(&made["results"][0]["body"], "id")?.to_owned();
        api.post(&format!("/v1/users/{user}/deactivate"), &json!({})).await?;
        api.post(&format!("/v1/users/{user}/reactivate"), &json!({})).await?;
        api.call(reqwest::Method::PUT, &format!("/v1/users/{user}/permissions/users.read.tenant"), Some(&json!({ "effect": "allow" })), &[]).await?;
        api.call(reqwest::Method::DELETE, &format!("/v1/users/{user}"), None, &[]).await?;
        api.post("/v1/users", &json!({ "email": "u1@example.org", "name": "Taken" })).await?.expect(409)?;
        entries(&api, "outcome=refused", 1).await?;

        let lines: Vec<Value> = file(&api, "format=jsonl").await?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        ensure!(lines.len() > 450, "{} lines", lines.len());
        let unique: BTreeSet<_> = lines.iter().map(|row| format!("{}.{}", row["position"], row["version"])).collect();
        assert_eq!(unique.len(), lines.len());
        let csv = file(&api, "format=csv").await?;
        assert_eq!(csv.lines().count(), lines.len() + 1);
        ensure!(csv.lines().next().is_some_and(|head| head.contains("outcome") && head.contains("changes")), "{csv}");

        let schema = schema()?;
        let ocsf = file(&api, "format=ocsf").await?;
        let events: Vec<Value> = ocsf.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        assert_eq!(events.len(), lines.len());
        for event in &events {
            let wrong: Vec<_> = schema.iter_errors(event).map(|error| error.to_string()).collect();
            ensure!(wrong.is_empty(), "{wrong:?}: {event}");
            assert_eq!(event["metadata"]["tenant_uid"], id.as_str());
        }
        let of = |type_uid: u64| events.iter().find(|event| event["type_uid"] == type_uid).with_context(|| format!("{type_uid}"));
        for type_uid in [300_101, 300_102, 300_105, 300_106, 300_501, 600_302] {
            of(type_uid)?;
        }
        let refused = events.iter().find(|event| event["status_id"] == 2).context("refused")?;
        assert_eq!((&refused["class_uid"], &refused["status_code"], &refused["api"]["operation"]), (&json!(6003), &json!("email_taken"), &json!("RegisterUser")));
        assert_eq!((&refused["src_endpoint"]["ip"], &refused["api"]["response"]["code"]), (&json!("127.0.0.1"), &json!(409)));

        let narrowed = file(&api, "format=ocsf&action=user.removed").await?;
        assert_eq!(narrowed.lines().count(), 1);
        assert_eq!(api.get("/v1/audit/export?format=xml").await?.problem(400)?, "invalid_query");
        Ok(())
    }
}
