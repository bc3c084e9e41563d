//! `tidings serve`: starts the roles, serves until asked to stop, and stops in order.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use broker::layout::{Bucket, Log};
use broker::trust::{Fences, Scrub, Watch};
use broker::{Distrust, Engine, Trust, Trusted};
use commands::{Dispatcher, Publisher};
use delivery::{Delivery, EndpointControl, LaneRules, PublicKeys, RecoveryControl, SecretWriter};
use projections::{Projectors, ReadModels, logs_of};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access_log::AccessLog;
use crate::app::{App, Parts};
use crate::auth::Authority;
use crate::cli::Failure;
use crate::config::{Config, Connections, EngineChoice, Role, Secret};
use crate::credentials::Credentials;
use crate::endpoint_control::Control;
use crate::health::{Background, Health};
use crate::idempotency::Receipts;
use crate::installation::{Installation, egress, in_full, open_read_models};
use crate::invitation_tokens::InvitationTokens;
use crate::keys::{ADMIN_FILE, Keys};
use crate::listener::UntilStopped;
use crate::operations::{Operations, tell_troubles};
use crate::proofs::Proofs;
use crate::recoveries::Recoveries;
use crate::routes::audit::Streams;
use crate::routes::health::Operator;
use crate::schemas::Schemas;
use crate::source_secrets::SourceSecrets;
use crate::strikes::Strikes;
use crate::{idempotency, layers, metrics, profile, proofs, quotas, router, server, settings, shutdown};

/// How long a silent read database may hold up the end of the process.
const CLOSING: Duration = Duration::from_secs(3);

/// Runs the subcommand.
pub(crate) async fn run(config: Config) -> Result<ExitCode, Failure> {
    let stopping = shutdown::on_signal().map_err(|error| {
        Failure::new(
            format!("signals cannot be received: {error}"),
            "free some file handles",
        )
    })?;
    allow_files(config.http.connections.most);
    // Listening comes first: where the address is in use, no data or keys shall be made.
    let listeners = Listeners::bind(&config).await?;
    let installation = Installation::open(&config).await?;
    let engine = Arc::clone(&installation.engine);
    let served = serve(&config, installation, listeners, stopping).await;
    engine.close().await;
    tracing::info!("stopped");
    served.map(|()| ExitCode::SUCCESS)
}

/// How many files are open beside connections of clients: those of the engine, and connections to receivers.
const OTHER_FILES: u64 = 1024;

/// Raises what a shell allows by default to what this process may have, and says where that is too little.
fn allow_files(connections: usize) {
    let needed = OTHER_FILES + connections as u64;
    match rlimit::increase_nofile_limit(needed.max(1 << 16)) {
        Ok(allowed) if allowed < needed => tracing::warn!(
            allowed,
            needed,
            "This process may open too few files for the connections it is set to take: raise the limit, or lower `connections`."
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "How many files this process may open cannot be told."),
    }
}

