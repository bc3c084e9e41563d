//! Pausing, and passing over a record that cannot be folded.

use anyhow::{Context, ensure};
use broker::layout::Log;
use broker::{NewRecord, Subject};
use domain::{Actor, Commit};
use serde_json::{Value, json};
use tests::service::Engine;

use crate::world::{World, eventually, get_after, text};

tests::for_each_engine! {
    async fn a_paused_projection_stands_still_until_it_is_resumed(engine: Engine) {
        let mut world = World::start(engine, &[("TIDINGS_CONSISTENCY_WAIT", "500ms")]).await?;
        let (status, output) = world.run(&["projections", "pause", "users", "--reason", "a new disk"]).await?;
        ensure!(status.success(), "{output}");
        // It rests once the decision has come through the log, a moment later.
        let mut number = 0;
        let (path, position) = eventually(async || {
            number += 1;
            let (id, position) = world.user(&format!("user{number}")).await?;
            let path = format!("/v1/users/{id}");
            let reply = get_after(&world.api()?, &path, &position).await?;
            if reply.status == 200 {
                return Ok(None);
            }
            ensure!(reply.problem(412)? == "stale");
            let current: domain::Position = reply.header("tidings-position").parse()?;
            ensure!(current < position.parse()?, "{current} is not before {position}");
            Ok(Some((path, position)))
        }).await?;
        let paused = world.projection("users").await?;
        ensure!(paused["paused"]["reason"] == "a new disk", "{paused:#}");
        ensure!(paused["lag_records"].as_u64() > Some(0), "{paused:#}");
        ensure!(paused["lag_seconds"].as_f64() > Some(0.0), "{paused:#}");
        let other = world.projection("audit").await?;
        ensure!(other["paused"] == Value::Null, "{other:#}");
        // Queries that ask for nothing in particular are answered with what is known.
        world.api()?.get("/v1/users").await?.expect(200)?;

        world.service.restart().await?;
        let reply = get_after(&world.api()?, &path, &position).await?;
        ensure!(reply.problem(412)? == "stale", "it did not stay paused over a restart");
        let (status, output) = world.run(&["projections", "resume", "users"]).await?;
        ensure!(status.success(), "{output}");
        eventually(async || {
            let reply = get_after(&world.api()?, &path, &position).await?;
            Ok((reply.status == 200).then_some(()))
        }).await?;
        ensure!(world.projection("users").await?["paused"] == Value::Null);
        world.verified().await?;
        Ok(())
    }

    async fn a_record_that_cannot_be_folded_is_skipped_by_a_decision_on_the_record(engine: Engine) {
        let mut world = World::start(engine, &[]).await?;
        world.user("ada").await?;
        let poison = plant(&mut world, engine).await?;
        let parked = eventually(async || {
            let users = world.projection("users").await?;
            Ok(users["parked"].get(0).cloned())
        }).await?;
        ensure!(parked["tenant"] == *world.tenant && parked["position"] == *poison, "{parked:#}");
        ensure!(!text(&parked, "error")?.is_empty());
        let (id, position) = world.user("bob").await?;
        let path = format!("/v1/users/{id}");
        ensure!(get_after(&world.api()?, &path, &position).await?.status == 404, "it waits behind the record");

        // Only what a tenant waits at is skipped, and not without a reason.
        let admin = world.service.admin()?;
        let skip = |position: &str| json!({ "tenant": world.tenant, "position": position, "reason": "a broken importer" });
        let other = admin.post("/v1/projections/users/skip", &skip("e0-1")).await?;
        ensure!(other.problem(409)? == "not_possible");
        let silent = json!({ "tenant": world.tenant, "position": poison });
        let silent = admin.post("/v1/projections/users/skip", &silent).await?;
        ensure!(silent.problem(422)? == "invalid_body");
        let done = admin.post("/v1/projections/users/skip", &skip(&poison)).await?;
        ensure!(done.status == 204, "{}", done.status);
        eventually(async || {
            let reply = get_after(&world.api()?, &path, &position).await?;
            Ok((reply.status == 200).then_some(()))
        }).await?;
        // Its records are caught up with page by page, and it counts as parked until the last.
        let users = eventually(async || {
            let users = world.projection("users").await?;
            Ok((users["parked"] == json!([])).then_some(users))
        }).await?;
        ensure!(users["skipped"][0]["reason"] == "a broken importer", "{users:#}");
        let again = admin.post("/v1/projections/users/skip", &skip(&poison)).await?;
        ensure!(again.status == 204, "what is decided is decided: {}", again.status);
        let audit = world.projection("audit").await?;
        ensure!(audit["parked"][0]["position"] == *poison, "it was decided about users alone: {audit:#}");

        let arguments = ["projections", "skip", "--all", "--tenant", &world.tenant, "--position", &poison];
        let (status, output) = world.run(&[&arguments[..], &["--reason", "a broken importer"]].concat()).await?;
        ensure!(status.success() && output.contains("audit passes over"), "{output}");
        eventually(async || {
            let listed = admin.get("/v1/projections").await?.expect(200)?;
            let listed = listed["data"].as_array().context("data")?.clone();
            Ok(listed.iter().all(|row| row["parked"] == json!([])).then_some(()))
        }).await?;
        // A replay passes over it too.
        world.replayed(&json!({ "all": true })).await?;
        let users = world.projection("users").await?;
        ensure!(users["parked"] == json!([]) && users["generation"] == 1, "{users:#}");
        world.service.restart().await?;
        get_after(&world.api()?, &path, &position).await?.expect(200)?;
        audited(&mut world, &poison).await
    }
}

/// Appends a record that no program can read, as one of the tenant's; answers where it stands.
pub(crate) async fn plant(world: &mut World, kind: Engine) -> anyhow::Result<String> {
    if kind == Engine::Embedded {
        world.service.terminate().await?;
    }
    let engine = world.service.engine().await?;
    let record = NewRecord {
        subject: Subject::new(format!("ev.{}.user.usr_01ARZ3NDEKTSV4RRFFQ69G5FAV", world.tenant))?,
        message_id: format!("{}:poison", world.tenant),
        expect: None,
        payload: bytes::Bytes::from_static(b"\xc1 is no commit"),
    };
    let appended = engine.log(Log::Events(0)).append(vec![record]).await?;
    engine.close().await;
    if kind == Engine::Embedded {
        world.service.restart().await?;
    }
    Ok(format!(
        "e0-{}",
        appended.first().context("no record was appended")?.sequence
    ))
}

/// The decision stands in the log, with who made it and why.
async fn audited(world: &mut World, poison: &str) -> anyhow::Result<()> {
    world.service.terminate().await?;
    let records = world.service.events().await?;
    let decisions = records.iter().filter(|record| {
        record
            .subject
            .as_str()
            .starts_with("ev.platform.projection.users")
    });
    let commits = decisions.map(|record| Commit::decode(&record.payload));
    let commits: Vec<Commit> = commits.collect::<Result<_, _>>()?;
    ensure!(commits.len() == 1, "{commits:#?}");
    let (commit, event) = (&commits[0], &commits[0].events[0]);
    ensure!(
        commit.meta.actor == Actor::PlatformAdmin,
        "{:?}",
        commit.meta.actor
    );
    ensure!(event.event_type == "projection.event_skipped", "{event:?}");
    ensure!(
        event.data["position"] == *poison && event.data["reason"] == "a broken importer",
        "{event:?}"
    );
    Ok(())
}
