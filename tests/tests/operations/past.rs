//! Copies as of a past position or time, and going back to what was live before.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::world::{World, eventually, get_after, text};

/// The names of the tenant's users in a copy.
async fn names(world: &World, id: &str) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!(
            "/v1/replays/{id}/rows?table=users&tenant={}&limit=1{cursor}",
            world.tenant
        );
        let page = world.service.admin()?.get(&path).await?.expect(200)?;
        for row in page["data"].as_array().context("data")? {
            names.push(text(row, "name")?);
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    names.sort();
    Ok(names)
}

tests::for_each_engine! {
    async fn a_copy_shows_the_past_and_queries_the_present(engine: Engine) {
        let world = World::start(engine, &[]).await?;
        world.user("ada").await?;
        let (_, second) = world.user("bob").await?;
        // Two records of one millisecond cannot be told apart by time.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let (_, third) = world.user("eve").await?;
        let audit = get_after(&world.api()?, "/v1/audit?action=user.registered", &third).await?.expect(200)?;
        ensure!(audit["data"].as_array().context("data")?.len() == 3, "{audit:#}");

        let id = world.replay(&json!({ "projections": ["users"], "to": second })).await?;
        let replay = world.ended(&id).await?;
        ensure!(replay["status"] == "completed" && replay["switch"] == false, "{replay:#}");
        ensure!(names(&world, &id).await? == ["ada", "bob"]);
        // By the time at which the second was decided, the second may or may not have been stored; the first was.
        let at = text(&audit["data"][1], "at")?;
        let id = world.replay(&json!({ "projections": ["users"], "to": at })).await?;
        ensure!(world.ended(&id).await?["status"] == "completed");
        let then = names(&world, &id).await?;
        ensure!(then == ["ada", "bob"] || then == ["ada"], "{then:?}");

        let users = get_after(&world.api()?, "/v1/users", &third).await?.expect(200)?;
        ensure!(users["data"].as_array().context("data")?.len() == 3, "{users:#}");
        refused(&world, &second).await?;

        // A copy is dropped when it has been looked at.
        let shown = world.service.admin()?.get(&format!("/v1/replays/{id}")).await?.expect(200)?;
        let number = shown["generations"]["users"].as_i64().context("a generation")?;
        let path = format!("/v1/projections/users/generations/{number}");
        let dropped = world.service.admin()?.call(reqwest::Method::DELETE, &path, None, &[]).await?;
        dropped.expect(202)?;
        eventually(async || {
            let all = world.projection("users").await?;
            let all = all["generations"].as_array().context("generations")?.clone();
            Ok((!all.iter().any(|one| one["generation"] == number)).then_some(()))
        }).await?;
        let path = format!("/v1/replays/{id}/rows?table=users&tenant={}", world.tenant);
        ensure!(world.service.admin()?.get(&path).await?.problem(409)? == "not_possible");
        Ok(())
    }

    async fn going_back_brings_what_was_live_before_up_to_date(engine: Engine) {
        let world = World::start(engine, &[]).await?;
        world.user("ada").await?;
        let admin = world.service.admin()?;
        let none = admin.post("/v1/projections/users/rollback", &json!({})).await?;
        ensure!(none.problem(409)? == "not_possible");
        world.replayed(&json!({ "projections": ["users"] })).await?;
        ensure!(world.projection("users").await?["generation"] == 1);
        let (id, position) = world.user("bob").await?;
        for live in [0, 1, 0] {
            let back = admin.post("/v1/projections/users/rollback", &json!({})).await?.expect(202)?;
            let back = world.ended(&text(&back, "id")?).await?;
            ensure!(back["status"] == "completed", "{back:#}");
            ensure!(world.projection("users").await?["generation"] == live, "not {live}");
            // Registered when the other generation was live.
            get_after(&world.api()?, &format!("/v1/users/{id}"), &position).await?.expect(200)?;
        }
        world.verified().await?;
        Ok(())
    }
}

/// What cannot be replayed is refused before anything begins.
async fn refused(world: &World, position: &str) -> anyhow::Result<()> {
    let bodies: [(Value, &str); 8] = [
        (json!({}), "."),
        (json!({ "projections": [], "switch": true }), "projections"),
        (json!({ "projections": ["users"], "all": true }), "."),
        (json!({ "projections": ["user"] }), "projections[0]"),
        (
            json!({ "projections": ["users"], "to": position, "switch": true }),
            "switch",
        ),
        (json!({ "projections": ["users"], "to": "e0-99999" }), "to"),
        (
            json!({ "projections": ["users"], "to": "2999-01-01T00:00:00Z" }),
            "to",
        ),
        (
            json!({ "all": true, "tenant": "ten_01ARZ3NDEKTSV4RRFFQ69G5FAV" }),
            "tenant",
        ),
    ];
    for (body, path) in bodies {
        let reply = world.service.admin()?.post("/v1/replays", &body).await?;
        ensure!(reply.problem(422)? == "invalid_body", "{body}");
        let problem = reply.json()?;
        ensure!(problem["errors"][0]["path"] == *path, "{body}: {problem:#}");
    }
    Ok(())
}
