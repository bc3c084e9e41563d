//! Killed with SIGKILL in the middle of its work and started again, the service has lost nothing it acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use broker::Token;
use broker::embedded::Embedded;
use broker::jetstream::{JetStream, Settings};
use broker::layout::{Layout, Log};
use domain::{Position, Source};
use projections::{Control, Projectors, ReadModels, Target, verify};
use serde_json::{Value, json};
use tests::http::Api;
use tests::receiver::Receiver;
use tests::sample::github_events;
use tests::service::{Engine as Kind, Tidings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_mins(1);
const KILLS: usize = 4;
const WRITERS: usize = 6;

/// What the service has said yes to.
#[derive(Debug, Default)]
struct Acknowledged {
    /// Marker in the data → id of the event.
    events: BTreeMap<String, String>,
    /// E-mail address → id of the user.
    users: BTreeMap<String, String>,
}

impl Acknowledged {
    fn join(&mut self, other: Self) {
        self.events.extend(other.events);
        self.users.extend(other.users);
    }
}

/// Publishes and registers until the service is gone; every value is unique. Counts what is acknowledged.
async fn write(
    client: Api,
    label: String,
    samples: Arc<Vec<(String, Value)>>,
    count: watch::Sender<usize>,
) -> Acknowledged {
    let mut done = Acknowledged::default();
    for number in 0.. {
        let marker = format!("{label}-{number}");
        let (event_type, data) = &samples[number % samples.len()];
        let event = json!({ "type": event_type, "data": { "marker": marker, "payload": data } });
        let Ok(reply) = client.post("/v1/events", &event).await else {
            break;
        };
        if let Ok(body) = reply.expect(202) {
            done.events
                .insert(marker.clone(), body["id"].as_str().unwrap_or_default().to_owned());
            count.send_modify(|count| *count += 1);
        }
        let email = format!("{marker}@example.org");
        let Ok(reply) = client
            .post("/v1/users", &json!({ "email": email, "name": "User" }))
            .await
        else {
            break;
        };
        if let Ok(body) = reply.expect(201) {
            done.users
                .insert(email, body["id"].as_str().unwrap_or_default().to_owned());
        }
    }
    done
}

/// Lets writers work until so many events are acknowledged, then kills the service under them.
async fn write_until_killed(
    service: &mut Tidings,
    key: &str,
    round: usize,
    samples: &Arc<Vec<(String, Value)>>,
) -> anyhow::Result<Acknowledged> {
    let (sender, mut count) = watch::channel(0);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let label = format!("r{round}-w{writer}");
        writers.spawn(write(
            service.tenant(key)?,
            label,
            samples.clone(),
            sender.clone(),
        ));
    }
    tokio::time::timeout(SOON, count.wait_for(|count| *count >= 20 + 15 * round)).await??;
    service.kill().await?;
    let mut done = Acknowledged::default();
    while let Some(writer) = writers.join_next().await {
        done.join(writer?);
    }
    Ok(done)
}

