//! The subcommands that ask a running service: what they print, and how they end.

use anyhow::ensure;
use serde_json::Value;

use crate::world::{World, text};

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
