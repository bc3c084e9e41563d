//! From the log's bytes to facts: decoding, and the tenant a record belongs to.

use broker::Record;
use broker::layout::Log;
use domain::{Commit, DeliveryRecord, Message, Timestamp};

use crate::projection::{Fact, Incoming, position};

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

/// Reads a record, and tells why it cannot be read if it cannot: one tenant's bad record must not stop the others.
pub(crate) fn decode(log: Log, record: &Record) -> (Incoming, Option<String>) {
    let tenant = tenant_of(record);
    let read = if is_claim(record) {
        Ok(Fact::Claim)
    } else {
        owned(log, record, &tenant)
    };
    let (fact, poison) = match read {
        Ok(fact) => (fact, None),
        Err(reason) => (Fact::Unreadable, Some(reason)),
    };
    let incoming = Incoming {
        position: position(log, record.sequence),
        tenant,
        subject: record.subject.as_str().to_owned(),
        message_id: record.message_id.clone(),
        stored_at: Timestamp::from(record.stored_at),
        payload: record.payload.clone(),
        fact,
    };
    (incoming, poison)
}

/// What a record says. One filed under a tenant that claims to be another's must not reach the other's rows.
fn owned(log: Log, record: &Record, tenant: &str) -> Result<Fact, String> {
    let fact = fact(log, &record.payload).map_err(|error| {
        std::error::Error::source(&error).map_or(error.to_string(), |cause| format!("{error}: {cause}"))
    })?;
    match owner(&fact) {
        Some(owner) if owner != tenant => Err(format!("the record is {owner}'s, but filed under {tenant}")),
        _ => Ok(fact),
    }
}

fn fact(log: Log, payload: &[u8]) -> Result<Fact, domain::DecodeError> {
    Ok(match log {
        Log::Events(_) => Fact::Commit(Commit::decode(payload)?),
        Log::Messages(_) => Fact::Message(Message::decode(payload)?),
        Log::Attempts => Fact::Delivery(DeliveryRecord::decode(payload)?),
    })
}

fn owner(fact: &Fact) -> Option<&str> {
    match fact {
        Fact::Commit(commit) => Some(commit.tenant.as_str()),
        Fact::Message(message) => Some(message.tenant.as_str()),
        Fact::Delivery(record) => Some(record.tenant.as_str()),
        Fact::Claim | Fact::Unreadable => None,
    }
}
