//! The configuration: a table of settings, read from defaults < `tidings.toml` < environment < flags, and checked as
//! a whole.
//!
//! Every setting is a line of [`table::SETTINGS`]: its key in the file, `TIDINGS_<KEY>` in the environment, its
//! default and what it means; the default file and `tidings config` are made from that table. The environment is
//! read here and nowhere else.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::Token;
use broker::layout::{Layout, Retention, Waiting};
use delivery::{BreakerRules, EgressPolicy, Ports, Schedule, Schemes};

use crate::cli::Failure;

mod parse;
mod secret;
mod sources;
mod table;

pub(crate) use secret::Secret;
pub(crate) use table::default_file;

use sources::{Reader, Sourced};

/// Settings from the command line, by key.
pub(crate) type Overrides = BTreeMap<&'static str, String>;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Serves the API.
    Gateway,
    /// Folds the log into the read models.
    Projections,
    /// Matches messages with endpoints and sends them.
    Delivery,
}

/// How strict the installation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Convenience: generated keys, receivers on loopback addresses.
    Development,
    /// Nothing unsafe.
    Production,
}

/// Where everything is kept.
#[derive(Debug, Clone)]
pub(crate) enum EngineChoice {
    /// SQLite in the data folder.
    Embedded,
    /// NATS JetStream and PostgreSQL.
    Cluster(Cluster),
}

/// The servers of the cluster engine.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// `nats://…`
    pub(crate) nats_url: Secret,
    /// The installation prefix of streams and subjects.
    pub(crate) prefix: Token,
    /// Copies of every stream.
    pub(crate) replicas: usize,
    /// Whether this process may create missing streams.
    pub(crate) manage: bool,
    /// The servers' monitoring addresses.
    pub(crate) monitors: Vec<String>,
    /// `postgres://…`; none in a process that only delivers.
    pub(crate) database_url: Option<Secret>,
    /// The same database as its owner, for migrations.
    pub(crate) database_owner_url: Option<Secret>,
    /// Whether this process may run migrations.
    pub(crate) migrate: bool,
}

/// The data folder, the engine and its layout.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    /// Folder of the embedded engine and of generated keys.
    pub(crate) data: PathBuf,
    /// Which engine.
    pub(crate) engine: EngineChoice,
    /// Shards, retention, leases.
    pub(crate) layout: Layout,
    /// How many aggregates the write side keeps in memory.
    pub(crate) cached_aggregates: u64,
}

/// The HTTP server.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    /// Address of the API.
    pub(crate) listen: SocketAddr,
    /// Address of health and metrics, where they shall not stand beside the API.
    pub(crate) operator_listen: Option<SocketAddr>,
    /// The most bytes of a request body.
    pub(crate) body_limit: usize,
    /// The most bytes of a bulk request's body.
    pub(crate) bulk_body_limit: usize,
    /// How long a request may take.
    pub(crate) request_timeout: Duration,
    /// What connections may take.
    pub(crate) connections: Connections,
    /// How long the answer to a request under an `Idempotency-Key` is kept.
    pub(crate) idempotency_kept: Duration,
    /// How long a query waits for the read model to reach `Tidings-At-Least`.
    pub(crate) consistency_wait: Duration,
    /// How long requests in flight may take once the service is asked to stop.
    pub(crate) shutdown_timeout: Duration,
}

/// What connections of clients may take, whatever they send or leave out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connections {
    /// Open at the same time, at most.
    pub(crate) most: usize,
    /// The most bytes of a request's head.
    pub(crate) head_limit: usize,
    /// How long a request's head may take, and a connection lie idle.
    pub(crate) head_timeout: Duration,
    /// How long the next piece of a body may take.
    pub(crate) body_timeout: Duration,
    /// How long a client may take nothing of an answer.
    pub(crate) answer_timeout: Duration,
}

/// Keys given by the operator.
#[derive(Debug, Clone)]
pub(crate) struct GivenKeys {
    /// The platform administrator's.
    pub(crate) admin: Option<Secret>,
    /// What the other keys are derived from: 32 bytes.
    pub(crate) master: Option<Secret>,
}

