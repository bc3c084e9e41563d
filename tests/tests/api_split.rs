//! The cluster as `compose.yaml` runs it: production, one process per duty, each with its own rights, on the shipped
//! NATS configuration and the database roles.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tests::http::Api;
use tests::nats::{NatsServer, Options};
use tests::postgres::{self, Database};
use tests::receiver::Receiver;
use tests::service::{ADMIN_KEY, binary};
use tests::tools::{self, Folder, Program, Running};
use tokio::time::Instant;

const PASSWORD: &str = "7e5-only-for-tests";
const MASTER_KEY: &str = "3f1b0c5d7a9e2468ace013579bdf02468ace013579bdf3f1b0c5d7a9e2468ace";
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    nats: NatsServer,
    database: Database,
    folder: Folder,
}

impl Cluster {
    async fn start() -> anyhow::Result<Self> {
        let mut options = Options::default().config(tools::repository().join("deploy/nats.conf"));
        for user in ["OWNER", "GATEWAY", "DELIVERY"] {
            options = options.environment(&format!("NATS_{user}_PASSWORD"), &format!("\"{PASSWORD}\""));
        }
        let (nats, database) = tokio::try_join!(options.start(), postgres::database())?;
        Ok(Self {
            nats,
            database,
            folder: Folder::new()?,
        })
    }

    /// The binary with the rights of one duty; `name` also names its log.
    fn program(
        &self,
        name: &str,
        user: &str,
        database: Option<&str>,
        arguments: &[&str],
    ) -> anyhow::Result<Program> {
        let log = self.folder.path().join(format!("{name}.log"));
        let mut program = Program::new(&binary()?, Path::new(&log), "KILL");
        let command = program.command();
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("TIDINGS_") {
                command.env_remove(variable);
            }
        }
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TIDINGS_PROFILE", "production")
            .env("TIDINGS_LISTEN", "127.0.0.1:0")
            .env("TIDINGS_DATA", self.folder.path().join(name))
            .env(
                "TIDINGS_NATS_URL",
                format!("nats://{user}:{PASSWORD}@{}", self.nats.address()),
            )
            .env("TIDINGS_NATS_MONITOR", self.nats.monitor_url())
            .env("TIDINGS_NATS_MANAGE", "false")
            .env("TIDINGS_DATABASE_MIGRATE", "false")
            .env("TIDINGS_ADMIN_KEY", ADMIN_KEY)
            .env("TIDINGS_MASTER_KEY", MASTER_KEY)
            .env("TIDINGS_EGRESS_ALLOW", "127.0.0.0/8");
        if let Some(database) = database {
            command.env("TIDINGS_DATABASE_URL", database);
        }
        Ok(program)
    }

    /// A serving process, once it is ready.
    async fn serve(
        &self,
        roles: &str,
        user: &str,
        database: Option<&str>,
    ) -> anyhow::Result<(Running, String)> {
        let name = roles.replace(',', "-");
        let mut running = self
            .program(&name, user, database, &["serve", "--roles", roles])?
            .start()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = running.output();
            let address = output.lines().find_map(|line| line.strip_prefix("listening on "));
            if let Some(address) = address {
                let ready = Api::new(address)?.get("/health/ready").await;
                if ready.is_ok_and(|reply| reply.status == 200) {
                    return Ok((running, address.to_owned()));
                }
            }
            ensure!(Instant::now() < deadline, "{roles} did not get ready: {output}");
            if let Ok(status) = running.ended(Duration::from_millis(50)).await {
                anyhow::bail!("{roles} ended with {status}: {}", running.output());
            }
        }
    }
}

/// What the owner has made, the gateway and delivery work on with less: a real event goes the whole way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_duty_does_with_its_own_rights() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let owner = Some(cluster.database.owner_url.as_str());
    for _ in 0..2 {
        let mut migrate = cluster
            .program("migrate", "owner", owner, &["migrate"])?
            .start()?;
        let status = migrate.ended(PATIENCE).await?;
        ensure!(status.success(), "migrate: {}", migrate.output());
    }
    let projector = Some(cluster.database.projector_url.as_str());
    let (_gateway, url) = cluster.serve("gateway,projections", "gateway", projector).await?;
    let (_delivery, delivery_url) = cluster.serve("delivery", "delivery", None).await?;
    let mut doctor = cluster
        .program("doctor", "gateway", projector, &["doctor"])?
        .start()?;
    let status = doctor.ended(PATIENCE).await?;
    ensure!(status.success(), "doctor: {}", doctor.output());

    let receiver = Receiver::start().await?;
    let api = Api::new(&url)?;
    let made = api
        .with_key(ADMIN_KEY)
        .post("/v1/tenants", &json!({ "name": "Acme", "slug": "acme" }))
        .await?;
    let api = api.with_key(made.expect(201)?["api_key"].as_str().context("a key")?);
    let new = json!({ "url": receiver.url("/hook"), "event_types": ["*"] });
    let endpoint = api.post("/v1/endpoints", &new).await?.expect(201)?;
    let (kind, data) = tests::sample::github_events()?.swap_remove(0);
    api.post("/v1/events", &json!({ "type": kind, "data": data }))
        .await?
        .expect(202)?;
    let received = receiver.wait_for(1, PATIENCE).await?;
    received[0].verify(endpoint["secret"].as_str().context("a secret")?)?;
    assert_eq!(received[0].json()?["data"], data);
    let deadline = Instant::now() + PATIENCE;
    while api.get("/v1/stats").await?.expect(200)?["events_by_status"]["delivered"] != 1 {
        ensure!(
            Instant::now() < deadline,
            "the delivery never showed in the figures"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let nothing = Api::new(&delivery_url)?
        .with_key(ADMIN_KEY)
        .get("/v1/tenants")
        .await?;
    assert_eq!(nothing.problem(404)?, "not_found", "who only delivers has no API");
    Ok(())
}
