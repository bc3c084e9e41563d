//! What the log must look like, whoever raced whom.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use broker::Record;
use domain::{ClaimRecord, Commit, EventRecord, Position};
use tests::http::Reply;

/// A log of events that has been checked: its sequences are contiguous, no record is there twice, every aggregate's
/// versions are contiguous and its records carry the hash of the one before.
#[derive(Debug)]
pub(crate) struct History {
    commits: BTreeMap<u64, Commit>,
    claims: Vec<ClaimRecord>,
}

impl History {
    /// Reads and checks a log.
    pub(crate) fn check(records: &[Record]) -> anyhow::Result<Self> {
        let (mut commits, mut claims) = (BTreeMap::new(), Vec::new());
        let mut ids = BTreeSet::new();
        let mut newest: BTreeMap<String, (u64, Vec<u8>)> = BTreeMap::new();
        for (record, sequence) in records.iter().zip(1..) {
            ensure!(
                record.sequence == sequence,
                "record {} stands at {sequence}",
                record.sequence
            );
            ensure!(
                ids.insert(&record.message_id),
                "{} is there twice",
                record.message_id
            );
            let subject = record.subject.as_str().to_owned();
            if subject.starts_with("uq.") {
                claims.push(ClaimRecord::decode(&record.payload)?);
                continue;
            }
            let commit = Commit::decode(&record.payload)?;
            let before = newest.get(&subject);
            let version = before.map_or(0, |(version, _)| *version);
            ensure!(
                commit.first_version == version + 1,
                "{subject}: version {} follows {version}",
                commit.first_version
            );
            ensure!(
                commit.prev.as_ref() == before.map(|(_, hash)| hash),
                "{subject}: the chain of hashes is broken at {sequence}"
            );
            newest.insert(subject, (commit.last_version(), Commit::hash(&record.payload)));
            commits.insert(sequence, commit);
        }
        Ok(Self { commits, claims })
    }

    /// The commit a successful answer names as its position.
    pub(crate) fn at(&self, answer: &Reply) -> anyhow::Result<&Commit> {
        let position: Position = answer.header("tidings-position").parse()?;
        self.commits
            .get(&position.sequence)
            .with_context(|| format!("there is no commit at {position}"))
    }

    /// Every event of a type, in the order of the log, with the aggregate it is of.
    pub(crate) fn events<'a>(
        &'a self,
        event_type: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a EventRecord)> {
        let all = self
            .commits
            .values()
            .flat_map(|commit| commit.events.iter().map(|event| (commit.id.as_str(), event)));
        all.filter(move |(_, event)| event.event_type == event_type)
    }

    /// Who holds which e-mail address in the end. On the way there, each was taken only while it was free and
    /// released only by its holder, and the records of claims tell the same.
    pub(crate) fn holders(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut holders = BTreeMap::new();
        for (sequence, commit) in &self.commits {
            for event in &commit.events {
                let text = |field: &str| event.data[field].as_str().map(str::to_lowercase);
                let (released, taken) = match event.event_type.as_str() {
                    "user.registered" => (None, text("email")),
                    "user.email_changed" => (text("from"), text("to")),
                    _ => continue,
                };
                if let Some(email) = released {
                    let holder = holders.remove(&email);
                    ensure!(
                        holder.as_ref() == Some(&commit.id),
                        "{email}, of {holder:?}, was released by {} at {sequence}",
                        commit.id
                    );
                }
                let email = taken.context("an address")?;
                if let Some(holder) = holders.insert(email.clone(), commit.id.clone()) {
                    anyhow::bail!("{email} was taken by {} at {sequence} from {holder}", commit.id);
                }
            }
        }
        self.claims_agree(&holders)?;
        Ok(holders)
    }

    /// Taken less released, per holder: the values of claims are hashes, so only their number can be compared.
    fn claims_agree(&self, holders: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let claims = self.claims.iter().filter(|claim| claim.kind == "email");
        let (taken, released): (Vec<_>, Vec<_>) = claims.partition(|claim| claim.holder.is_some());
        ensure!(
            taken.len() - released.len() == holders.len(),
            "{} claims taken, {} released, {} held",
            taken.len(),
            released.len(),
            holders.len()
        );
        Ok(())
    }
}

/// What the check is worth: a log with a loss, a double or a swap does not pass.
#[test]
fn a_damaged_history_is_found() -> anyhow::Result<()> {
    let mut records: Vec<Record> = Vec::new();
    for version in 1..=3 {
        let commit = Commit {
            v: Commit::VERSION,
            tenant: domain::TenantId::platform(),
            aggregate: "user".to_owned(),
            id: "u".to_owned(),
            first_version: version,
            events: vec![EventRecord {
                event_type: "user.renamed".to_owned(),
                schema: 1,
                data: serde_json::json!({}),
            }],
            meta: domain::Meta {
                command_id: version.to_string(),
                command: "UpdateUser".to_owned(),
                actor: domain::Actor::PlatformAdmin,
                request_id: None,
                origin: None,
                correlation_id: None,
                causation_id: None,
                traceparent: None,
                at: domain::Timestamp::from_millis(0),
            },
            prev: records.last().map(|record| Commit::hash(&record.payload)),
        };
        records.push(Record {
            sequence: version,
            subject: broker::Subject::new("ev.platform.user.u")?,
            message_id: version.to_string(),
            stored_at: std::time::SystemTime::UNIX_EPOCH,
            payload: commit.encode().into(),
        });
    }
    let renumbered = |order: &[usize]| -> Vec<Record> {
        let records = order.iter().zip(1..).map(|(index, sequence)| Record {
            sequence,
            message_id: format!("{sequence}"),
            ..records[*index].clone()
        });
        records.collect()
    };
    ensure!(History::check(&renumbered(&[0, 1, 2])).is_ok());
    for order in [[0, 2].as_slice(), &[1, 2], &[0, 1, 1], &[0, 2, 1], &[0, 1, 0]] {
        ensure!(History::check(&renumbered(order)).is_err(), "{order:?}");
    }
    ensure!(History::check(&records[1..]).is_err(), "a hole in the log");
    Ok(())
}