/// Everything between opening and closing the engine.
async fn serve(
    config: &Config,
    installation: Installation,
    listeners: Listeners,
    stopping: CancellationToken,
) -> Result<(), Failure> {
    let Installation { engine: raw, keys } = installation;
    let trust = Trust::default();
    let engine: Arc<dyn Engine> = Arc::new(Trusted::new(Arc::clone(&raw), trust.clone()));
    profile::enforce(config, engine.as_ref()).await?;
    let metrics = metrics::install().map_err(|error| {
        Failure::new(
            in_full(&error),
            "measuring cannot start: this is a fault of the program",
        )
    })?;
    let read_models = if config.has(Role::Gateway) || config.has(Role::Projections) {
        Some(open_read_models(config).await?)
    } else {
        None
    };
    let work = CancellationToken::new();
    watch_log(&trust, raw.as_ref(), read_models.as_ref(), &work).await?;
    let dispatcher = dispatcher(config, &keys, engine.as_ref());
    let background =
        start_background(config, &keys, &engine, &dispatcher, read_models.as_ref(), &work).await?;
    if let Some(read_models) = read_models.as_ref().filter(|_| config.has(Role::Projections)) {
        compare_log(&trust, raw.as_ref(), read_models, &work);
    }
    let health = Health::new(
        Arc::clone(&engine),
        trust.clone(),
        read_models.clone(),
        background,
        stopping.clone(),
    );
    let health = Arc::new(health);
    if let Some(read_models) = read_models.clone().filter(|_| config.has(Role::Projections)) {
        tokio::spawn(tell_troubles(Arc::clone(&health), read_models, work.clone()));
    }
    let operator = Operator {
        health: Arc::clone(&health),
        metrics,
    };
    let served = read_models.as_ref().zip(keys.admin.as_ref());
    let log = (raw.as_ref(), engine.as_ref(), &trust);
    let app =
        served.map(|(read_models, admin)| app(config, &keys, admin, log, dispatcher, read_models, &stopping));
    let access = app
        .as_ref()
        .map(|app| tokio::spawn(app.access.clone().run(work.clone())));
    let address = listeners.api.local_addr().unwrap_or(config.http.listen);
    let server = start_servers(config, app, operator, listeners, &stopping, &work);
    announce(config, &keys, address);
    let served = until_stopped(server, config, &stopping).await;
    work.cancel();
    if let Some(access) = access
        && access.await.is_err()
    {
        tracing::error!("the writer of refusals ended by a fault of the program");
    }
    health.background_ended().await;
    if let Some(read_models) = read_models
        && tokio::time::timeout(CLOSING, read_models.close()).await.is_err()
    {
        tracing::warn!("the read database did not answer the farewell");
    }
    served
}

/// Compares the logs with what is known of them, before anything is written and from then on. What is wrong at the
/// start ends the process: it knows no caller yet and could not even serve queries.
async fn watch_log(
    trust: &Trust,
    engine: &dyn Engine,
    read_models: Option<&ReadModels>,
    work: &CancellationToken,
) -> Result<(), Failure> {
    let fences = read_models.map(|read_models| Arc::new(read_models.clone()) as Arc<dyn Fences>);
    let watch = Watch::new(trust.clone(), engine, fences);
    match watch.look().await {
        Ok(None) => {
            tokio::spawn(watch.run(work.clone()));
            Ok(())
        }
        Ok(Some(why)) => Err(Failure::new(why.to_string(), Distrust::ADVICE)),
        Err(error) => Err(Failure::new(
            format!(
                "the log cannot be compared with what is known of it: {}",
                in_full(error.as_ref())
            ),
            "`tidings doctor` checks the log and the read database in detail",
        )),
    }
}

/// Compares the logs with the archive from now on, in a process that may read it: who only serves queries may not.
fn compare_log(trust: &Trust, engine: &dyn Engine, read_models: &ReadModels, work: &CancellationToken) {
    let archive = Arc::new(read_models.clone());
    let fences = Arc::clone(&archive) as Arc<dyn Fences>;
    let scrub = Scrub::new(trust.clone(), engine, archive, fences);
    tokio::spawn(scrub.run(work.clone()));
}

/// The sockets of the process.
struct Listeners {
    api: TcpListener,
    operators: Option<TcpListener>,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, Failure> {
        let api = bind(config.http.listen).await?;
        let operators = match config.http.operator_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        Ok(Self { api, operators })
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::new(
            format!("cannot listen on {address}: {error}"),
            "stop what uses this address, or choose another with --listen (TIDINGS_LISTEN)",
        )
    })
}

fn dispatcher(config: &Config, keys: &Keys, engine: &dyn Engine) -> Dispatcher {
    let settings = commands::Settings {
        cached_aggregates: config.storage.cached_aggregates,
        ..commands::Settings::new(keys.claims())
    };
    Dispatcher::new(engine, settings)
}

