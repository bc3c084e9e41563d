//! Every case: what happens to the service or its servers while clients write. [`CASES`] is the one place where they
//! register.

use futures::future::LocalBoxFuture;

use super::oracles::Oracle;
use super::world::{Setup, World};
use crate::nats::Sync;
use crate::service::Engine;

mod clocks;
mod damage;
mod links;
mod nats;
mod operators;
mod poison;
mod postgres;
mod power;
mod process;
mod projectors;
mod receivers;
mod replicas;
mod versions;

/// Does the harm, and takes it away again.
pub(crate) type Fault = for<'a> fn(&'a mut World) -> LocalBoxFuture<'a, anyhow::Result<()>>;

/// A case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// As it is asked for on the command line.
    pub name: &'static str,
    /// What happens, in a few words.
    pub about: &'static str,
    /// Where it makes sense.
    pub engines: &'static [Engine],
    /// The promises that it breaks on purpose, to show that this is found; none for a case that must keep them all.
    pub breaks: &'static [Oracle],
    pub(crate) setup: Setup,
    pub(crate) fault: Fault,
}

const BOTH: &[Engine] = &[Engine::Embedded, Engine::Cluster];
const CLUSTER: &[Engine] = &[Engine::Cluster];
const EMBEDDED: &[Engine] = &[Engine::Embedded];

const PLAIN: Setup = Setup::Plain;
const LINKS: Setup = Setup::Links;
const POSTGRES: Setup = Setup::Postgres;
const REPLICAS: Setup = Setup::Replicas;
/// Much larger than what a run leaves.
const DISK: Setup = Setup::Disk {
    sync: Sync::Always,
    size: "512M",
};
const UNSYNCED: Setup = Setup::Disk {
    sync: Sync::Default,
    size: "512M",
};
/// As small as the file system's own needs and the begin of a run allow.
const SMALL_DISK: Setup = Setup::Disk {
    sync: Sync::Always,
    size: "96M",
};

const fn case(
    name: &'static str,
    about: &'static str,
    engines: &'static [Engine],
    setup: Setup,
    fault: Fault,
) -> Case {
    Case {
        name,
        about,
        engines,
        breaks: &[],
        setup,
        fault,
    }
}

/// A case that shows what the oracles are worth.
const fn control(breaks: &'static [Oracle], case: Case) -> Case {
    Case { breaks, ..case }
}

