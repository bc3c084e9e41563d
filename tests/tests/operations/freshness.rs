//! How old answers say they are and how far behind projections are said to be, where nothing is missing and where
//! something is, before a switch and after it.

use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::json;
use tests::http::{Api, Reply};

use crate::world::{World, eventually, get_after};

/// Nothing in these tests is older, in seconds.
const OLD: f64 = 600.0;

/// Milliseconds are rounded, and clocks are read at both ends of a call.
const ROUNDING: f64 = 0.1;

fn age(reply: &Reply) -> anyhow::Result<f64> {
    reply.header("tidings-age").parse().context("Tidings-Age")
}

/// What Prometheus is told of a projection's lag: records, and seconds.
async fn measured(service: &Api, projection: &str) -> anyhow::Result<Option<(f64, f64)>> {
    let text = service.get("/metrics").await?.body;
    let text = String::from_utf8(text.to_vec())?;
    let gauge = |name: &str| -> anyhow::Result<Option<f64>> {
        let start = format!("tidings_projection_lag_{name}{{");
        let label = format!("projection=\"{projection}\"");
        let mut lines = text
            .lines()
            .filter(|line| line.starts_with(&start) && line.contains(&label));
        let value = lines.next().and_then(|line| line.rsplit(' ').next());
        Ok(value.map(str::parse).transpose()?)
    };
    Ok(gauge("records")?.zip(gauge("seconds")?))
}

/// Waits until Prometheus is told of a lag as wanted.
async fn measures(world: &World, projection: &str, wanted: impl Fn(f64, f64) -> bool) -> anyhow::Result<()> {
    let mut last = None;
    let service = world.service.anyone()?;
    let found = eventually(async || {
        last = measured(&service, projection).await?;
        Ok(last.filter(|(records, seconds)| wanted(*records, *seconds)))
    });
    let found = found.await.map(drop);
    found.with_context(|| format!("{projection} was measured so last: {last:?}"))
}

tests::for_each_engine! {
    async fn a_switch_makes_no_answer_older_than_it_is(engine: Engine) {
        let world = World::start(engine, &[]).await?;
        world.user("ada").await?;
        world.replayed(&json!({ "all": true })).await?;
        // At once, and after the next look at the ends of the logs too.
        for path in ["/v1/users", "/v1/audit", "/v1/stats", "/v1/deliveries", "/v1/events"] {
            let reply = world.api()?.get(path).await?;
            reply.expect(200)?;
            let age = age(&reply)?;
            ensure!(age < OLD, "{path} is {age} s old after the switch");
        }
        for projection in ["users", "audit", "stats", "deliveries", "messages"] {
            eventually(async || {
                let shown = world.projection(projection).await?;
                let seconds = shown["lag_seconds"].as_f64().context("lag_seconds")?;
                ensure!(seconds < OLD, "{projection}: {seconds}");
                Ok((shown["lag_records"] == 0 && seconds == 0.0).then_some(()))
            }).await?;
            measures(&world, projection, |records, seconds| records == 0.0 && seconds == 0.0).await?;
        }
        Ok(())
    }

    async fn a_model_that_rests_tells_how_old_it_is(engine: Engine) {
        let mut world = World::start(engine, &[]).await?;
        let (_, position) = world.user("ada").await?;
        get_after(&world.api()?, "/v1/users", &position).await?.expect(200)?;
        let admin = world.service.admin()?;
        admin.post("/v1/projections/users/pause", &json!({ "reason": "a new disk" })).await?;
        // It rests once the decision has come through the log, a moment later.
        let mut number = 0;
        let (missing, acknowledged) = eventually(async || {
            number += 1;
            let (id, _) = world.user(&format!("user{number}")).await?;
            let acknowledged = Instant::now();
            let path = format!("/v1/users/{id}");
            let gone = eventually(async || {
                let seen = world.api()?.get(&path).await?.status == 200;
                let lag = world.projection("users").await?["lag_seconds"].as_f64();
                Ok(if seen { Some(false) } else { (lag > Some(1.5)).then_some(true) })
            }).await?;
            Ok(gone.then_some((path, acknowledged)))
        }).await?;

        let since = acknowledged.elapsed().as_secs_f64();
        let reply = world.api()?.get(&missing).await?;
        ensure!(reply.problem(404)? == "not_found");
        let told = age(&reply)?;
        ensure!(told >= since - ROUNDING && told < OLD, "it lacks what was acknowledged {since} s ago, and is {told} s old");
        let shown = world.projection("users").await?;
        ensure!(shown["lag_records"].as_u64() > Some(0), "{shown:#}");
        let seconds = shown["lag_seconds"].as_f64().context("lag_seconds")?;
        ensure!(seconds >= since - ROUNDING && seconds < OLD, "{since} s: {shown:#}");
        measures(&world, "users", |records, seconds| records > 0.0 && seconds >= since - ROUNDING && seconds < OLD).await?;

        // A process that has it rest from its start on knows where it stands, and since when.
        world.service.restart().await?;
        let since = acknowledged.elapsed().as_secs_f64();
        measures(&world, "users", |records, seconds| {
            records > 0.0 && records < 50.0 && seconds >= since - ROUNDING && seconds < OLD
        }).await?;
        let shown = world.projection("users").await?;
        let behind = shown["lag_records"].as_f64().context("lag_records")?;
        measures(&world, "users", |records, _| (records - behind).abs() < 0.5).await?;
        world.service.admin()?.post("/v1/projections/users/resume", &json!({})).await?;
        measures(&world, "users", |records, seconds| records == 0.0 && seconds == 0.0).await?;
        ensure!(world.api()?.get(&missing).await?.status == 200);
        Ok(())
    }
}
