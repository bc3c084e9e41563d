//! Replays while the service is written to and read from: every answer is right, and none goes back.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use domain::{Position, Source};
use serde_json::{Value, json};
use tests::http::{Api, Reply};
use tests::receiver::Receiver;
use tests::service::{Engine, Tidings};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::world::{World, eventually, get_after, text};

const WRITERS: usize = 3;

/// Where each address's answers stood last.
type Seen = BTreeMap<&'static str, BTreeMap<(Source, u16), u64>>;

/// What a writer did.
#[derive(Debug, Default)]
struct Done {
    users: usize,
    events: Vec<String>,
}

/// An answer that has seen what it must have seen, and stands nowhere further back than the one before it.
fn check(seen: &mut Seen, path: &'static str, reply: &Reply) -> anyhow::Result<Value> {
    let body = reply.expect(200)?;
    for part in reply.header("tidings-position").split(',') {
        let at: Position = part.parse()?;
        let before = seen
            .entry(path)
            .or_default()
            .insert((at.source, at.shard), at.sequence);
        ensure!(
            before <= Some(at.sequence),
            "{path} went back from {before:?} to {at}"
        );
    }
    Ok(body)
}

/// Writes and reads its own writes until stopped.
async fn work(api: Api, label: usize, stop: CancellationToken) -> anyhow::Result<Done> {
    let (mut done, mut seen) = (Done::default(), Seen::new());
    while !stop.is_cancelled() {
        let email = format!("w{label}-{}@example.org", done.users);
        let reply = api
            .post("/v1/users", &json!({ "email": email, "name": "Ada" }))
            .await?;
        let id = text(&reply.expect(201)?, "id")?;
        done.users += 1;
        let position = reply.header("tidings-position");
        let user = get_after(&api, &format!("/v1/users/{id}"), position).await?;
        let user = check(&mut seen, "/v1/users", &user)?;
        ensure!(user["email"] == *email, "{user}");
        let trail = get_after(&api, &format!("/v1/audit?resource={id}"), position).await?;
        let trail = check(&mut seen, "/v1/audit", &trail)?;
        ensure!(
            trail["data"][0]["action"] == "user.registered",
            "the trail of {id}: {trail}"
        );

        let event = json!({ "type": "invoice.paid", "data": { "by": label } });
        let reply = api.post("/v1/events", &event).await?;
        let id = text(&reply.expect(202)?, "id")?;
        let position = reply.header("tidings-position");
        let found = get_after(&api, &format!("/v1/events/{id}"), position).await?;
        check(&mut seen, "/v1/events", &found)?;
        let stats = get_after(&api, "/v1/stats", position).await?;
        let stats = check(&mut seen, "/v1/stats", &stats)?;
        done.events.push(id);
        ensure!(
            stats["total_events"].as_u64() >= Some(done.events.len() as u64),
            "{stats}"
        );
    }
    Ok(done)
}

/// Writers at work until the token is cancelled.
fn load(world: &World) -> anyhow::Result<(CancellationToken, JoinSet<anyhow::Result<Done>>)> {
    let (stop, mut writers) = (CancellationToken::new(), JoinSet::new());
    for writer in 0..WRITERS {
        writers.spawn(work(world.api()?, writer, stop.clone()));
    }
    Ok((stop, writers))
}

/// Waits for the writers, which have found every answer right, and finds what they wrote; answers the events.
async fn all_there(world: &World, mut writers: JoinSet<anyhow::Result<Done>>) -> anyhow::Result<Vec<String>> {
    let (mut users, mut events) = (0, Vec::new());
    while let Some(writer) = writers.join_next().await {
        let done = writer??;
        users += done.users;
        events.extend(done.events);
    }
    ensure!(
        users > WRITERS * 5,
        "only {users} users were registered meanwhile"
    );
    world.verified().await?;
    let count = format!("SELECT count(*) FROM {}", live_table(world, "users").await?);
    let stored = world.one(&count).await?;
    ensure!(
        stored.as_deref() == Some(users.to_string().as_str()),
        "{users} users, {stored:?} rows"
    );
    Ok(events)
}

