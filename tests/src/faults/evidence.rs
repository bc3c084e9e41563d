//! What a run leaves behind, as plain data: enough to judge it later and elsewhere.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::history::{Entry, Kind};

/// The name with which every user of a run is registered.
pub const FIRST_NAME: &str = "User";

/// All that is known of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What clients asked for and were told.
    pub history: Vec<Entry>,
    /// Every record of the logs of events and of messages.
    pub log: Vec<Stored>,
    /// The users that queries list in the end.
    pub users: Vec<User>,
    /// The ids of events that queries list in the end, with the tenant.
    pub events: Vec<(String, String)>,
    /// Whose values stand in what a tenant can read.
    pub read: Vec<Mentions>,
    /// What `tidings verify` said in the end.
    pub verified: Verified,
    /// What came to the receiver.
    pub received: Vec<Webhook>,
    /// When the log was certainly away.
    pub away: Vec<Span>,
    /// When the service was ending on request.
    pub ending: Vec<Span>,
    /// When the fault was taken away.
    pub healed: Duration,
    /// How long it may take from then on until things work again, where that is not as long as for others.
    #[serde(default)]
    pub within: Option<Duration>,
    /// How long after that a query knew everything acknowledged before.
    pub queries_again: Option<Duration>,
    /// What the case has to tell of this run beside: which harm of many it was, and what came of it.
    #[serde(default)]
    pub notes: Vec<String>,
    /// How long it took until damage was noticed, where it had to be.
    #[serde(default)]
    pub noticed: Option<Duration>,
}

/// A stretch of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Its beginning.
    pub from: Duration,
    /// Its end.
    pub to: Duration,
}

/// A record of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The log, as `EVENTS-0`.
    pub log: String,
    /// Its place there.
    pub sequence: u64,
    /// Whose it is: one of the run's tenants, or none of them.
    pub tenant: Option<String>,
    /// What a commit says of its aggregate.
    pub commit: Option<Versions>,
    /// The values it holds for good.
    pub facts: Vec<Fact>,
    /// Tenants whose values stand anywhere in its bytes.
    pub mentions: Vec<String>,
}

/// Where a commit stands in its aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The aggregate's subject.
    pub aggregate: String,
    /// The version of its first event.
    pub first: u64,
    /// The version of its last event.
    pub last: u64,
    /// Its hash, in hexadecimal.
    pub hash: String,
    /// The hash of the aggregate's commit before.
    pub previous: Option<String>,
}

/// What a command has left in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What the command did.
    pub kind: Kind,
    /// The id of the user or event.
    pub id: String,
    /// The command's value.
    pub value: String,
}

/// A user as a query lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Who listed it.
    pub tenant: String,
    /// Its id.
    pub id: String,
    /// The value its e-mail address is made of.
    pub email: String,
    /// Its name.
    pub name: String,
}

/// Whose values stand in something of a tenant's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mentions {
    /// Who may read it.
    pub tenant: String,
    /// What it is, as `/v1/audit`.
    pub what: String,
    /// Whose values stand there.
    pub of: Vec<String>,
}

/// What `tidings verify` said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Whether every row is what the log gives.
    pub proved: bool,
    /// Its words.
    pub said: String,
}

/// A webhook that came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// At whose endpoint.
    pub tenant: String,
    /// When.
    pub at: Duration,
    /// Its `webhook-id`.
    pub id: String,
    /// The value in its data.
    pub value: String,
    /// Whether its signature is that of the endpoint.
    pub genuine: bool,
    /// Whose values stand in it.
    pub mentions: Vec<String>,
}
