//! Every setting there is.

use std::fmt::Write as _;

/// How a setting's value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// As it is.
    Plain,
    /// As a URL without its password.
    Url,
    /// Not at all.
    Never,
}

/// One setting; `key` in the file, `TIDINGS_<KEY>` in the environment.
#[derive(Debug)]
pub(super) struct Setting {
    /// Its name.
    pub(super) key: &'static str,
    /// Its value where nobody sets it; empty: not set.
    pub(super) default: &'static str,
    /// How it may be shown.
    pub(super) shown: Shown,
    /// What it means, in sentences.
    pub(super) about: &'static str,
}

const fn plain(key: &'static str, default: &'static str, about: &'static str) -> Setting {
    Setting {
        key,
        default,
        shown: Shown::Plain,
        about,
    }
}

const fn hidden(key: &'static str, shown: Shown, about: &'static str) -> Setting {
    Setting {
        key,
        default: "",
        shown,
        about,
    }
}

/// The settings, in the order in which they are explained.
pub(super) const SETTINGS: &[Setting] = &[
    plain(
        "data",
        "./tidings-data",
        "Folder of the embedded engine and of generated keys; made with mode 0700.",
    ),
    plain(
        "listen",
        "127.0.0.1:8080",
        "Address of the API. Port 0 takes a free one.",
    ),
    plain(
        "operator_listen",
        "",
        "Another address for /health and /metrics, which then leave the API's.",
    ),
    plain(
        "roles",
        "gateway,projections,delivery",
        "What this process does: any of gateway, projections, delivery.",
    ),
    plain(
        "profile",
        "",
        "development or production. Not set: development on the embedded engine and a loopback address, else production.",
    ),
    hidden(
        "nats_url",
        Shown::Url,
        "NATS servers of the cluster engine, as nats://user:password@host:4222, several separated by commas. Needs database_url.",
    ),
    hidden(
        "database_url",
        Shown::Url,
        "PostgreSQL database of the cluster engine, as postgres://user:password@host/database. Needs nats_url.",
    ),
    hidden(
        "database_owner_url",
        Shown::Url,
        "The same database as its owner, used for migrations only. Not set: database_url.",
    ),
    plain(
        "nats_prefix",
        "tidings",
        "First token of all streams and subjects: several installations can share one NATS cluster.",
    ),
    plain("nats_replicas", "1", "Copies of every stream: 1, 3 or 5."),
    plain(
        "nats_manage",
        "true",
        "Whether this process creates missing streams; false where its NATS user may not.",
    ),
    plain(
        "nats_monitor",
        "",
        "The NATS servers' monitoring addresses, as http://127.0.0.1:8222, separated by commas: only there do they tell how they sync.",
    ),
    plain(
        "database_migrate",
        "true",
        "Whether this process brings the database's tables up to date; false where `tidings migrate` does.",
    ),
    hidden(
        "admin_key",
        Shown::Never,
        "The platform administrator's key: tdk_ and at least 32 more characters. Not set: made at the first start and kept in <data>/admin.key.",
    ),
    hidden(
        "master_key",
        Shown::Never,
        "32 bytes as 64 hexadecimal digits or base64, from which all other keys are derived. Not set: made at the first start and kept in <data>/master.key; a cluster in production must set it.",
    ),
    plain(
        "egress_allow",
        "",
        "Networks that receivers may be in although private, as 10.1.0.0/16,192.168.7.9/32.",
    ),
    plain(
        "egress_schemes",
        "",
        "By which schemes receivers may be asked: https, or http,https. Not set: https in production, both in development.",
    ),
    plain(
        "egress_ports",
        "",
        "At which ports receivers may be, as 443,8000-8999, or any. Not set: 80, 443 and 1024 upwards in production, any in development.",
    ),
    plain(
        "retry_schedule",
        "5s,5m,30m,2h,5h,10h,14h,20h,24h",
        "Waits between the attempts of a delivery.",
    ),
    plain(
        "delivery_timeout",
        "15s",
        "Deadline of one attempt: connection, headers and body together.",
    ),
    plain(
        "delivery_concurrency",
        "64",
        "Attempts at the same time, at most, in this process; those that last for half a second or more do not count here.",
    ),
    plain(
        "delivery_slow_concurrency",
        "256",
        "Attempts at the same time beside those that last for half a second or more, or are to endpoints known to be slow.",
    ),
    plain(
        "delivery_per_endpoint",
        "8",
        "Attempts at the same time for one endpoint, at most, in this process, where the endpoint asks for no other number.",
    ),
    plain(
        "delivery_breaker",
        "50%,10,1m,30s",
        "When an endpoint is left alone for a while, where it asks for nothing else: so many of its attempts failed, of \
         at least so many, within this time; and for how long, which doubles each time in a row. Or off.",
    ),
    plain(
        "delivery_disable_after",
        "5d",
        "How long an endpoint may fail without one success before it is disabled, where it asks for nothing else; or never.",
    ),
    plain("messages_max_age", "30d", "How long published events are kept."),
    plain("attempts_max_age", "90d", "How long the delivery log is kept."),
    plain("body_limit", "1MiB", "The most bytes of a request body."),
    plain(
        "bulk_body_limit",
        "8MiB",
        "The most bytes of a bulk request's body.",
    ),
    plain("request_timeout", "30s", "How long a request may take."),
    plain(
        "connections",
        "8192",
        "Connections of clients at the same time, at most, in this process; further ones wait until one ends. Open files: \
         so many more are needed.",
    ),
    plain(
        "head_limit",
        "64KiB",
        "About how many bytes a request's address and headers may have together.",
    ),
    plain(
        "head_timeout",
        "30s",
        "How long the head of a request may take to arrive, and a connection lie idle between two.",
    ),
    plain(
        "body_timeout",
        "10s",
        "How long the next piece of a request's body may take to arrive.",
    ),
    plain(
        "answer_timeout",
        "30s",
        "How long a client may take nothing of an answer that waits for it.",
    ),
    plain(
        "idempotency_kept",
        "24h",
        "How long the answer to a request under an Idempotency-Key is kept, and given again.",
    ),
    plain(
        "consistency_wait",
        "5s",
        "How long a query waits for its read model to reach the position asked for with Tidings-At-Least.",
    ),
    plain(
        "shutdown_timeout",
        "30s",
        "How long requests and deliveries in flight may take once the service is asked to stop.",
    ),
    plain(
        "cached_aggregates",
        "100000",
        "How many aggregates the write side keeps in memory; 100,000 users take some 75 MiB.",
    ),
    plain(
        "append_queue_records",
        "65536",
        "How many records may wait to be stored in each log, in this process; beyond that requests are answered 503.",
    ),
    plain(
        "append_queue_bytes",
        "64MiB",
        "How many bytes may wait to be stored in each log, in this process; beyond that requests are answered 503.",
    ),
    plain(
        "log",
        "info",
        "What is logged on stderr: a level, or directives such as info,broker=debug.",
    ),
    plain("log_format", "text", "text, or json for one object per line."),
];

/// The setting of a key.
pub(super) fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// A commented file of all settings with their defaults.
pub(crate) fn default_file() -> String {
    let mut file = String::from(
        "# Tidings: every setting with its default. Each is also an environment variable, TIDINGS_ and the name in\n\
         # capitals, which stands over this file. `tidings config` shows what is in effect.\n",
    );
    for Setting {
        key, default, about, ..
    } in SETTINGS
    {
        // Writing to a string cannot fail.
        let _ = write!(file, "\n# {about}\n# {key} = \"{default}\"\n");
    }
    file
}