/// Watches a replay until it says how fast it is and how long it will take; none where it was over before.
async fn watched(world: &World, id: &str) -> anyhow::Result<Option<Value>> {
    let admin = world.service.admin()?;
    let mut before = 0;
    eventually(async || {
        let replay = admin.get(&format!("/v1/replays/{id}")).await?.expect(200)?;
        ensure!(replay["status"] != "failed", "{replay:#}");
        if replay["status"] == "completed" {
            return Ok(Some(None));
        }
        let number = |field: &str| {
            replay[field]
                .as_u64()
                .with_context(|| format!("{field} of {replay:#}"))
        };
        let (done, total, rate) = (number("done")?, number("total")?, number("rate")?);
        ensure!(
            done >= before && done <= total,
            "it went back from {before}: {replay:#}"
        );
        before = done;
        let folds = replay["phase"] == "building" || replay["phase"] == "catching_up";
        let left = replay["seconds_left"].as_u64();
        ensure!(
            left == (total - done).checked_div(rate).filter(|_| folds),
            "{replay:#}"
        );
        if replay["phase"] != "building" || rate == 0 {
            return Ok(None);
        }
        Ok(Some(Some(replay)))
    })
    .await
}

async fn names(service: &Tidings) -> anyhow::Result<Vec<String>> {
    let listed = service.admin()?.get("/v1/projections").await?.expect(200)?;
    let listed = listed["data"].as_array().context("data")?;
    listed.iter().map(|row| text(row, "name")).collect()
}

tests::for_each_engine! {
    async fn replays_under_load_miss_nothing_and_send_nothing_again(engine: Engine) {
        let world = World::start(engine, &[("TIDINGS_CONSISTENCY_WAIT", "20s")]).await?;
        let receiver = Receiver::start().await?;
        let endpoint = json!({ "url": receiver.url("/hook"), "event_types": ["*"] });
        world.api()?.post("/v1/endpoints", &endpoint).await?.expect(201)?;
        let (stop, writers) = load(&world)?;

        let mut replayed = 0;
        for name in names(&world.service).await? {
            let reply = world.service.admin()?.post("/v1/replays", &json!({ "projections": [name] })).await?;
            if name == "archive" {
                ensure!(reply.problem(422)? == "invalid_body", "the archive is a check, and is not made anew");
                continue;
            }
            let replay = world.ended(&text(&reply.expect(202)?, "id")?).await?;
            ensure!(replay["status"] == "completed" && replay["differences"] == json!([]), "{replay:#}");
            let number = &replay["generations"][&name];
            ensure!(world.projection(&name).await?["generation"] == *number, "{name} is not switched to {number}");
            replayed += 1;
        }
        ensure!(replayed >= 14, "only {replayed} projections were replayed");
        world.replayed(&json!({ "all": true })).await?;
        world.replayed(&json!({ "projections": ["users", "audit"], "tenant": world.tenant })).await?;
        let back = world.service.admin()?.post("/v1/projections/audit/rollback", &json!({})).await?.expect(202)?;
        let back = world.ended(&text(&back, "id")?).await?;
        ensure!(back["status"] == "completed" && back["kind"] == "rollback", "{back:#}");

        stop.cancel();
        let mut events = all_there(&world, writers).await?;

        // Every event was sent once: by delivery, and by no replay.
        receiver.wait_until(crate::world::PATIENCE, |received| received.len() >= events.len()).await?;
        let mut sent: Vec<_> = receiver.received().iter().map(|one| one.webhook_id().to_owned()).collect();
        sent.sort();
        events.sort();
        ensure!(sent == events, "{} webhooks of {} events", sent.len(), events.len());
        Ok(())
    }

    async fn a_replay_leaves_nothing_but_its_own_record(engine: Engine) {
        let world = World::start(engine, &[]).await?;
        let receiver = Receiver::start().await?;
        let endpoint = json!({ "url": receiver.url("/hook"), "event_types": ["*"] });
        world.api()?.post("/v1/endpoints", &endpoint).await?.expect(201)?;
        for number in 0..20 {
            let event = json!({ "type": "invoice.paid", "data": { "number": number } });
            world.api()?.post("/v1/events", &event).await?.expect(202)?;
        }
        eventually(async || {
            let stats = world.api()?.get("/v1/stats").await?.expect(200)?;
            Ok((stats["events_by_status"]["delivered"] == 20).then_some(()))
        }).await?;
        let before = ends(&world).await?;
        world.replayed(&json!({ "all": true })).await?;
        let after = ends(&world).await?;
        ensure!(after[0] == before[0] + 2, "more than its request and its end in the log: {before:?}, {after:?}");
        ensure!(after[1..] == before[1..], "{before:?}, {after:?}");
        ensure!(receiver.received().len() == 20, "{} webhooks", receiver.received().len());
        Ok(())
    }
}

