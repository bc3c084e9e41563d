//! Ours in the process: the dispatcher executes commands on users of one tenant.

use std::collections::BTreeSet;
use std::time::SystemTime;

use async_trait::async_trait;
use broker::Engine;
use commands::{ClaimKey, Dispatcher, Settings};
use domain::user::{Attributes, Email, User, UserCommand, UserEvent, UserName};
use domain::{Actor, Commit, Meta, TenantId, Text, Timestamp, UserId, encode_event};
use ulid::Ulid;

use crate::bench::load::{BoxedWorker, Worker};

/// After how many commands on one user a mixed worker goes on to the next; the first is the registration.
pub(super) const EPISODE: u64 = 10;

/// A dispatcher over an engine.
pub(super) fn dispatcher(engine: &dyn Engine) -> Dispatcher {
    Dispatcher::new(engine, Settings::new(ClaimKey::new([7; 32])))
}

/// Workers that each rename a registered user of their own: one command, one event, one record.
pub(super) async fn renaming(engine: &dyn Engine, count: usize) -> anyhow::Result<Vec<BoxedWorker>> {
    let (dispatcher, tenant) = (dispatcher(engine), TenantId::new(Ulid::generate()));
    let mut workers = Vec::new();
    for _ in 0..count {
        let mut worker = Dispatching::new(&dispatcher, &tenant, u64::MAX);
        worker.turn().await?;
        workers.push(Box::new(worker) as BoxedWorker);
    }
    Ok(workers)
}

/// Workers that each register a user, rename it nine times, and go on to the next.
pub(super) async fn mixed(engine: &dyn Engine, count: usize) -> anyhow::Result<Vec<BoxedWorker>> {
    let (dispatcher, tenant) = (dispatcher(engine), TenantId::new(Ulid::generate()));
    let mut workers = Vec::new();
    for number in 0..count {
        let mut worker = Dispatching::new(&dispatcher, &tenant, EPISODE);
        worker.turn().await?;
        worker.turns = staggered(number);
        workers.push(Box::new(worker) as BoxedWorker);
    }
    Ok(workers)
}

/// How many commands of its first episode a mixed worker counts as done after its registration, so that not all of
/// them register at once.
pub(super) fn staggered(worker: usize) -> u64 {
    1 + worker as u64 % (EPISODE - 1)
}

struct Dispatching {
    dispatcher: Dispatcher,
    tenant: TenantId,
    user: UserId,
    turns: u64,
    episode: u64,
}

impl Dispatching {
    fn new(dispatcher: &Dispatcher, tenant: &TenantId, episode: u64) -> Self {
        Self {
            dispatcher: dispatcher.clone(),
            tenant: tenant.clone(),
            user: UserId::new(Ulid::generate()),
            turns: 0,
            episode,
        }
    }
}

#[async_trait]
impl Worker for Dispatching {
    async fn turn(&mut self) -> anyhow::Result<u64> {
        let command = next_command(&mut self.user, &mut self.turns, self.episode)?;
        let meta = meta(Timestamp::from(SystemTime::now()));
        self.dispatcher
            .execute::<User>(&self.tenant, self.user.as_str(), command, meta)
            .await?;
        Ok(1)
    }
}

/// The next command of a worker: at the beginning of an episode a new user is registered, then it is renamed.
pub(super) fn next_command(user: &mut UserId, turns: &mut u64, episode: u64) -> anyhow::Result<UserCommand> {
    let place = *turns % episode;
    *turns += 1;
    let name = Text::new(&format!("Ada Lovelace {turns}"))?;
    if place > 0 {
        return Ok(renaming_to(name));
    }
    *user = UserId::new(Ulid::generate());
    let email = Email::try_from(format!("{user}@example.org"))?;
    Ok(UserCommand::Register {
        email,
        name,
        attributes: Attributes::default(),
        roles: BTreeSet::new(),
    })
}

fn renaming_to(name: UserName) -> UserCommand {
    UserCommand::Update {
        email: None,
        name: Some(name),
        attributes: None,
    }
}

/// Renames a user; the turn makes the name another one.
pub(super) async fn rename(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    user: &UserId,
    turn: u64,
) -> anyhow::Result<()> {
    let command = renaming_to(Text::new(&format!("Grace Hopper {turn}"))?);
    let meta = meta(Timestamp::from(SystemTime::now()));
    dispatcher
        .execute::<User>(tenant, user.as_str(), command, meta)
        .await?;
    Ok(())
}

/// The event of a registration.
pub(super) fn registered(email: Email) -> anyhow::Result<UserEvent> {
    Ok(UserEvent::Registered {
        email,
        name: Text::new("Ada Lovelace")?,
        attributes: Attributes::default(),
        roles: BTreeSet::new(),
    })
}

fn meta(at: Timestamp) -> Meta {
    Meta {
        command_id: Ulid::generate().to_string(),
        command: "UpdateUser".to_owned(),
        actor: Actor::PlatformAdmin,
        request_id: None,
        origin: None,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        at,
    }
}

/// The record of a renaming, as the log keeps it.
pub(super) fn example_record() -> anyhow::Result<Vec<u8>> {
    let event = UserEvent::Renamed {
        from: Text::new("Ada Lovelace 1")?,
        to: Text::new("Ada Lovelace 2")?,
    };
    record_of(
        &TenantId::platform(),
        &UserId::new(Ulid::generate()),
        2,
        &event,
        Some(Commit::hash(b"")),
    )
}

/// A record of one event on a user, as the log keeps it.
pub(super) fn record_of(
    tenant: &TenantId,
    user: &UserId,
    first_version: u64,
    event: &UserEvent,
    prev: Option<Vec<u8>>,
) -> anyhow::Result<Vec<u8>> {
    let commit = Commit {
        v: Commit::VERSION,
        tenant: tenant.clone(),
        aggregate: "user".to_owned(),
        id: user.to_string(),
        first_version,
        events: vec![encode_event(event)?],
        meta: meta(Timestamp::from(SystemTime::now())),
        prev,
    };
    Ok(commit.encode())
}
