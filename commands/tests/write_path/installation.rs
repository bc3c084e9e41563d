//! An installation for the tests: the embedded engine in a folder of its own, and what commands are made of.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker::embedded::Embedded;
use broker::layout::{Layout, Log};
use broker::{Engine, Filter};
use commands::{ClaimKey, Dispatcher, Settings};
use domain::user::{Attributes, Email, UserCommand};
use domain::{Actor, Commit, Meta, TenantId, Text, Timestamp, UserId};
use ulid::Ulid;

pub(crate) struct Installation {
    pub(crate) engine: Arc<dyn Engine>,
    _folder: tempfile::TempDir,
}

impl Installation {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        Self {
            engine: Arc::new(engine),
            _folder: folder,
        }
    }

    /// Another process's dispatcher: nothing is shared but the log.
    pub(crate) fn dispatcher(&self) -> Dispatcher {
        Dispatcher::new(&*self.engine, Settings::new(ClaimKey::new([7; 32])))
    }

    pub(crate) async fn commits(&self, tenant: &TenantId, id: &UserId) -> Vec<Commit> {
        let filter = Filter::new(Commit::subject(tenant, "user", id.as_str())).unwrap();
        let records = self
            .engine
            .log(Log::Events(0))
            .read(0, Some(&filter), 1_000)
            .await
            .unwrap();
        records
            .iter()
            .map(|record| Commit::decode(&record.payload).unwrap())
            .collect()
    }
}

pub(crate) fn tenant() -> TenantId {
    TenantId::new(Ulid::generate())
}

pub(crate) fn user() -> UserId {
    UserId::new(Ulid::generate())
}

pub(crate) fn meta(command: &str) -> Meta {
    Meta {
        command_id: Ulid::generate().to_string(),
        command: command.to_owned(),
        actor: Actor::PlatformAdmin,
        request_id: None,
        origin: None,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        at: Timestamp::from_millis(1_614_265_330_007),
    }
}

pub(crate) fn email(text: &str) -> Email {
    Email::try_from(text.to_owned()).unwrap()
}

pub(crate) fn register(address: &str) -> UserCommand {
    UserCommand::Register {
        email: email(address),
        name: Text::new("Ada").unwrap(),
        attributes: Attributes::default(),
        roles: BTreeSet::new(),
    }
}

pub(crate) fn rename(name: &str) -> UserCommand {
    UserCommand::Update {
        email: None,
        name: Some(Text::new(name).unwrap()),
        attributes: None,
    }
}