/// How webhooks are sent.
#[derive(Debug, Clone)]
pub(crate) struct Sending {
    /// The default retry schedule.
    pub(crate) retry_schedule: Schedule,
    /// Where receivers may be, before the profile adds to it.
    pub(crate) egress: EgressPolicy,
    /// By which schemes; as the profile has it, unless given.
    pub(crate) egress_schemes: Option<Schemes>,
    /// At which ports; as the profile has it, unless given.
    pub(crate) egress_ports: Option<Ports>,
    /// The deadline of one try.
    pub(crate) timeout: Duration,
    /// Quick tries at the same time, at most.
    pub(crate) concurrency: usize,
    /// Tries that last beside them, at most.
    pub(crate) slow_concurrency: usize,
    /// Tries at the same time for one endpoint, at most.
    pub(crate) per_endpoint: usize,
    /// When an endpoint that fails is left alone for a while; none: never.
    pub(crate) breaker: Option<BreakerRules>,
    /// After how long a time of failure an endpoint is disabled; none: never.
    pub(crate) disable_after: Option<Duration>,
}

/// What is logged and how.
#[derive(Debug, Clone)]
pub(crate) struct Logging {
    /// Directives of `tracing_subscriber::EnvFilter`.
    pub(crate) filter: String,
    /// One JSON object per line instead of text.
    pub(crate) json: bool,
}

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// How strict.
    pub(crate) profile: Profile,
    /// What this process does.
    pub(crate) roles: Vec<Role>,
    /// The HTTP server.
    pub(crate) http: Http,
    /// Where everything is kept.
    pub(crate) storage: Storage,
    /// Keys given.
    pub(crate) keys: GivenKeys,
    /// How webhooks are sent.
    pub(crate) sending: Sending,
    /// What is logged.
    pub(crate) logging: Logging,
}

impl Config {
    /// Whether this process does that.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// Every setting as text, with where it comes from; not yet checked.
#[derive(Debug)]
pub(crate) struct Configuration {
    settings: Vec<Sourced>,
    mistakes: Vec<String>,
}

impl Configuration {
    /// Gathers the settings from all sources.
    pub(crate) fn read(file: Option<&Path>, overrides: &Overrides) -> Result<Self, Failure> {
        let (settings, mistakes) = sources::gather(file, overrides)?;
        Ok(Self { settings, mistakes })
    }

