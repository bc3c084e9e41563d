//! The platform's own audit trail: every decision of an operator, read, exported and proved with the administrator's
//! key, which reads no tenant's.

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::http::Api;

use crate::world::{World, eventually, get_after, text};

/// Decides one of each kind; answers the position of the last.
async fn decide(world: &World, admin: &Api, poison: &str) -> anyhow::Result<String> {
    admin
        .post("/v1/projections/users/pause", &json!({ "reason": "a new disk" }))
        .await?;
    admin
        .post(
            "/v1/projections/users/resume",
            &json!({ "reason": "the disk is in" }),
        )
        .await?;
    let skip = json!({ "tenant": world.tenant, "position": poison, "reason": "a broken importer" });
    let skipped = admin.post("/v1/projections/users/skip", &skip).await?;
    ensure!(skipped.status == 204, "{}", skipped.status);

    let copy = json!({ "projections": ["audit"], "to": "e0-1", "reason": "to look at the beginning" });
    let id = world.replay(&copy).await?;
    let copy = world.ended(&id).await?;
    let generation = &copy["generations"]["audit"];
    let path = format!("/v1/projections/audit/generations/{generation}?reason=looked%20at");
    admin.call(Method::DELETE, &path, None, &[]).await?.expect(202)?;

    let replay = json!({ "projections": ["users"], "reason": "to be sure" });
    let id = world.replay(&replay).await?;
    world.ended(&id).await?;
    let why = json!({ "reason": "it was better before" });
    let back = admin
        .post("/v1/projections/users/rollback", &why)
        .await?
        .expect(202)?;
    let running = text(&back, "id")?;
    // One that waits is certainly not over before it is cancelled.
    let waiting = world.replay(&json!({ "all": true })).await?;
    let path = format!("/v1/replays/{waiting}/cancel");
    let why = json!({ "reason": "asked for by mistake" });
    let cancelled = admin.post(&path, &why).await?;
    ensure!(cancelled.status == 204, "{}", cancelled.status);
    world.ended(&running).await?;
    world.ended(&waiting).await?;
    Ok(cancelled.header("tidings-position").to_owned())
}

/// The newest entry of an action.
async fn entry(admin: &Api, action: &str, position: &str) -> anyhow::Result<Value> {
    let reply = get_after(admin, &format!("/v1/audit?action={action}"), position).await?;
    let listed = reply.expect(200)?;
    let first = listed["data"].get(0).cloned();
    first.with_context(|| format!("no {action}: {listed}"))
}

tests::for_each_engine! {
    async fn every_decision_of_an_operator_is_in_the_platforms_trail(engine: Engine) {
        let mut world = World::start(engine, &[]).await?;
        world.user("ada").await?;
        let poison = crate::decisions::plant(&mut world, engine).await?;
        eventually(async || Ok(world.projection("users").await?["parked"].get(0).cloned())).await?;
        let admin = world.service.admin()?;
        let position = decide(&world, &admin, &poison).await?;

        for (action, resource, reason) in [
            ("projection.paused", "users", "a new disk"),
            ("projection.resumed", "users", "the disk is in"),
            ("projection.event_skipped", "users", "a broken importer"),
            ("projection.drop_requested", "audit", "looked at"),
            ("replay.rollback_requested", "rpl_", "it was better before"),
            ("replay.cancel_requested", "rpl_", "asked for by mistake"),
        ] {
            let entry = entry(&admin, action, &position).await?;
            ensure!(entry["actor"] == "platform-admin", "who: {entry:#}");
            ensure!(entry["outcome"] == "success" && entry["origin"] == "127.0.0.1", "{entry:#}");
            ensure!(entry["resource_id"].as_str().is_some_and(|id| id.starts_with(resource)), "what: {entry:#}");
            let why = entry["data"]["reason"].as_str().unwrap_or_default();
            ensure!(why == reason, "why: {entry:#}");
        }
        let listed = admin.get("/v1/audit?action=replay.requested").await?.expect(200)?;
        let reasons: Vec<_> = listed["data"].as_array().context("data")?.iter()
            .filter_map(|entry| entry["data"]["reason"].as_str()).collect();
        ensure!(reasons == ["to be sure", "to look at the beginning"], "{listed:#}");
        Ok(())
    }

    async fn the_platforms_trail_is_exported_and_proved_and_no_tenants(engine: Engine) {
        let world = World::start(engine, &[]).await?;
        let (_, position) = world.user("ada").await?;
        let admin = world.service.admin()?;
        let paused = admin.post("/v1/projections/users/pause", &json!({})).await?;
        let decided = paused.header("tidings-position").to_owned();
        let at_least = format!("{position},{decided}");

        let trail = get_after(&admin, "/v1/audit?limit=200", &at_least).await?.expect(200)?;
        let trail = trail["data"].as_array().context("data")?.clone();
        let actions: Vec<_> = trail.iter().filter_map(|entry| entry["action"].as_str()).collect();
        ensure!(actions.contains(&"tenant.provisioned") && actions.contains(&"projection.paused"), "{actions:?}");
        ensure!(!actions.contains(&"user.registered"), "a tenant's: {actions:?}");
        let own = get_after(&world.api()?, "/v1/audit?limit=200", &at_least).await?.expect(200)?;
        let own = own["data"].as_array().context("data")?.clone();
        ensure!(own.iter().all(|entry| entry["action"] != "projection.paused"), "the platform's: {own:#?}");

        let file = admin.get("/v1/audit/export?format=jsonl").await?;
        ensure!(file.status == 200);
        let lines = String::from_utf8(file.body.to_vec())?.lines().count();
        ensure!(lines >= trail.len(), "{lines} lines of {}", trail.len());
        let proof = get_after(&admin, &format!("/v1/audit/proof/{decided}"), &decided).await?.expect(200)?;
        ensure!(proof["record"]["subject"].as_str().is_some_and(|subject| subject.starts_with("ev.platform.")), "{proof:#}");
        let foreign = get_after(&admin, &format!("/v1/audit/proof/{position}"), &at_least).await?;
        ensure!(foreign.problem(404)? == "not_found", "a tenant's record was proved");
        for path in ["/v1/audit/checkpoint", "/v1/audit/checkpoint/key"] {
            let reply = admin.get(path).await?;
            ensure!(reply.status == 200, "{path}: {}", reply.status);
            let note = String::from_utf8(reply.body.to_vec())?;
            ensure!(note.contains("platform") && !note.contains(&world.tenant), "{path}: {note}");
        }
        admin.get("/v1/audit/consistency?from=1").await?.expect(200)?;
        let log = admin.get("/v1/audit/log").await?;
        ensure!(log.status == 200);
        for line in String::from_utf8(log.body.to_vec())?.lines() {
            let record: Value = serde_json::from_str(line)?;
            ensure!(record["subject"].as_str().is_some_and(|subject| subject.contains(".platform.")), "{record}");
        }
        // And nothing but reading.
        let hold = json!({ "reason": "a case" });
        let held = admin.call(Method::PUT, "/v1/audit/legal-hold", Some(&hold), &[]).await?;
        ensure!(held.problem(403)? == "forbidden");
        Ok(())
    }
}