tests::for_each_engine! {
    async fn what_was_acknowledged_survives_sigkill(engine: Engine) {
        let mut service = Tidings::start_with(engine, &[("TIDINGS_RETRY_SCHEDULE", "200ms,500ms,1s,1s,1s,1s")]).await?;
        let receiver = Receiver::start().await?;
        let tenant = service.admin()?.post("/v1/tenants", &json!({ "name": "Acme", "slug": "acme" })).await?.expect(201)?;
        let key = tenant["api_key"].as_str().context("api_key")?.to_owned();
        let endpoint = json!({ "url": receiver.url("/hook"), "event_types": ["*"] });
        let endpoint = service.tenant(&key)?.post("/v1/endpoints", &endpoint).await?.expect(201)?;
        let secret = endpoint["secret"].as_str().context("secret")?.to_owned();

        let samples = Arc::new(github_events()?);
        let mut acknowledged = Acknowledged::default();
        for round in 0..KILLS {
            acknowledged.join(write_until_killed(&mut service, &key, round, &samples).await?);
            service.restart().await?;
        }
        ensure!(acknowledged.events.len() > 100, "only {} events were acknowledged", acknowledged.events.len());

        // Everything acknowledged was delivered at least once, each event under its one id.
        let wanted: BTreeSet<String> = acknowledged.events.values().cloned().collect();
        ensure!(wanted.len() == acknowledged.events.len(), "two events have one id");
        receiver.wait_until(SOON, |received| {
            let ids: BTreeSet<_> = received.iter().map(tests::receiver::Received::webhook_id).collect();
            wanted.iter().all(|id| ids.contains(id.as_str()))
        }).await?;
        for webhook in receiver.received() {
            webhook.verify(&secret)?;
            let marker = webhook.json()?["data"]["marker"].as_str().context("marker")?.to_owned();
            if let Some(id) = acknowledged.events.get(&marker) {
                ensure!(webhook.webhook_id() == id, "{marker} came as {} and is {id}", webhook.webhook_id());
            }
        }

        // Every user answered with 201 is there, and the read models settle.
        let client = service.tenant(&key)?;
        for (email, id) in &acknowledged.users {
            let user = eventually_found(&client, &format!("/v1/users/{id}")).await?;
            ensure!(user["email"] == *email, "{user}");
        }
        let deadline = Instant::now() + SOON;
        loop {
            let stats = client.get("/v1/stats").await?.expect(200)?;
            let by_status = &stats["events_by_status"];
            // Messages and deliveries are folded from different logs, each at its own pace.
            if by_status["pending"] == 0 && by_status["failed"] == 0 && stats["total_events"] == by_status["delivered"] {
                ensure!(by_status["dead"] == 0, "{stats}");
                ensure!(stats["total_events"].as_u64() >= Some(wanted.len() as u64), "{stats}");
                break;
            }
            ensure!(Instant::now() < deadline, "deliveries do not settle: {stats}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }

        let ended = service.terminate().await?;
        ensure!(ended.success(), "it did not end cleanly: {ended}");
        let differences = differences(&mut service, engine).await?;
        ensure!(differences.is_empty(), "read models differ from a fold of the log: {differences:#?}");
        Ok(())
    }
}

/// Lets projectors fold what the service recorded while it stopped, as its next start would.
async fn catch_up(live: &ReadModels, engine: &Arc<dyn broker::Engine>) -> anyhow::Result<()> {
    let mut ends = Vec::new();
    for log in engine.layout().logs() {
        let (source, shard) = match log {
            Log::Events(shard) => (Source::Events, shard),
            Log::Messages(shard) => (Source::Messages, shard),
            Log::Attempts => (Source::Deliveries, 0),
        };
        let sequence = engine.log(log).state().await?.last;
        ends.push(Position {
            source,
            shard,
            sequence,
        });
    }
    let stop = CancellationToken::new();
    let projectors = Projectors::start(live.clone(), engine.clone(), Control::default(), stop.clone());
    let names: Vec<&str> = projectors.status().iter().map(|status| status.name).collect();
    live.wait_for(&names, &ends, Instant::now() + SOON).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

/// A resource that must be there as soon as its read model is.
async fn eventually_found(client: &Api, path: &str) -> anyhow::Result<Value> {
    let deadline = Instant::now() + SOON;
    loop {
        let reply = client.get(path).await?;
        if reply.status != 404 || Instant::now() > deadline {
            return reply.expect(200);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// The read models of a service that has ended, against a fold of its whole log.
async fn differences(service: &mut Tidings, kind: Kind) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let (engine, target): (Arc<dyn broker::Engine>, _) = match kind {
        Kind::Embedded => {
            let engine = Embedded::open(&service.data(), Layout::default()).await?;
            (
                Arc::new(engine),
                Target::Sqlite {
                    folder: service.data(),
                },
            )
        }
        Kind::Cluster => {
            let url = service.database().context("a database")?.url.clone();
            let nats = service.nats().context("a NATS server")?.url();
            let engine =
                JetStream::connect(Settings::new(nats, Token::new("tidings")?, Layout::default())).await?;
            (Arc::new(engine), Target::Postgres { url })
        }
    };
    let live = ReadModels::open(projections::Settings {
        target,
        migrate: false,
    })
    .await?;
    let logs = engine
        .layout()
        .logs()
        .into_iter()
        .map(|log| (log, engine.log(log)))
        .collect();
    catch_up(&live, &engine).await?;
    let scratch = tests::tools::Folder::new()?;
    let differences = verify::compare(&live, &logs, scratch.path()).await?;
    live.close().await;
    engine.close().await;
    Ok(differences)
}
