//! What handlers share: the write side, the read models, and who may call.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use broker::Trust;
use commands::{Dispatcher, Publisher};
use delivery::{EgressPolicy, PublicKeys, SecretWriter};
use domain::SourceAddress;
use projections::{Logs, ReadModels};

use crate::access_log::AccessLog;
use crate::auth::Authority;
use crate::config::Http;
use crate::idempotency::Receipts;
use crate::invitation_tokens::InvitationTokens;
use crate::proofs::Proofs;
use crate::routes::audit::Streams;
use crate::schemas::Schemas;
use crate::source_secrets::SourceSecrets;
use crate::strikes::Strikes;
use crate::{quotas, settings};

/// The state of the API; clones share it.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

/// Its parts.
pub(crate) struct Parts {
    /// Executes commands.
    pub(crate) dispatcher: Dispatcher,
    /// Accepts events.
    pub(crate) publisher: Publisher,
    /// Answers queries.
    pub(crate) read_models: ReadModels,
    /// Signs and proves the state of tenants' logs.
    pub(crate) proofs: Proofs,
    /// What the read models are folded from.
    pub(crate) logs: Logs,
    /// Checks events with the schemas of their types.
    pub(crate) schemas: Schemas,
    /// Tells who calls.
    pub(crate) authority: Authority,
    /// Writes down what was refused, and which secrets were shown.
    pub(crate) access: AccessLog,
    /// What keyed requests were answered.
    pub(crate) receipts: Receipts,
    /// Makes and checks the tokens of invitations.
    pub(crate) invitation_tokens: InvitationTokens,
    /// Who showed wrong tokens of late.
    pub(crate) strikes: Strikes<IpAddr>,
    /// Makes endpoints' signing secrets; cannot read them.
    pub(crate) secrets: SecretWriter,
    /// What receivers verify webhooks with.
    pub(crate) public_keys: PublicKeys,
    /// What the requests of sources are checked with.
    pub(crate) source_secrets: SourceSecrets,
    /// Who sent what no source can have sent, and to which.
    pub(crate) impostors: Strikes<(SourceAddress, IpAddr)>,
    /// Where receivers may be.
    pub(crate) egress: EgressPolicy,
    /// Turns at the gates of quotas.
    pub(crate) gates: quotas::Turns,
    /// Tenants that set nothing.
    pub(crate) unset: settings::Unset,
    /// Whether the log is still what it was.
    pub(crate) trust: Trust,
    /// Open streams of audit trails.
    pub(crate) streams: Streams,
    /// Limits of requests.
    pub(crate) http: Http,
}

impl App {
    /// Shares the parts.
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
