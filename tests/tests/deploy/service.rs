//! The cluster as `compose.yaml` runs it, without containers: its commands and its environment, one process per duty,
//! each with its own rights, on the shipped NATS configuration and the database roles.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::http::Api;
use tests::nats::{NatsServer, Options};
use tests::postgres::{self, Database};
use tests::proxy::{Fault, Proxy};
use tests::receiver::{Answer, Receiver};
use tests::sample::github_events;
use tests::service::{ADMIN_KEY, binary};
use tests::tools::{self, Folder, Program, Running};
use tokio::time::Instant;

use crate::compose::{Compose, compose};

const NATS_PASSWORD: &str = "7e5-only-for-tests";
const MASTER_KEY: &str = "3f1b0c5d7a9e2468ace013579bdf02468ace013579bdf3f1b0c5d7a9e2468ace";
const PATIENCE: Duration = Duration::from_mins(1);
/// A subject nobody may publish to.
const FORBIDDEN: &str = "certainly.refused";

/// The servers of `compose.yaml`, and what it says of the service.
struct Cluster {
    compose: Compose,
    nats: NatsServer,
    database: Database,
    /// Where processes find the two, as `127.0.0.1:1234`.
    nats_address: String,
    database_address: String,
    folder: Folder,
}

/// A process of the service that is ready.
struct Serving {
    running: Running,
    url: String,
}

impl Cluster {
    async fn start() -> anyhow::Result<Self> {
        let mut options = Options::default().config(tools::repository().join("deploy/nats.conf"));
        for user in ["OWNER", "GATEWAY", "DELIVERY"] {
            options = options.environment(&format!("NATS_{user}_PASSWORD"), &format!("\"{NATS_PASSWORD}\""));
        }
        let (nats, database) = tokio::try_join!(options.start(), postgres::database())?;
        let (_, place) = database.url.rsplit_once('@').context("a database URL")?;
        let (database_address, _) = place.split_once('/').context("a database URL")?;
        Ok(Self {
            compose: compose()?.1,
            nats_address: nats.address(),
            database_address: database_address.to_owned(),
            nats,
            database,
            folder: Folder::new()?,
        })
    }

    /// A value of `compose.yaml` with secrets and addresses of this cluster.
    fn resolved(&self, value: &str) -> anyhow::Result<String> {
        let (_, name) = self.database.url.rsplit_once('/').context("a database URL")?;
        let mut value = value
            .replace("@nats:4222", &format!("@{}", self.nats_address))
            .replace("http://nats:8222", &self.nats.monitor_url())
            .replace("@postgres/tidings", &format!("@{}/{name}", self.database_address));
        let secrets = BTreeMap::from([
            ("NATS_OWNER_PASSWORD", NATS_PASSWORD),
            ("NATS_GATEWAY_PASSWORD", NATS_PASSWORD),
            ("NATS_DELIVERY_PASSWORD", NATS_PASSWORD),
            ("TIDINGS_OWNER_PASSWORD", postgres::PASSWORD),
            ("TIDINGS_PROJECTOR_PASSWORD", postgres::PASSWORD),
            ("TIDINGS_ADMIN_KEY", ADMIN_KEY),
            ("TIDINGS_MASTER_KEY", MASTER_KEY),
        ]);
        while let Some((before, rest)) = value.split_once("${") {
            let (reference, after) = rest.split_once('}').context("an open reference")?;
            let name = reference.split(':').next().unwrap_or_default();
            let secret = secrets.get(name).with_context(|| format!("who sets {name}?"))?;
            value = format!("{before}{secret}{after}");
        }
        Ok(value)
    }

