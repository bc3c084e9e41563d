//! From the log's bytes to facts: decoding, and the tenant a record belongs to.

use broker::Record;
use broker::layout::Log;
use domain::{Commit, DeliveryRecord, Message};

use crate::projection::{Fact, Incoming, position};

/// What decoding made of a record.
pub(crate) enum Decoded {
    /// Something to apply.
    Fact(Box<Incoming>),
    /// Nothing a projection folds, such as a claim of a unique value; it only counts for contiguity.
    Nothing,
    /// A record that cannot be read.
    Poison {
        /// Whose it is, as its subject says.
        tenant: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The tenant that a record's subject names: its second token.
pub(crate) fn tenant_of(record: &Record) -> String {
    record
        .subject
        .as_str()
        .split('.')
        .nth(1)
        .unwrap_or_default()
        .to_owned()
}

/// Whether a record is a claim of a unique value.
pub(crate) fn is_claim(record: &Record) -> bool {
    record.subject.as_str().starts_with("uq.")
}

/// Reads a record; never fails as a whole, since one tenant's bad record must not stop the others.
pub(crate) fn decode(log: Log, record: &Record) -> Decoded {
    if is_claim(record) {
        return Decoded::Nothing;
    }
    let tenant = tenant_of(record);
    match fact(log, &record.payload) {
        Err(error) => {
            let reason = std::error::Error::source(&error)
                .map_or(error.to_string(), |cause| format!("{error}: {cause}"));
            Decoded::Poison { tenant, reason }
        }
        // A record filed under one tenant that claims to be another's must not reach the other's rows.
        Ok(fact) if owner(&fact) != tenant => {
            let reason = format!("the record is {}'s, but filed under {tenant}", owner(&fact));
            Decoded::Poison { tenant, reason }
        }
        Ok(fact) => Decoded::Fact(Box::new(Incoming {
            position: position(log, record.sequence),
            tenant,
            message_id: record.message_id.clone(),
            fact,
        })),
    }
}

fn fact(log: Log, payload: &[u8]) -> Result<Fact, domain::DecodeError> {
    Ok(match log {
        Log::Events(_) => Fact::Commit(Commit::decode(payload)?),
        Log::Messages(_) => Fact::Message(Message::decode(payload)?),
        Log::Attempts => Fact::Delivery(DeliveryRecord::decode(payload)?),
    })
}

fn owner(fact: &Fact) -> &str {
    match fact {
        Fact::Commit(commit) => commit.tenant.as_str(),
        Fact::Message(message) => message.tenant.as_str(),
        Fact::Delivery(record) => record.tenant.as_str(),
    }
}
