//! Gathers what a run has left: the logs, what queries list, what came to the receiver.

use std::fmt::Write as _;

use anyhow::Context as _;
use broker::Record;
use broker::layout::Log;
use domain::{Commit, Message};
use serde_json::Value;

use super::client::mark;
use super::evidence::{Evidence, Fact, Mentions, Stored, User, Versions, Webhook};
use super::history::{Kind, Recorder};
use super::world::{Tenant, World};
use crate::http::Api;
use crate::receiver::Received;

/// What the message id of a record ends with that a case wrote, and that nobody can read.
pub(crate) const PLANTED: &str = "planted";
/// How many rows a page has.
const PAGE: usize = 200;
/// What else a tenant can read, beside users and events.
const READABLE: [&str; 3] = ["/v1/audit", "/v1/deliveries", "/v1/endpoints"];

/// Tenants whose values stand in some bytes.
fn mentions(bytes: &[u8], tenants: &[Tenant]) -> Vec<String> {
    let holds = |tenant: &&Tenant| {
        let mark = mark(&tenant.label);
        bytes.windows(mark.len()).any(|window| window == mark.as_bytes())
    };
    tenants
        .iter()
        .filter(holds)
        .map(|tenant| tenant.label.clone())
        .collect()
}

/// The records of a log.
pub(crate) fn stored(log: Log, records: &[Record], tenants: &[Tenant]) -> anyhow::Result<Vec<Stored>> {
    let read = |record: &Record| {
        let subject = record.subject.as_str();
        let id = subject.split('.').nth(1).unwrap_or_default();
        let owner = tenants.iter().find(|tenant| tenant.id == id);
        let (commit, facts) = match subject.split('.').next() {
            _ if record.message_id.ends_with(PLANTED) => (None, Vec::new()),
            Some("ev") => {
                let commit = Commit::decode(&record.payload)?;
                let versions = Versions {
                    aggregate: subject.to_owned(),
                    first: commit.first_version,
                    last: commit.last_version(),
                    hash: hexadecimal(&Commit::hash(&record.payload)),
                    previous: commit.prev.as_deref().map(hexadecimal),
                };
                (Some(versions), committed(&commit))
            }
            Some("msg") => (None, vec![published(&Message::decode(&record.payload)?)?]),
            _ => (None, Vec::new()),
        };
        anyhow::Ok(Stored {
            log: log.name(),
            sequence: record.sequence,
            tenant: owner.map(|tenant| tenant.label.clone()),
            commit,
            facts,
            mentions: mentions(&record.payload, tenants),
        })
    };
    records
        .iter()
        .map(|record| read(record).with_context(|| format!("record {} of {log}", record.sequence)))
        .collect()
}

fn committed(commit: &Commit) -> Vec<Fact> {
    let facts = commit.events.iter().filter_map(|event| {
        let (kind, value) = match event.event_type.as_str() {
            "user.registered" => (Kind::Register, before_at(event.data["email"].as_str()?)),
            "user.renamed" => (Kind::Rename, event.data["to"].as_str()?),
            _ => return None,
        };
        Some(Fact {
            kind,
            id: commit.id.clone(),
            value: value.to_owned(),
        })
    });
    facts.collect()
}

fn published(message: &Message) -> anyhow::Result<Fact> {
    let data: Value = serde_json::from_slice(&message.data)?;
    Ok(Fact {
        kind: Kind::Publish,
        id: message.id.to_string(),
        value: data["value"]
            .as_str()
            .context("an event without a value")?
            .to_owned(),
    })
}

fn before_at(address: &str) -> &str {
    address.split('@').next().unwrap_or_default()
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").ok();
    }
    text
}

/// What a tenant can read.
#[derive(Debug, Default)]
pub(crate) struct Readable {
    pub(crate) users: Vec<User>,
    pub(crate) events: Vec<(String, String)>,
    pub(crate) read: Vec<Mentions>,
}

/// Everything that queries list of every tenant.
pub(crate) async fn queried(world: &World, evidence: &mut Evidence) -> anyhow::Result<()> {
    for tenant in &world.tenants {
        let api = world.service.tenant(&tenant.key)?;
        let readable = readable(&api, tenant, &world.tenants).await?;
        evidence.users.extend(readable.users);
        evidence.events.extend(readable.events);
        evidence.read.extend(readable.read);
    }
    Ok(())
}

/// Reads everything that one tenant can.
pub(crate) async fn readable(api: &Api, tenant: &Tenant, tenants: &[Tenant]) -> anyhow::Result<Readable> {
    let mut all = Readable::default();
    let text = |row: &Value, field: &str| -> anyhow::Result<String> {
        let text = row[field].as_str();
        Ok(text
            .with_context(|| format!("{field} is missing in {row}"))?
            .to_owned())
    };
    for row in list(api, "/v1/users", tenant, tenants, &mut all.read).await? {
        all.users.push(User {
            tenant: tenant.label.clone(),
            id: text(&row, "id")?,
            email: before_at(&text(&row, "email")?).to_owned(),
            name: text(&row, "name")?,
        });
    }
    for row in list(api, "/v1/events", tenant, tenants, &mut all.read).await? {
        all.events.push((tenant.label.clone(), text(&row, "id")?));
    }
    for path in READABLE {
        list(api, path, tenant, tenants, &mut all.read).await?;
    }
    Ok(all)
}

/// Every row of a list, and whose values stand in its pages.
async fn list(
    api: &Api,
    path: &str,
    tenant: &Tenant,
    tenants: &[Tenant],
    read: &mut Vec<Mentions>,
) -> anyhow::Result<Vec<Value>> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("{path}?limit={PAGE}{cursor}")).await?;
        read.push(Mentions {
            tenant: tenant.label.clone(),
            what: path.to_owned(),
            of: mentions(&page.body, tenants),
        });
        let body = page.expect(200)?;
        rows.extend(body["data"].as_array().context("data")?.iter().cloned());
        match body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(rows),
        }
    }
}

/// What came to the receiver.
pub(crate) fn received(all: &[Received], tenants: &[Tenant], recorder: &Recorder) -> Vec<Webhook> {
    let read = |received: &Received| {
        let owner = tenants.iter().find(|tenant| tenant.path() == received.path);
        let body = received.json().unwrap_or_default();
        Webhook {
            tenant: owner.map_or_else(|| received.path.clone(), |tenant| tenant.label.clone()),
            at: recorder.since(received.at),
            id: received.webhook_id().to_owned(),
            value: body["data"]["value"].as_str().unwrap_or_default().to_owned(),
            genuine: owner.is_some_and(|tenant| received.was_genuine(&tenant.secret).is_ok()),
            mentions: mentions(&received.body, tenants),
        }
    };
    all.iter().map(read).collect()
}