    /// A service of `compose.yaml` as a program; `arguments` stand in for its command.
    fn program(&self, service: &str, log: &str, arguments: &[&str]) -> anyhow::Result<Program> {
        let mut program = Program::new(&binary()?, &self.folder.path().join(log), "KILL");
        let command = program.command();
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("TIDINGS_") {
                command.env_remove(variable);
            }
        }
        for (name, value) in &self.compose.services[service].environment {
            command.env(name, self.resolved(value)?);
        }
        command
            .args(arguments)
            .current_dir(self.folder.path())
            // What the image says, and a receiver on this machine that does not keep us waiting.
            .env("TIDINGS_LISTEN", "127.0.0.1:0")
            .env("TIDINGS_DATA", self.folder.path().join(service))
            .env("TIDINGS_EGRESS_ALLOW", "127.0.0.0/8")
            .env("TIDINGS_EGRESS_SCHEMES", "http,https")
            .env("TIDINGS_RETRY_SCHEDULE", "50ms");
        Ok(program)
    }

    fn command(&self, service: &str) -> Vec<&str> {
        let command = &self.compose.services[service].command;
        command.iter().map(String::as_str).collect()
    }

    /// Runs a program to its successful end.
    async fn run(&self, service: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let log = format!("{service}-{}.log", arguments.join("-"));
        let mut running = self.program(service, &log, arguments)?.start()?;
        let status = running.ended(PATIENCE).await?;
        ensure!(
            status.success(),
            "{service} {arguments:?} ended with {status}: {}",
            running.output()
        );
        Ok(())
    }

    async fn serve(&self, service: &str) -> anyhow::Result<Serving> {
        let log = format!("{service}.log");
        let mut running = self.program(service, &log, &self.command(service))?.start()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = running.output();
            let address = output
                .lines()
                .rev()
                .find_map(|line| line.strip_prefix("listening on "));
            if let Some(url) = address.map(str::to_owned) {
                let ready = Api::new(&url)?.get("/health/ready").await;
                if ready.is_ok_and(|reply| reply.status == 200) {
                    return Ok(Serving { running, url });
                }
            }
            ensure!(Instant::now() < deadline, "{service} did not get ready: {output}");
            if let Ok(status) = running.ended(Duration::from_millis(50)).await {
                anyhow::bail!("{service} ended with {status}: {}", running.output());
            }
        }
    }

    /// Asks NATS for what nobody may, which must show among its refusals.
    async fn be_refused(&self) -> anyhow::Result<()> {
        let options = async_nats::ConnectOptions::with_user_and_password(
            "delivery".to_owned(),
            NATS_PASSWORD.to_owned(),
        );
        let client = options.connect(self.nats.address()).await?;
        client.publish(FORBIDDEN, "".into()).await?;
        client.flush().await?;
        Ok(())
    }

    /// What NATS has refused: nothing, where every duty has the rights it needs.
    fn refusals(&self) -> Vec<String> {
        let log = self.nats.log();
        let refused = log
            .lines()
            .filter(|line| line.contains("Violation") || line.contains("Authorization"));
        refused.map(str::to_owned).collect()
    }
}