async fn start_background(
    config: &Config,
    keys: &Keys,
    engine: &Arc<dyn Engine>,
    dispatcher: &Dispatcher,
    read_models: Option<&ReadModels>,
    work: &CancellationToken,
) -> Result<Background, Failure> {
    let mut background = Background::default();
    if config.has(Role::Delivery) {
        let settings = delivery::Settings {
            schedule: config.sending.retry_schedule.clone(),
            egress: egress(config),
            timeout: config.sending.timeout,
            concurrency: config.sending.concurrency,
            slow_concurrency: config.sending.slow_concurrency,
            lanes: LaneRules {
                in_flight: u32::try_from(config.sending.per_endpoint).unwrap_or(u32::MAX),
                breaker: config.sending.breaker,
                ..LaneRules::default()
            },
            disable_after: config.sending.disable_after,
            ..delivery::Settings::new(keys.master.clone())
        };
        let recoveries: Arc<dyn RecoveryControl> = Arc::new(Recoveries(dispatcher.clone()));
        let control: Arc<dyn EndpointControl> = Arc::new(Control::new(dispatcher.clone()));
        let started = Delivery::start(&settings, engine, &recoveries, &control, work).map_err(|error| {
            Failure::new(
                in_full(&error),
                "correct the delivery settings: `tidings config` shows them",
            )
        })?;
        background.delivery = Some(started);
    }
    if let Some(read_models) = read_models.filter(|_| config.has(Role::Projections)) {
        let (operations, control) = Operations::start(engine, dispatcher, read_models, work).await?;
        background.operations = Some(operations);
        background.projectors = Some(Projectors::start(
            read_models.clone(),
            Arc::clone(engine),
            control,
            work.clone(),
        ));
    }
    Ok(background)
}

fn app(
    config: &Config,
    keys: &Keys,
    admin: &Secret,
    (raw, engine, trust): (&dyn Engine, &dyn Engine, &Trust),
    dispatcher: Dispatcher,
    read_models: &ReadModels,
    stopping: &CancellationToken,
) -> App {
    let credentials = Credentials::new(engine.bucket(Bucket::Credentials), keys.hasher());
    let invitation_tokens = InvitationTokens::new(engine.bucket(Bucket::Credentials), keys.token_hasher());
    App::new(Parts {
        invitation_tokens,
        strikes: Strikes::new(),
        publisher: Publisher::new(engine),
        read_models: read_models.clone(),
        // What a log holds that is not trusted is what auditors want to see.
        proofs: Proofs::new(
            keys.checkpoints(),
            raw.log(Log::Events(proofs::SHARD)),
            trust.clone(),
        ),
        logs: logs_of(engine),
        authority: Authority::new(dispatcher.clone(), credentials, admin),
        schemas: Schemas::new(dispatcher.clone()),
        access: AccessLog::new(dispatcher.clone()),
        dispatcher,
        receipts: receipts(config, keys, engine),
        secrets: SecretWriter::new(engine.bucket(Bucket::EndpointSecrets), keys.master.clone()),
        public_keys: PublicKeys::new(engine.bucket(Bucket::PublicKeys)),
        source_secrets: SourceSecrets::new(engine.bucket(Bucket::SourceSecrets), keys.master.clone()),
        impostors: Strikes::new(),
        egress: egress(config),
        gates: quotas::Turns::new(),
        unset: settings::Unset::new(),
        trust: trust.clone(),
        streams: Streams::new(stopping.clone()),
        http: config.http.clone(),
    })
}

fn receipts(config: &Config, keys: &Keys, engine: &dyn Engine) -> Receipts {
    Receipts::new(idempotency::Settings {
        bucket: engine.bucket(Bucket::Receipts),
        sealer: keys.answer_sealer(),
        hasher: keys.request_hasher(),
        kept: config.http.idempotency_kept,
        run: idempotency::longest_run(config.http.request_timeout),
        alone: matches!(config.storage.engine, EngineChoice::Embedded),
    })
}

/// How long open connections are still served after the stop, each answer saying that its connection closes: a client
/// in the middle of its requests then closes it itself, where it would otherwise lose one that crosses with our closing.
const PARTING: Duration = Duration::from_millis(500);

type Server = JoinHandle<std::io::Result<()>>;