/// All cases, in the order in which they run.
pub const CASES: &[Case] = &[
    case(
        "service-kill",
        "the service is killed up to three times",
        BOTH,
        PLAIN,
        process::kill,
    ),
    case(
        "service-term",
        "the service is asked to end under load",
        BOTH,
        PLAIN,
        process::terminate,
    ),
    case(
        "log-locked",
        "somebody else holds the embedded log",
        EMBEDDED,
        PLAIN,
        process::lock_log,
    ),
    case(
        "worker-kill",
        "killed between sending a webhook and recording it",
        BOTH,
        PLAIN,
        process::kill_while_sending,
    ),
    case(
        "nats-kill",
        "NATS is killed and comes back",
        CLUSTER,
        PLAIN,
        nats::kill,
    ),
    case(
        "nats-pause",
        "NATS stands still for a while",
        CLUSTER,
        PLAIN,
        nats::pause,
    ),
    case(
        "nats-lost-ack",
        "NATS stores, and its acknowledgements are lost",
        CLUSTER,
        LINKS,
        links::nats_lost_answers,
    ),
    case(
        "nats-slow",
        "the link to NATS is slow",
        CLUSTER,
        LINKS,
        links::nats_slow,
    ),
    case(
        "nats-half-open",
        "the link to NATS is silent without closing",
        CLUSTER,
        LINKS,
        links::nats_half_open,
    ),
    case(
        "nats-reset",
        "connections to NATS are cut again and again",
        CLUSTER,
        LINKS,
        links::nats_reset,
    ),
    case(
        "nats-refused",
        "NATS cannot be connected to",
        CLUSTER,
        LINKS,
        links::nats_refused,
    ),
    case(
        "replica-kill",
        "of three NATS servers the log's leader is killed",
        CLUSTER,
        REPLICAS,
        replicas::kill_leader,
    ),
    case(
        "replica-pause",
        "of three NATS servers the log's leader stands still",
        CLUSTER,
        REPLICAS,
        replicas::pause_leader,
    ),
    case(
        "replica-isolated",
        "of three NATS servers the log's leader is cut off",
        CLUSTER,
        REPLICAS,
        replicas::isolate_leader,
    ),
    case(
        "replica-majority",
        "two of three NATS servers stand still",
        CLUSTER,
        REPLICAS,
        replicas::pause_majority,
    ),
    case(
        "replica-power",
        "all three NATS servers are killed and started",
        CLUSTER,
        REPLICAS,
        replicas::kill_all,
    ),
    case(
        "postgres-lost-ack",
        "PostgreSQL's answers are lost",
        CLUSTER,
        LINKS,
        links::postgres_lost_answers,
    ),
    case(
        "postgres-slow",
        "the link to PostgreSQL is slow",
        CLUSTER,
        LINKS,
        links::postgres_slow,
    ),
    case(
        "postgres-half-open",
        "the link to PostgreSQL is silent without closing",
        CLUSTER,
        LINKS,
        links::postgres_half_open,
    ),
    case(
        "postgres-reset",
        "connections to PostgreSQL are cut again and again",
        CLUSTER,
        LINKS,
        links::postgres_reset,
    ),
    case(
        "postgres-stop",
        "PostgreSQL is stopped and started",
        CLUSTER,
        POSTGRES,
        postgres::stop,
    ),
    case(
        "postgres-kill",
        "PostgreSQL is killed and started",
        CLUSTER,
        POSTGRES,
        postgres::kill,
    ),
    case(
        "postgres-pause",
        "PostgreSQL stands still for a while",
        CLUSTER,
        POSTGRES,
        postgres::pause,
    ),
    case(
        "projector-pause",
        "of two processes one stands still and comes back",
        CLUSTER,
        PLAIN,
        projectors::pause_one,
    ),
    case(
        "replay-kill",
        "the service is killed in the middle of a replay",
        BOTH,
        PLAIN,
        projectors::kill_replaying,
    ),
    case(
        "receiver-down",
        "receivers hang, drip and fail, then are healthy",
        BOTH,
        PLAIN,
        receivers::down,
    ),
    case(
        "receiver-hostile",
        "receivers answer without end, redirect, and lead inside",
        BOTH,
        Setup::Names,
        receivers::hostile,
    ),
    case(
        "noisy-tenant",
        "one tenant asks for as much as it can",
        BOTH,
        PLAIN,
        receivers::noisy_tenant,
    ),
    case(
        "stream-purged",
        "an operator purges the log, which is noticed and restored",
        CLUSTER,
        PLAIN,
        operators::purge,
    ),
    case(
        "stream-deleted",
        "an operator deletes the log, which is noticed and restored",
        CLUSTER,
        PLAIN,
        operators::delete,
    ),
    case(
        "stream-limited",
        "an operator lets the log keep three records",
        CLUSTER,
        PLAIN,
        operators::limit,
    ),
    case(
        "stream-aged",
        "an operator lets the log keep records for a second",
        CLUSTER,
        PLAIN,
        operators::age,
    ),
    case(
        "stream-unrouted",
        "an operator takes the logs' subjects away",
        CLUSTER,
        PLAIN,
        operators::unroute,
    ),
    case(
        "stream-diverted",
        "an operator gives the logs' subjects to other streams",
        CLUSTER,
        PLAIN,
        operators::divert,
    ),
    case(
        "poison",
        "a record that cannot be read parks a tenant until it is skipped",
        BOTH,
        PLAIN,
        poison::plant,
    ),
    case(
        "clock-jumps",
        "the service's time of day jumps back and forth",
        BOTH,
        Setup::Clock,
        clocks::jump,
    ),
    case(
        "upgrade",
        "an earlier program runs at first (takes TIDINGS_OLD_BIN)",
        BOTH,
        Setup::Older,
        versions::upgrade,
    ),
    case(
        "disk-damaged",
        "the log's files are damaged in one of many ways, noticed and restored",
        BOTH,
        PLAIN,
        damage::damage,
    ),
    case(
        "replica-damaged",
        "of three NATS servers one comes back with a damaged log",
        CLUSTER,
        REPLICAS,
        damage::damage_replica,
    ),
    case(
        "power-cut",
        "NATS loses what its disk was not told to keep (takes root)",
        CLUSTER,
        DISK,
        power::cut,
    ),
    case(
        "power-cut-embedded",
        "the embedded engine's machine loses its power (takes root)",
        EMBEDDED,
        DISK,
        power::cut_embedded,
    ),
    case(
        "disk-full",
        "there is no room left for the log (takes root)",
        BOTH,
        SMALL_DISK,
        power::fill,
    ),
    case(
        "sync-fails",
        "the log's disk fails to sync (takes strace)",
        BOTH,
        PLAIN,
        power::fail_syncs,
    ),
    control(
        &[Oracle::O1],
        case(
            "control-unsynced",
            "control: a power cut without syncing loses",
            CLUSTER,
            UNSYNCED,
            power::cut_unsynced,
        ),
    ),
    control(
        &[Oracle::O5],
        case(
            "control-tampered",
            "control: somebody changes a row of a read model",
            BOTH,
            PLAIN,
            projectors::tamper,
        ),
    ),
];

/// The case of a name.
pub fn find(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.name == name)
}