async fn until(api: &Api, path: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let body = api.get(path).await?.expect(200)?;
        if wanted(&body) {
            return Ok(body);
        }
        ensure!(Instant::now() < deadline, "{path} still answers {body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A new tenant with a user; answers calls with its key.
async fn provision(url: &str) -> anyhow::Result<Api> {
    let admin = Api::new(url)?.with_key(ADMIN_KEY);
    let tenant = json!({ "name": "Acme", "slug": "acme" });
    let made = admin.post("/v1/tenants", &tenant).await?.expect(201)?;
    let api = Api::new(url)?.with_key(made["api_key"].as_str().context("a key")?);
    let user = json!({ "email": "ada@example.org", "name": "Ada" });
    let written = api.post("/v1/users", &user).await?;
    let (id, position) = (
        written.expect(201)?["id"].clone(),
        written.header("tidings-position"),
    );
    let path = format!("/v1/users/{}", id.as_str().context("an id")?);
    let at_least = [("tidings-at-least", position)];
    let read = api.call(reqwest::Method::GET, &path, None, &at_least).await?;
    ensure!(read.expect(200)?["email"] == "ada@example.org");
    Ok(api)
}

/// An event that fails until it is a dead letter, then is redriven and arrives: under one id, signed.
async fn die_and_come_back(api: &Api, receiver: &Receiver, secret: &str) -> anyhow::Result<()> {
    let before = receiver.received().len();
    receiver.script("/hook", [Answer::Status(500)]);
    let (kind, data) = github_events()?.swap_remove(1);
    let event = json!({ "type": kind, "data": data, "id": "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV" });
    let id = api.post("/v1/events", &event).await?.expect(202)?["id"].clone();
    let again = api.post("/v1/events", &event).await?.expect(202)?;
    ensure!(again["id"] == id, "the receipt is not read back: {again}");
    let dead = until(api, "/v1/dead-letters", |list| list["data"][0]["event"] == id).await?;
    let delivery = dead["data"][0]["id"].clone();
    receiver.script("/hook", [Answer::Status(204)]);
    let ids = json!({ "ids": [delivery] });
    api.post("/v1/dead-letters/redrive", &ids).await?.expect(202)?;
    let path = format!("/v1/deliveries/{}", delivery.as_str().context("an id")?);
    until(api, &path, |row| row["status"] == "delivered").await?;
    let received = receiver.received().split_off(before);
    ensure!(received.len() == 3, "{} webhooks came", received.len());
    for webhook in received {
        webhook.verify(secret)?;
        ensure!(webhook.webhook_id() == id);
    }
    Ok(())
}

/// An endpoint whose receiver says that it is gone is disabled, by the process that delivers and with its rights.
async fn is_disabled_when_gone(api: &Api) -> anyhow::Result<()> {
    let receiver = Receiver::start().await?;
    receiver.script("/gone", [Answer::Status(410)]);
    let new = json!({ "url": receiver.url("/gone"), "event_types": ["thing.left"] });
    let endpoint = api.post("/v1/endpoints", &new).await?.expect(201)?;
    let event = json!({ "type": "thing.left", "data": { "thing": "lamp" } });
    api.post("/v1/events", &event).await?.expect(202)?;
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().context("an id")?);
    until(api, &path, |row| row["status"] == "disabled").await?;
    assert_eq!(receiver.received().len(), 1);
    Ok(())
}

/// What the owner has made, the gateway and delivery work on with less: tenant, endpoint, delivery, dead letter and
/// redrive, and all of it again after both were killed. Nobody asks NATS for what it may not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_duty_does_with_its_own_rights() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    for _ in 0..2 {
        cluster.run("migrate", &cluster.command("migrate")).await?;
    }
    let mut gateway = cluster.serve("gateway").await?;
    let mut delivery = cluster.serve("delivery").await?;
    for service in ["gateway", "delivery"] {
        cluster.run(service, &["doctor"]).await?;
    }
    let nothing = Api::new(&delivery.url)?
        .with_key(ADMIN_KEY)
        .get("/v1/tenants")
        .await?;
    assert_eq!(nothing.problem(404)?, "not_found", "who only delivers has no API");

    let receiver = Receiver::start().await?;
    let api = provision(&gateway.url).await?;
    let new = json!({ "url": receiver.url("/hook"), "event_types": ["*"] });
    let endpoint = api.post("/v1/endpoints", &new).await?.expect(201)?;
    let secret = endpoint["secret"].as_str().context("a secret")?;
    let (kind, data) = github_events()?.swap_remove(0);
    let event = json!({ "type": kind, "data": data });
    api.post("/v1/events", &event).await?.expect(202)?;
    let received = receiver.wait_for(1, PATIENCE).await?;
    received[0].verify(secret)?;
    assert_eq!(received[0].json()?["data"], data);
    until(&api, "/v1/stats", |stats| {
        stats["events_by_status"]["delivered"] == 1
    })
    .await?;
    die_and_come_back(&api, &receiver, secret).await?;
    is_disabled_when_gone(&api).await?;

    gateway.running.kill().await?;
    delivery.running.kill().await?;
    let gateway = cluster.serve("gateway").await?;
    let _delivery = cluster.serve("delivery").await?;
    let key = api.key().context("a key")?;
    let api = Api::new(&gateway.url)?.with_key(key);
    api.post("/v1/events", &event).await?.expect(202)?;
    let received = receiver.wait_for(5, PATIENCE).await?;
    received[4].verify(secret)?;
    until(&api, "/v1/stats", |stats| {
        stats["events_by_status"]["delivered"] == 3
    })
    .await?;
    cluster.be_refused().await?;
    let expected = |line: &String| line.contains(FORBIDDEN);
    let deadline = Instant::now() + PATIENCE;
    // The log is written a moment later, in order: what else was refused stands before.
    while !cluster.refusals().iter().any(expected) {
        ensure!(Instant::now() < deadline, "the control does not show");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let others: Vec<_> = cluster
        .refusals()
        .into_iter()
        .filter(|line| !expected(line))
        .collect();
    assert_eq!(others, Vec::<String>::new());
    Ok(())
}

/// Asked to stop, a process ends within the time that `compose.yaml` gives it, even if a server has fallen silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_does_not_keep_a_process_from_ending() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().await?;
    cluster.run("migrate", &cluster.command("migrate")).await?;
    let nats = Proxy::start(cluster.nats.address()).await?;
    let database = Proxy::start(cluster.database_address.clone()).await?;
    cluster.nats_address = nats.address();
    cluster.database_address = database.address();
    for (service, silent) in [("gateway", &database), ("gateway", &nats), ("delivery", &nats)] {
        let grace = &cluster.compose.services[service].stop_grace_period;
        let grace = grace.strip_suffix('s').context("seconds")?.parse()?;
        let mut serving = cluster.serve(service).await?;
        silent.set(Fault::HalfOpen);
        // Whoever works has noticed by then that no answer comes, or waits for one.
        tokio::time::sleep(Duration::from_millis(500)).await;
        serving.running.signal("TERM")?;
        let ended = serving.running.ended(Duration::from_secs(grace)).await;
        ensure!(
            ended.is_ok(),
            "{service} goes on: {}",
            serving.running.last_output()
        );
        silent.cut_and_heal();
    }
    Ok(())
}
