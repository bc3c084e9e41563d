//! Where a run takes place: real processes and servers, two tenants with clients that never rest, and a receiver.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::client::{Caller, http, mark, write};
use super::dice::Dice;
use super::disk::Disk;
use super::evidence::Span;
use super::history::{Kind, Recorder};
use super::oracles::RECOVERS_WITHIN;
use crate::clock::Clock;
use crate::hosts::Hosts;
use crate::http::Api;
use crate::nats::{NatsServer, Replicas};
use crate::postgres::Postgres;
use crate::processes;
use crate::proxy::Proxy;
use crate::receiver::Receiver;
use crate::service::{Engine, Tidings};

mod servers;

pub(crate) use servers::Setup;
use servers::{Extras, servers};

/// How long a run waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// What a request may take; a client waits longer.
pub(super) const REQUEST_TIMEOUT: &str = "10s";

/// What a receiver is called where it has a name, …
pub(crate) const RECEIVER: &str = "receiver.example.com";
/// … and where that leads as long as nobody harms it.
pub(crate) const OPEN: &str = "127.0.0.1";

const TENANTS: [&str; 2] = ["acme", "zeta"];
/// How many clients each tenant has.
const WRITERS: u64 = 3;

/// A tenant of the run.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) label: String,
    pub(crate) id: String,
    pub(crate) key: String,
    /// What its webhooks are signed with.
    pub(crate) secret: String,
}

impl Tenant {
    /// Where its webhooks go.
    pub(crate) fn path(&self) -> String {
        format!("/hooks/{}", self.label)
    }
}

/// A run under way.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) service: Tidings,
    extras: Extras,
    pub(crate) receiver: Receiver,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) recorder: Arc<Recorder>,
    /// Draws what concerns the fault.
    pub(crate) dice: Dice,
    pub(super) away: Vec<Span>,
    pub(super) ending: Vec<Span>,
    pub(super) healed: Duration,
    /// How long it may take until things work again.
    pub(crate) within: Option<Duration>,
    pub(super) queries: Option<JoinHandle<Option<Duration>>>,
    /// What the case has to tell of this run.
    pub(super) notes: Vec<String>,
    /// How long it took until damage was noticed.
    pub(crate) noticed: Option<Duration>,
    seed: u64,
    address: watch::Sender<String>,
    callers: Vec<(Caller, String)>,
    writers: JoinSet<()>,
    /// How often clients began.
    rounds: u64,
    /// How often it was asked whether both logs are there.
    probes: u64,
    stop: CancellationToken,
}

impl World {
    /// Starts everything, with two tenants that have an endpoint and a user each; nobody writes yet.
    pub(crate) async fn start(engine: Engine, setup: Setup, seed: u64) -> anyhow::Result<Self> {
        let (service, extras) = servers(engine, setup).await?;
        let address = watch::Sender::new(service.url().to_owned());
        let mut world = Self {
            service,
            extras,
            receiver: Receiver::start().await?,
            tenants: Vec::new(),
            recorder: Arc::new(Recorder::new()),
            dice: Dice::new(seed, "fault"),
            away: Vec::new(),
            ending: Vec::new(),
            healed: Duration::ZERO,
            within: None,
            queries: None,
            notes: Vec::new(),
            noticed: None,
            seed,
            address,
            callers: Vec::new(),
            writers: JoinSet::new(),
            rounds: 0,
            probes: 0,
            stop: CancellationToken::new(),
        };
        for label in TENANTS {
            world.join(label).await?;
        }
        ensure!(
            world.settled().await?,
            "the read models of a new service never stood"
        );
        Ok(world)
    }

    /// Makes a tenant with its endpoint and its shared user.
    async fn join(&mut self, label: &str) -> anyhow::Result<()> {
        let made = json!({ "name": label, "slug": label });
        let made = self
            .service
            .admin()?
            .post("/v1/tenants", &made)
            .await?
            .expect(201)?;
        let mut tenant = Tenant {
            label: label.to_owned(),
            id: text(&made, "id")?,
            key: text(&made, "api_key")?,
            secret: String::new(),
        };
        let mut url = self.receiver.url(&tenant.path());
        if let Some(hosts) = &self.extras.hosts {
            hosts.lead(RECEIVER, OPEN)?;
            url = url.replace(OPEN, RECEIVER);
        }
        let endpoint = json!({ "url": url, "event_types": ["*"] });
        let api = self.service.tenant(&tenant.key)?;
        let endpoint = api.post("/v1/endpoints", &endpoint).await?.expect(201)?;
        tenant.secret = text(&endpoint, "secret")?;
        let caller = Caller {
            tenant: tenant.label.clone(),
            key: tenant.key.clone(),
            address: self.address.subscribe(),
            recorder: Arc::clone(&self.recorder),
            http: http()?,
        };
        let shared = caller.register(format!("{}0-0", mark(label)), false).await;
        let shared = shared.context("the tenant's first user was not registered")?;
        self.callers.push((caller, shared));
        self.tenants.push(tenant);
        Ok(())
    }

