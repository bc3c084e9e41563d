//! Claims: unique values, kept unique by records on subjects of their own (see `domain::Claim`).

use std::collections::BTreeMap;

use broker::{EventLog, NewRecord, Subject};
use domain::{Claim, ClaimRecord, TenantId};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::{CommitError, LoadError};

/// The key of the hashes under which unique values stand in the log. It must never change for an installation:
/// under another key every value would look free.
#[derive(Clone)]
pub struct ClaimKey([u8; 32]);

impl ClaimKey {
    /// Of 32 secret bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The value's place among the claims of a tenant: 64 hexadecimal digits, a subject token.
    pub(crate) fn hash(&self, tenant: &TenantId, kind: &str, value: &str) -> String {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104)")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any key length");
        for part in [tenant.as_str(), kind, value] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        hex::encode(mac.finalize().into_bytes())
    }
}

impl std::fmt::Debug for ClaimKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClaimKey(…)")
    }
}

/// The records that carry out claims for an aggregate, each expecting its value to be as it was read.
///
/// `holder` names the aggregate, as `user.usr_…`. A value that another holds is [`CommitError::Taken`].
pub(crate) async fn records(
    log: &dyn EventLog,
    key: &ClaimKey,
    tenant: &TenantId,
    holder: &str,
    command_id: &str,
    claims: Vec<Claim>,
) -> Result<Vec<NewRecord>, CommitError> {
    // Of several claims on one value in one commit only the last counts: a subject can carry one expectation.
    let last: BTreeMap<_, _> = claims
        .into_iter()
        .map(|claim| {
            let (kind, value) = claim.key();
            ((kind, key.hash(tenant, kind, value)), claim)
        })
        .collect();
    let mut records = Vec::with_capacity(last.len());
    for ((kind, hash), claim) in last {
        let subject = Subject::new(ClaimRecord::subject(tenant, kind, &hash))
            .map_err(|error| CommitError::Unwritable(Box::new(error)))?;
        let (sequence, held_by) = present(log, &subject).await?;
        let take = matches!(claim, Claim::Take { .. });
        let record = ClaimRecord {
            v: ClaimRecord::VERSION,
            tenant: tenant.to_string(),
            kind: kind.to_owned(),
            holder: holds_then(take, held_by, holder, kind)?,
        };
        records.push(NewRecord {
            subject,
            message_id: format!("{tenant}:{command_id}:{kind}:{hash}"),
            expect: Some(sequence),
            payload: record.encode().into(),
        });
    }
    Ok(records)
}

/// Who holds a value, as `user.usr_…`, by the log's last word on it.
pub(crate) async fn holder(
    log: &dyn EventLog,
    key: &ClaimKey,
    tenant: &TenantId,
    kind: &str,
    value: &str,
) -> Result<Option<String>, LoadError> {
    let subject = ClaimRecord::subject(tenant, kind, &key.hash(tenant, kind, value));
    let subject = Subject::new(subject).map_err(LoadError::InvalidId)?;
    match present(log, &subject).await {
        Ok((_, held_by)) => Ok(held_by),
        Err(error) => Err(LoadError::Unavailable(Box::new(error))),
    }
}

/// The last claim on a value: its sequence, and who holds the value by it.
async fn present(log: &dyn EventLog, subject: &Subject) -> Result<(u64, Option<String>), CommitError> {
    let Some(record) = log.last(subject).await? else {
        return Ok((0, None));
    };
    let claim =
        ClaimRecord::decode(&record.payload).map_err(|error| CommitError::Unwritable(Box::new(error)))?;
    Ok((record.sequence, claim.holder))
}

/// Who holds a value after it was taken or given back; what another has cannot be taken.
///
/// That is written down even where it changes nothing: what was read may be behind, and only the append's expectation
/// proves that the value is ours still, or is not ours to give back.
fn holds_then(
    take: bool,
    held_by: Option<String>,
    holder: &str,
    kind: &'static str,
) -> Result<Option<String>, CommitError> {
    match held_by {
        Some(other) if take && other != holder => Err(CommitError::Taken(kind)),
        _ if take => Ok(Some(holder.to_owned())),
        Some(own) if own == holder => Ok(None),
        other => Ok(other),
    }
}