/// The ends of the logs of events, of messages and of deliveries, once the read models have all of it.
async fn ends(world: &World) -> anyhow::Result<[u64; 3]> {
    eventually(async || {
        let (mut ends, mut complete) = ([0; 3], true);
        for (place, name) in ["users", "messages", "deliveries"].into_iter().enumerate() {
            let projection = world.projection(name).await?;
            complete &= projection["lag_records"] == 0;
            for position in projection["positions"].as_array().context("positions")? {
                let position: Position = position.as_str().context("a position")?.parse()?;
                let kind = [Source::Events, Source::Messages, Source::Deliveries][place];
                if position.source == kind {
                    ends[place] = position.sequence;
                }
            }
        }
        Ok(complete.then_some(ends))
    })
    .await
}

/// The table that queries read.
async fn live_table(world: &World, name: &str) -> anyhow::Result<String> {
    let generation = world.projection(name).await?["generation"].as_i64();
    Ok(match generation.context("a live generation")? {
        0 => name.to_owned(),
        number => format!("{name}_g{number}"),
    })
}

/// In one piece: started, watched, its process killed, gone on with by another, and switched, while every answer is
/// checked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_killed_gone_on_with_and_switched_under_load() -> anyhow::Result<()> {
    let mut world = World::start(Engine::Cluster, &[("TIDINGS_CONSISTENCY_WAIT", "30s")]).await?;
    world.publish(15).await?;
    let mut first = world.service.beside().await?;
    // The writers' process lives on, so that it must not be the one that works at the replay.
    world.service.restart_as("gateway,delivery").await?;
    let (stop, writers) = load(&world)?;
    let mut tries = 0;
    let (id, seen) = loop {
        tries += 1;
        ensure!(tries < 10, "no replay was met at work");
        let id = world.replay(&json!({ "all": true })).await?;
        if let Some(seen) = watched(&world, &id).await? {
            break (id, seen);
        }
        let replay = world.ended(&id).await?;
        ensure!(
            replay["status"] == "completed" && replay["differences"] == json!([]),
            "{replay:#}"
        );
    };
    first.kill().await?;
    let _second = world.service.beside().await?;
    let replay = world.ended(&id).await?;
    ensure!(
        replay["status"] == "completed" && replay["differences"] == json!([]),
        "{replay:#}"
    );
    ensure!(replay["not_compared"] == json!([]), "{replay:#}");
    ensure!(
        replay["generations"] == seen["generations"],
        "it went on in other tables: {seen:#}, {replay:#}"
    );
    ensure!(
        replay["done"].as_u64() >= seen["done"].as_u64(),
        "{seen:#}, {replay:#}"
    );
    ensure!(
        replay["seconds_left"] == Value::Null && replay["rate"] == 0,
        "{replay:#}"
    );
    for (name, generation) in replay["generations"].as_object().context("generations")? {
        ensure!(
            world.projection(name).await?["generation"] == *generation,
            "{name} is not switched"
        );
    }
    stop.cancel();
    all_there(&world, writers).await?;
    Ok(())
}