    /// The one of many harms whose turn it is with this run's seed.
    pub(crate) fn turn<'h, H>(&self, harms: &'h [H]) -> anyhow::Result<&'h H> {
        let turns = harms.len().max(1) as u64;
        let turn = usize::try_from(self.seed % turns)?;
        harms.get(turn).context("there is no harm to choose from")
    }

    /// Tells something of this run that its figures do not.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        eprintln!("  {note}");
        self.notes.push(note);
    }

    /// Lets every tenant's clients begin, or begin again; they are others then, with other values.
    pub(crate) fn load(&mut self) {
        self.stop = CancellationToken::new();
        self.rounds += 1;
        for (caller, shared) in &self.callers {
            for writer in (1..=WRITERS).map(|writer| self.rounds * 100 + writer) {
                let dice = Dice::new(self.seed, &format!("{} {writer}", caller.tenant));
                let stop = self.stop.clone();
                self.writers
                    .spawn(write(caller.clone(), writer, shared.clone(), dice, stop));
            }
        }
    }

    /// Lets clients end what they are at, and waits for it.
    pub(crate) async fn rest(&mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.writers.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// A client of the tenant of this number.
    pub(crate) fn caller(&self, tenant: usize) -> anyhow::Result<&Caller> {
        let caller = self.callers.get(tenant);
        Ok(&caller.context("there is no such tenant")?.0)
    }

    /// Waits until so many more commands are acknowledged.
    pub(crate) async fn acknowledged(&self, more: u64) -> anyhow::Result<()> {
        let mut acknowledged = self.recorder.acknowledged();
        let wanted = *acknowledged.borrow() + more;
        let reached = acknowledged.wait_for(|count| *count >= wanted);
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.with_context(|| format!("no {more} commands were acknowledged in {PATIENCE:?}"))??;
        Ok(())
    }

    /// Waits until a command and an event are acknowledged again: their logs are two, and one may be there while the
    /// other is not.
    pub(crate) async fn both_logs_again(&mut self) -> anyhow::Result<()> {
        let (caller, deadline) = (self.caller(0)?.clone(), Instant::now() + PATIENCE);
        self.probes += 1;
        let mark = format!("{}{}", mark(&caller.tenant), self.probes);
        let until = |kind: Kind| {
            let (caller, mark) = (caller.clone(), mark.clone());
            async move {
                for number in 0.. {
                    let value = format!("{mark}{kind:?}{number}");
                    let done = match kind {
                        Kind::Publish => caller.publish(value, false).await,
                        Kind::Register | Kind::Rename => caller.register(value, false).await,
                    };
                    if done.is_some() || Instant::now() > deadline {
                        break;
                    }
                }
            }
        };
        tokio::join!(until(Kind::Register), until(Kind::Publish));
        Ok(())
    }

    /// Waits for the moment of the fault, which is drawn.
    pub(crate) async fn moment(&mut self) -> anyhow::Result<()> {
        let commands = self.dice.number(20..80);
        self.acknowledged(commands).await?;
        let further = self.dice.millis(0..20);
        tokio::time::sleep(further).await;
        Ok(())
    }

    /// Lets the fault last, for a time that is drawn.
    pub(crate) async fn lasting(&mut self, millis: std::ops::Range<u64>) {
        let time = self.dice.millis(millis);
        tokio::time::sleep(time).await;
    }

    /// Lets a fault last in which the log is away for certain, from now on until this returns.
    pub(crate) async fn without_log(&mut self, millis: std::ops::Range<u64>) {
        let from = self.recorder.now();
        self.lasting(millis).await;
        let to = self.recorder.now();
        self.away.push(Span { from, to });
    }

    /// Takes down that the fault is over, or that mending it begins; from here on it is measured how long it takes
    /// until things work again.
    pub(crate) fn heal(&mut self) {
        self.healed = self.recorder.now();
        let (recorder, address) = (Arc::clone(&self.recorder), self.address.subscribe());
        let key = self.tenants.first().map(|tenant| tenant.key.clone());
        if let Some(before) = self.queries.take() {
            before.abort();
        }
        self.queries = Some(tokio::spawn(queries_again(
            recorder,
            address,
            key.unwrap_or_default(),
        )));
    }

    /// Starts the service again, killing it first if it runs, and tells clients where it is.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.service.restart().await?;
        self.address.send_replace(self.service.url().to_owned());
        Ok(())
    }

    /// The same without waiting until it is ready, which it may never be.
    pub(crate) async fn launch(&mut self) -> anyhow::Result<()> {
        self.service.launch().await?;
        self.address.send_replace(self.service.url().to_owned());
        Ok(())
    }

    /// Sends clients elsewhere.
    pub(crate) fn call_at(&self, url: &str) {
        self.address.send_replace(url.to_owned());
    }

    /// What the service keeps its data in.
    pub(crate) fn engine(&self) -> Engine {
        match self.service.database() {
            None => Engine::Embedded,
            Some(_) => Engine::Cluster,
        }
    }

    /// The NATS server.
    pub(crate) fn nats(&mut self) -> anyhow::Result<&mut NatsServer> {
        self.service.nats().context("a case of NATS on another engine")
    }

    /// The link to NATS.
    pub(crate) fn nats_link(&self) -> anyhow::Result<&Proxy> {
        let links = self.extras.links.as_ref();
        Ok(&links.context("a case of links without them")?.nats)
    }

    /// The link to PostgreSQL.
    pub(crate) fn postgres_link(&self) -> anyhow::Result<&Proxy> {
        let links = self.extras.links.as_ref();
        Ok(&links.context("a case of links without them")?.postgres)
    }

    /// The PostgreSQL server of this run.
    pub(crate) fn postgres(&mut self) -> anyhow::Result<&mut Postgres> {
        let server = self.extras.postgres.as_mut();
        server.context("a case of PostgreSQL without a server of its own")
    }

    /// The links between three NATS servers.
    pub(crate) fn replicas(&self) -> anyhow::Result<&Replicas> {
        let replicas = self.extras.replicas.as_ref();
        replicas.context("a case of three servers with one")
    }

    /// The NATS server of this number, of three.
    pub(crate) fn replica(&mut self, number: usize) -> anyhow::Result<&mut NatsServer> {
        if number == 0 {
            return self.nats();
        }
        let replicas = self.extras.replicas.as_mut();
        let replicas = replicas.context("a case of three servers with one")?;
        replicas.other(number)
    }

    /// Where the receivers' name leads.
    pub(crate) fn hosts(&self) -> anyhow::Result<&Hosts> {
        self.extras.hosts.as_ref().context("a case of names without them")
    }

    /// The service's time of day.
    pub(crate) fn clock(&self) -> anyhow::Result<&Clock> {
        self.extras.clock.as_ref().context("a case of clocks without one")
    }

    /// The disk of the log.
    pub(crate) fn disk(&mut self) -> anyhow::Result<&mut Disk> {
        self.extras.disk.as_mut().context("a case of a disk without one")
    }

    /// Holds the NATS server still and waits until it is.
    pub(crate) async fn freeze_nats(&mut self) -> anyhow::Result<()> {
        let nats = self.nats()?;
        nats.signal("STOP")?;
        processes::stopped(nats.pid().context("NATS does not run")?).await
    }

    /// Whether every read model has reached the end of the log within the patience.
    pub(crate) async fn settled(&self) -> anyhow::Result<bool> {
        let (admin, deadline) = (Api::new(&self.address.borrow())?, Instant::now() + PATIENCE);
        let admin = admin.with_key(crate::service::ADMIN_KEY);
        while Instant::now() < deadline {
            // Whoever cannot answer now may in a moment.
            if admin.read_models_stand().await.unwrap_or_default() {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Ok(false)
    }
}

/// How long it takes until a query knows all that was acknowledged by now; none if that is too long.
async fn queries_again(
    recorder: Arc<Recorder>,
    address: watch::Receiver<String>,
    key: String,
) -> Option<Duration> {
    let (began, position) = (Instant::now(), recorder.position());
    while began.elapsed() < RECOVERS_WITHIN + PATIENCE {
        let url = address.borrow().clone();
        let asked = async {
            let api = Api::new(&url)?.with_key(&key);
            let at_least = [("tidings-at-least", position.as_str())];
            api.call(Method::GET, "/v1/users?limit=1", None, &at_least).await
        };
        // A silent service may be another one by now.
        let reply = tokio::time::timeout(Duration::from_secs(2), asked).await;
        if matches!(reply, Ok(Ok(reply)) if reply.status == 200) {
            return Some(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

/// A text in a body.
fn text(body: &Value, field: &str) -> anyhow::Result<String> {
    let text = body[field].as_str();
    Ok(text
        .with_context(|| format!("{field} is missing in {body}"))?
        .to_owned())
}