/// Starts the API on its address, health and metrics beside it or on theirs, and answers the first server. A process
/// without the gateway role has only health and metrics.
fn start_servers(
    config: &Config,
    app: Option<App>,
    operator: Operator,
    listeners: Listeners,
    stopping: &CancellationToken,
    work: &CancellationToken,
) -> Server {
    let limits = config.http.connections;
    let beside = listeners.operators.is_none().then(|| operator.clone());
    let router = match app {
        Some(app) => router::api(&app, beside),
        None => router::operator(operator.clone(), &config.http),
    };
    if let Some(listener) = listeners.operators {
        // Operators can ask how the stopping goes: their own address closes with the work it reports on.
        spawn(listener, router::operator(operator, &config.http), limits, work);
    }
    spawn(listeners.api, router, limits, stopping)
}

/// Serves until the stop, then gives requests in flight their time.
async fn until_stopped(
    mut server: Server,
    config: &Config,
    stopping: &CancellationToken,
) -> Result<(), Failure> {
    let ended = tokio::select! {
        ended = &mut server => ended,
        () = stopping.cancelled() => {
            let limit = config.http.shutdown_timeout;
            tokio::time::timeout(limit, server).await.unwrap_or_else(|_| {
                tracing::warn!("some requests did not end in time and are broken off");
                Ok(Ok(()))
            })
        }
    };
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(
            format!("the HTTP server failed: {error}"),
            "see the log; start the service again",
        )
    };
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}

fn spawn(listener: TcpListener, router: Router, limits: Connections, stop: &CancellationToken) -> Server {
    let router = router.layer(from_fn_with_state(stop.clone(), layers::part));
    let stop = stop.clone();
    tokio::spawn(async move {
        let listener = UntilStopped::new(listener, stop.clone())?;
        let parted = CancellationToken::new();
        let parting = parted.clone();
        tokio::spawn(async move {
            stop.cancelled().await;
            tokio::time::sleep(PARTING).await;
            parting.cancel();
        });
        server::serve(listener, router, limits, parted).await;
        Ok(())
    })
}

/// Tells on stdout where the service is and how to try it; a closed stdout is no reason not to serve.
fn announce(config: &Config, keys: &Keys, address: SocketAddr) {
    let text = announcement(config, keys, address);
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        tracing::debug!("nobody reads the announcement");
    }
}

fn announcement(config: &Config, keys: &Keys, address: SocketAddr) -> String {
    let engine = match &config.storage.engine {
        EngineChoice::Embedded => format!("embedded engine, data in {}", config.storage.data.display()),
        EngineChoice::Cluster(_) => "cluster engine".to_owned(),
    };
    let new_key = keys.new_admin_file.as_ref().zip(keys.admin.as_ref());
    let new_key = new_key.map(|(file, key)| {
        let key = key.expose();
        format!(
            "platform admin key, shown this once and kept in {}: {key}\n",
            file.display()
        )
    });
    let examples = config.has(Role::Gateway).then(|| examples(config, address));
    let (new_key, examples) = (new_key.unwrap_or_default(), examples.unwrap_or_default());
    format!("listening on http://{address}\n{engine}\n{new_key}{examples}")
}

/// Three lines for any POSIX shell; the first keeps the tenant's key for the others.
const EXAMPLES: &str = r#"
try it: a tenant, a user, an event

  KEY=$(curl -s URL/v1/tenants -H "Authorization: Bearer ADMIN" JSON -d '{"name":"Acme","slug":"acme-'$(date +%s)'"}' | sed -n 's/.*"api_key":"\([^"]*\)".*/\1/p'); echo "$KEY"
  curl -s URL/v1/users -H "Authorization: Bearer $KEY" JSON -d '{"email":"ada@example.org","name":"Ada"}'; echo
  curl -s URL/v1/events -H "Authorization: Bearer $KEY" JSON -d '{"type":"invoice.paid","data":{"amount":"12.50"}}'; echo

every operation: URL/docs
"#;

fn examples(config: &Config, address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let admin = match &config.keys.admin {
        Some(_) => "$TIDINGS_ADMIN_KEY".to_owned(),
        None => format!("$(cat {})", quoted(&config.storage.data.join(ADMIN_FILE))),
    };
    let url = format!("http://{}", SocketAddr::new(ip, address.port()));
    EXAMPLES
        .replace("URL", &url)
        .replace("JSON", "-H 'Content-Type: application/json'")
        .replace("ADMIN", &admin)
}

/// A path as one word of a shell, from wherever the line is pasted.
fn quoted(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