    /// Checks everything; a failure names every mistake there is.
    pub(crate) fn parse(&self) -> Result<Config, Failure> {
        let mut reader = Reader::new(&self.settings, self.mistakes.clone());
        let config = read_config(&mut reader);
        let mistakes = reader.into_mistakes();
        match config {
            Some(config) if mistakes.is_empty() => Ok(config),
            _ => Err(Failure::usage(
                mistakes,
                "`tidings config` shows every setting and where it comes from, `tidings config --default` what they mean",
            )),
        }
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings
            .iter()
            .try_for_each(|setting| writeln!(f, "{setting}"))
    }
}

/// Reads every concern before giving up, so that all mistakes are found in one go.
fn read_config(reader: &mut Reader<'_>) -> Option<Config> {
    let http = read_http(reader);
    let roles = reader.get("roles", parse::roles);
    let storage = read_storage(reader, roles.as_deref());
    let keys = read_keys(reader);
    let sending = read_sending(reader);
    let logging = read_logging(reader);
    let wanted = reader.optional("profile", parse::profile);
    let (http, storage) = (http?, storage?);
    let profile = wanted?.unwrap_or_else(|| default_profile(&http, &storage));
    Some(Config {
        profile,
        roles: roles?,
        http,
        storage,
        keys: keys?,
        sending: sending?,
        logging: logging?,
    })
}

/// Development only where nobody else can reach the service and nothing is shared.
fn default_profile(http: &Http, storage: &Storage) -> Profile {
    match storage.engine {
        EngineChoice::Embedded if http.listen.ip().is_loopback() => Profile::Development,
        _ => Profile::Production,
    }
}

fn read_http(reader: &mut Reader<'_>) -> Option<Http> {
    let listen = reader.get("listen", parse::address);
    let operator_listen = reader.optional("operator_listen", parse::address);
    let body_limit = reader.get("body_limit", parse::size);
    let bulk_body_limit = reader.get("bulk_body_limit", parse::size);
    let request_timeout = reader.get("request_timeout", parse::duration);
    let connections = read_connections(reader);
    let idempotency_kept = reader.get("idempotency_kept", parse::duration);
    let consistency_wait = reader.get("consistency_wait", parse::duration);
    let shutdown_timeout = reader.get("shutdown_timeout", parse::duration);
    Some(Http {
        listen: listen?,
        operator_listen: operator_listen?,
        body_limit: body_limit?,
        bulk_body_limit: bulk_body_limit?,
        request_timeout: request_timeout?,
        connections: connections?,
        idempotency_kept: idempotency_kept?,
        consistency_wait: consistency_wait?,
        shutdown_timeout: shutdown_timeout?,
    })
}

fn read_connections(reader: &mut Reader<'_>) -> Option<Connections> {
    let most = reader.get("connections", parse::count);
    let head_limit = reader.get("head_limit", parse::head);
    let head_timeout = reader.get("head_timeout", parse::duration);
    let body_timeout = reader.get("body_timeout", parse::duration);
    let answer_timeout = reader.get("answer_timeout", parse::duration);
    Some(Connections {
        most: most?,
        head_limit: head_limit?,
        head_timeout: head_timeout?,
        body_timeout: body_timeout?,
        answer_timeout: answer_timeout?,
    })
}

fn read_storage(reader: &mut Reader<'_>, roles: Option<&[Role]>) -> Option<Storage> {
    let data = reader.get("data", parse::path);
    let engine = read_engine(reader, roles);
    let messages = reader.get("messages_max_age", parse::age);
    let attempts = reader.get("attempts_max_age", parse::age);
    let cached_aggregates = reader.get("cached_aggregates", parse::number);
    let waiting_records = reader.get("append_queue_records", parse::count);
    let waiting_bytes = reader.get("append_queue_bytes", parse::size);
    let layout = Layout {
        waiting: Waiting {
            records: waiting_records?,
            bytes: waiting_bytes?,
        },
        messages: Retention::Age(messages?),
        attempts: Retention::Age(attempts?),
        ..Layout::default()
    };
    Some(Storage {
        data: data?,
        engine: engine?,
        layout,
        cached_aggregates: cached_aggregates?,
    })
}

fn read_engine(reader: &mut Reader<'_>, roles: Option<&[Role]>) -> Option<EngineChoice> {
    let nats_url = reader.optional("nats_url", parse::nats_url);
    let database_url = reader.optional("database_url", parse::database_url);
    let database_owner_url = reader.optional("database_owner_url", parse::database_url);
    let prefix = reader.get("nats_prefix", parse::token);
    let replicas = reader.get("nats_replicas", parse::replicas);
    let manage = reader.get("nats_manage", parse::boolean);
    let monitors = reader.get("nats_monitor", parse::list);
    let migrate = reader.get("database_migrate", parse::boolean);
    let (nats_url, database_url, database_owner_url) = (nats_url?, database_url?, database_owner_url?);
    let has_database = database_url.is_some() || database_owner_url.is_some();
    let Some(nats_url) = nats_url else {
        if has_database {
            reader.mistake("database_url is set but nats_url is not: the cluster engine needs both, the embedded engine neither");
        }
        return (!has_database).then_some(EngineChoice::Embedded);
    };
    if !has_database && roles? != [Role::Delivery] {
        reader.mistake("nats_url is set but database_url is not: the cluster engine needs both, the embedded engine neither");
        return None;
    }
    Some(EngineChoice::Cluster(Cluster {
        nats_url,
        prefix: prefix?,
        replicas: replicas?,
        manage: manage?,
        monitors: monitors?,
        database_url,
        database_owner_url,
        migrate: migrate?,
    }))
}

fn read_keys(reader: &mut Reader<'_>) -> Option<GivenKeys> {
    let admin = reader.optional("admin_key", parse::admin_key);
    let master = reader.optional("master_key", parse::master_key);
    Some(GivenKeys {
        admin: admin?,
        master: master?,
    })
}

fn read_sending(reader: &mut Reader<'_>) -> Option<Sending> {
    let retry_schedule = reader.get("retry_schedule", parse::schedule);
    let egress = reader.get("egress_allow", parse::egress);
    let egress_schemes = reader.get("egress_schemes", parse::schemes);
    let egress_ports = reader.get("egress_ports", parse::ports);
    let timeout = reader.get("delivery_timeout", parse::duration);
    let concurrency = reader.get("delivery_concurrency", parse::count);
    let slow_concurrency = reader.get("delivery_slow_concurrency", parse::count);
    let per_endpoint = reader.get("delivery_per_endpoint", parse::count);
    let breaker = reader.get("delivery_breaker", parse::breaker);
    let disable_after = reader.get("delivery_disable_after", parse::duration_or_never);
    Some(Sending {
        retry_schedule: retry_schedule?,
        egress: egress?,
        egress_schemes: egress_schemes?,
        egress_ports: egress_ports?,
        timeout: timeout?,
        concurrency: concurrency?,
        slow_concurrency: slow_concurrency?,
        per_endpoint: per_endpoint?,
        breaker: breaker?,
        disable_after: disable_after?,
    })
}

fn read_logging(reader: &mut Reader<'_>) -> Option<Logging> {
    let filter = reader.get("log", parse::log_filter);
    let json = reader.get("log_format", parse::log_format);
    Some(Logging {
        filter: filter?,
        json: json?,
    })
}

#[cfg(test)]
mod tests;
