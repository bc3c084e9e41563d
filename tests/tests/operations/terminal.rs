//! The subcommands that ask a running service: what they print, and how they end.

use anyhow::{Context, ensure};
use domain::Timestamp;
use serde_json::Value;

use crate::world::{World, eventually, get_after, text};

/// The id of the replay that an output begins with.
fn started(output: &str) -> anyhow::Result<String> {
    let id = output.split_whitespace().find(|word| word.starts_with("rpl_"));
    Ok(id.with_context(|| format!("no replay in {output}"))?.to_owned())
}

tests::for_each_engine! {
    async fn a_corrupted_read_model_is_found_and_mended(engine: Engine) {
        let world = World::start(engine, &[]).await?;
        for name in ["ada", "bob", "eve"] {
            world.user(name).await?;
        }
        let (status, output) = world.run(&["verify"]).await?;
        ensure!(status.success() && output.contains("every row is what the log gives"), "{output}");

        let changed = format!("UPDATE users SET name = 'mallory' WHERE tenant = '{}' AND name = 'bob'", world.tenant);
        ensure!(world.sql(&changed).await? == 1);
        let (status, output) = world.run(&["verify", "users"]).await?;
        ensure!(status.code() == Some(1), "{output}");
        ensure!(output.contains("live table users has 3 rows, some with other values"), "{output}");
        ensure!(output.contains(&world.tenant), "{output}");
        let (status, output) = world.run(&["verify", "audit", "roles"]).await?;
        ensure!(status.success(), "{output}");

        let gone = format!("DELETE FROM users WHERE tenant = '{}' AND name = 'eve'", world.tenant);
        ensure!(world.sql(&gone).await? == 1);
        let (status, output) = world.run(&["verify", "users", "--tenant", &world.tenant, "--json"]).await?;
        ensure!(status.code() == Some(1), "{output}");
        let found: Value = serde_json::from_str(&output)?;
        let difference = &found["differences"][0];
        ensure!(difference["live"] == 2 && difference["rebuilt"] == 3, "{found:#}");

        let (status, output) = world.run(&["replay", "users"]).await?;
        ensure!(status.success() && output.contains("queries read users_g1"), "{output}");
        ensure!(output.contains("live table users has 2 rows, the log gives 3"), "{output}");
        let (status, output) = world.run(&["verify", "users"]).await?;
        ensure!(status.success(), "{output}");
        let users = world.api()?.get("/v1/users").await?.expect(200)?;
        let names: Vec<_> = users["data"].as_array().into_iter().flatten().map(|row| row["name"].clone()).collect();
        ensure!(names.len() == 3 && names.iter().any(|name| *name == "bob"), "{users:#}");
        Ok(())
    }

    async fn a_projection_that_stands_still_is_verified_where_it_stands(engine: Engine) {
        let world = World::start(engine, &[]).await?;
        world.user("ada").await?;
        let (status, output) = world.run(&["projections", "pause", "users"]).await?;
        ensure!(status.success(), "{output}");
        // It rests once a user is not folded any more.
        let mut number = 0;
        eventually(async || {
            number += 1;
            let (_, position) = world.user(&format!("user{number}")).await?;
            let audit = get_after(&world.api()?, "/v1/audit", &position).await?;
            ensure!(audit.status == 200, "{}", audit.status);
            let users = world.projection("users").await?;
            Ok((users["lag_records"].as_u64() > Some(1)).then_some(()))
        }).await?;
        let (status, output) = world.run(&["verify"]).await?;
        ensure!(status.success() && output.contains("every row is what the log gives"), "{output}");
        let changed = format!("UPDATE users SET name = 'mallory' WHERE tenant = '{}' AND name = 'ada'", world.tenant);
        ensure!(world.sql(&changed).await? == 1);
        let (status, output) = world.run(&["verify"]).await?;
        ensure!(status.code() == Some(1), "{output}");
        ensure!(output.contains("✗ users: the live table users has"), "{output}");

        // A replay waits with its switch, can be given up, and goes on when the projection does.
        let (status, output) = world.run(&["replay", "users", "--detach"]).await?;
        ensure!(status.success(), "{output}");
        let given_up = started(&output)?;
        let phase = async |id: &str, wanted: &str| eventually(async || {
            let replay = world.service.admin()?.get(&format!("/v1/replays/{id}")).await?.expect(200)?;
            ensure!(replay["status"] != "completed", "{replay:#}");
            Ok((replay["phase"] == *wanted).then_some(replay))
        }).await;
        let waiting = phase(&given_up, "paused").await?;
        ensure!(waiting["seconds_left"] == Value::Null && waiting["rate"] == 0, "{waiting:#}");
        let (status, output) = world.run(&["replays", "cancel", &given_up]).await?;
        ensure!(status.success() && output.contains("is being cancelled"), "{output}");
        let (status, output) = world.run(&["replays", "watch", &given_up]).await?;
        ensure!(status.code() == Some(1) && output.contains("cancelled, and what it had built is gone"), "{output}");
        let (status, output) = world.run(&["replays", "cancel", &given_up]).await?;
        ensure!(status.code() == Some(1) && output.contains("has ended"), "{output}");
        let (_, output) = world.run(&["replay", "users", "--detach"]).await?;
        let id = started(&output)?;
        phase(&id, "paused").await?;
        ensure!(world.projection("users").await?["generation"] == 0);
        // What has begun to be switched is not given up any more.
        let set = |phase: &str| format!("UPDATE rebuilds SET phase = '{phase}' WHERE id = '{id}'");
        ensure!(world.sql(&set("switching")).await? == 1);
        let (status, output) = world.run(&["replays", "cancel", &id]).await?;
        ensure!(status.code() == Some(1) && output.contains("is being brought to its end"), "{output}");
        ensure!(world.sql(&set("paused")).await? == 1);
        let (status, output) = world.run(&["projections", "resume", "users"]).await?;
        ensure!(status.success(), "{output}");
        let (status, output) = world.run(&["replays", "watch", &id]).await?;
        ensure!(status.success() && output.contains("queries read users_g"), "{output}");
        world.verified().await?;
        Ok(())
    }

    async fn a_copy_of_the_past_is_made_printed_and_dropped(engine: Engine) {
        let world = World::start(engine, &[]).await?;
        world.user("ada").await?;
        // Records of one millisecond cannot be told apart by time.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let then = Timestamp::from(std::time::SystemTime::now()).to_string();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let (_, last) = world.user("bob").await?;
        get_after(&world.api()?, "/v1/users", &last).await?.expect(200)?;
        let (status, output) = world.run(&["replay", "users", "--to", &then]).await?;
        ensure!(status.success() && output.contains("tidings replays rows"), "{output}");
        let id = started(&output)?;
        let rows = ["replays", "rows", &id, "--table", "users", "--tenant", &world.tenant];
        let (status, output) = world.run(&rows).await?;
        ensure!(status.success() && output.contains("ada") && !output.contains("bob"), "{output}");
        let shown = world.service.admin()?.get(&format!("/v1/replays/{id}")).await?.expect(200)?;
        let number = shown["generations"]["users"].to_string();
        let (status, output) = world.run(&["projections", "drop", "users", &number]).await?;
        ensure!(status.success() && output.contains("is being dropped"), "{output}");
        eventually(async || {
            let users = world.projection("users").await?;
            let all = users["generations"].as_array().context("generations")?.clone();
            Ok((!all.iter().any(|one| one["generation"] == number)).then_some(()))
        }).await?;
        let (status, output) = world.run(&rows).await?;
        ensure!(status.code() == Some(1), "{output}");
        let (status, output) = world.run(&["projections", "drop", "users", "0"]).await?;
        ensure!(status.code() == Some(1) && output.contains("Queries read this generation"), "{output}");
        let (status, output) = world.run(&["replay", "users", "--to", "tomorrow"]).await?;
        ensure!(status.code() == Some(1) && output.contains("RFC 3339"), "{output}");
        Ok(())
    }

    async fn the_terminal_lists_and_says_what_is_wrong(engine: Engine) {
        let world = World::start(engine, &[]).await?;
        world.user("ada").await?;
        let (status, output) = world.run(&["projections"]).await?;
        ensure!(status.success() && output.contains("PROJECTION") && output.contains("audit"), "{output}");
        let (status, output) = world.run(&["replay", "--all", "--detach", "--json"]).await?;
        ensure!(status.success(), "{output}");
        let id = text(&serde_json::from_str(&output)?, "id")?;
        let (status, output) = world.run(&["replays", "watch", &id]).await?;
        ensure!(status.success() && output.contains("queries read the new tables"), "{output}");
        let (status, output) = world.run(&["replays"]).await?;
        ensure!(status.success() && output.contains(&id) && output.contains("completed"), "{output}");
        let (status, output) = world.run(&["projections", "rollback", "audit"]).await?;
        ensure!(status.success() && output.contains("queries read audit_g0 again"), "{output}");

        let (status, output) = world.run(&["replay", "users", "--to", "e0-1", "--tenant", &world.tenant]).await?;
        ensure!(status.success() && output.contains("tidings replays rows"), "{output}");
        let (status, output) = world.run(&["replay", "user"]).await?;
        ensure!(status.code() == Some(1) && output.contains("must be one of tenants, users"), "{output}");
        let (status, output) = world.run(&["replays", "watch", "rpl_01ARZ3NDEKTSV4RRFFQ69G5FAV"]).await?;
        ensure!(status.code() == Some(1) && output.contains("There is nothing under this address"), "{output}");
        let (status, output) = world.run(&["replay"]).await?;
        ensure!(status.code() == Some(2), "{output}");
        let (status, output) = world.service.run(&["projections", "--url", "http://127.0.0.1:1"]).await?;
        ensure!(status.code() == Some(1) && output.contains("cannot be reached"), "{output}");
        let (status, output) = world.service.run(&["projections"]).await?;
        ensure!(status.code() == Some(2) && output.contains("--url"), "{output}");
        Ok(())
    }
}
