//! The comparison of a copy with the live model at one and the same position; and what was not compared, and why.

use std::collections::BTreeMap;
use std::time::Instant;

use domain::TenantId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::build::{Build, Ends};
use super::carry::Carried;
use super::steps::AGAIN;
use super::{Member, Rebuild, RebuildError};
use crate::cuts::Cuts;
use crate::engine::{Session, copies};
use crate::generations;
use crate::projection::{Portion, Share};
use crate::sql::Value;
use crate::table::{Row, Table};

/// How many tenants a difference names.
const NAMED: usize = 20;

/// What the live table says otherwise than the copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The projection.
    pub projection: String,
    /// Its table.
    pub table: String,
    /// How many rows the live table has.
    pub live: u64,
    /// How many the copy has, which is made of the log.
    pub rebuilt: u64,
    /// The tenants whose rows differ, at most 20 of them.
    pub tenants: Vec<String>,
}

/// What was not compared with the live model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCompared {
    /// The projection.
    pub projection: String,
    /// The table of which some or all rows were left out; none: nothing of the projection was compared.
    pub table: Option<String>,
    /// Why.
    pub reason: Unknown,
}

/// Why something was not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// There is no live model yet.
    NoLiveModel,
    /// The live model stands behind the copy and did not catch up in time.
    Behind,
    /// The log no longer has the records that made these rows: they were taken over from the live model as they were.
    Aged,
}

impl Unknown {
    /// The reason as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoLiveModel => "no_live_model",
            Self::Behind => "behind",
            Self::Aged => "aged",
        }
    }
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Findings {
    /// None where nothing could be compared.
    pub(super) differences: Option<Vec<Difference>>,
    pub(super) not_compared: Vec<NotCompared>,
}

/// The rows of a table, whatever their order: how many, and the sum of their hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Digest {
    rows: u64,
    sum: u128,
}

impl Digest {
    /// Counts a row of this hash.
    fn add(&mut self, hash: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }
}

/// The first half of the SHA-256 of a row's values, each after its type and length.
fn hash(row: &Row) -> u128 {
    let mut hasher = Sha256::new();
    let mut add = |kind: u8, bytes: &[u8]| {
        hasher.update([kind]);
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    for value in row {
        match value {
            Value::Text(Some(text)) => add(1, text.as_bytes()),
            Value::Int(Some(number)) => add(2, &number.to_be_bytes()),
            Value::Bytes(Some(bytes)) => add(3, bytes),
            Value::Text(None) | Value::Int(None) | Value::Bytes(None) => add(0, &[]),
        }
    }
    let whole = hasher.finalize();
    whole
        .iter()
        .take(16)
        .fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

/// Compares each member with its live generation.
pub(super) async fn run(
    rebuild: &Rebuild,
    build: &Build<'_>,
    members: &[Member],
    tenant: Option<&TenantId>,
    carried: &Carried,
) -> Result<Findings, RebuildError> {
    let mut findings = Findings::default();
    for (number, member) in members.iter().enumerate() {
        let hidden = carried.portions(member.projection.as_ref());
        let one = One {
            rebuild,
            member,
            tenant,
            hidden: &hidden,
        };
        let name = member.projection.name();
        match one.compare(build, number).await? {
            Ok(found) => {
                findings.differences.get_or_insert_default().extend(found);
                // A row that its record makes is made again wherever its record is still there.
                let hidden = hidden.iter().filter(|portion| portion.rows != Share::ByRecord);
                findings.not_compared.extend(hidden.map(|portion| NotCompared {
                    projection: name.to_owned(),
                    table: Some(portion.table.name.to_owned()),
                    reason: Unknown::Aged,
                }));
            }
            Err(reason) => findings.not_compared.push(NotCompared {
                projection: name.to_owned(),
                table: None,
                reason,
            }),
        }
    }
    Ok(findings)
}

/// The comparison of one member.
struct One<'o> {
    rebuild: &'o Rebuild,
    member: &'o Member,
    tenant: Option<&'o TenantId>,
    /// What both sides have from the same hand.
    hidden: &'o [Portion],
}

/// A table's digest, and those of its tenants.
type Looked = (Digest, ByTenant);

/// The live tables as of one moment.
struct LiveLook {
    ends: Ends,
    cuts: Cuts,
    tables: Vec<Looked>,
}

impl One<'_> {
    /// Looks at the live tables as of one moment, folds the copy exactly to where they stood, and looks at it then.
    async fn compare(
        &self,
        build: &Build<'_>,
        number: usize,
    ) -> Result<Result<Vec<Difference>, Unknown>, RebuildError> {
        let at = build.at(self.member).await?;
        let deadline = Instant::now() + self.rebuild.patience;
        let live = loop {
            match self.look(&at).await? {
                Ok(live) => break live,
                // The live model may have been made just now, and be on its way.
                Err(Unknown::Behind) if Instant::now() < deadline => {
                    build.going_on()?;
                    tokio::time::sleep(AGAIN).await;
                }
                Err(reason) => return Ok(Err(reason)),
            }
        };
        let LiveLook { ends, cuts, tables } = live;
        build.one_to(number, ends).await?;
        let projection = self.member.projection.as_ref();
        let mut session = self.rebuild.read_models.database.begin_snapshot().await?;
        let mut differences = Vec::new();
        for (table, (live, by_tenant)) in projection.tables().iter().zip(tables) {
            let generation = self.member.generation;
            let (rebuilt, of_copy) = self.digest(&mut session, table, (generation, &cuts)).await?;
            if live != rebuilt {
                differences.push(Difference {
                    projection: projection.name().to_owned(),
                    table: table.name.to_owned(),
                    live: live.rows,
                    rebuilt: rebuilt.rows,
                    tenants: differing(&by_tenant, &of_copy),
                });
            }
        }
        Ok(Ok(differences))
    }

    /// The live tables, unless they are behind where the copy is.
    async fn look(&self, at: &Ends) -> Result<Result<LiveLook, Unknown>, RebuildError> {
        let projection = self.member.projection.as_ref();
        let mut session = self.rebuild.read_models.database.begin_snapshot().await?;
        let Some(generation) = generations::live(&mut session, projection).await? else {
            return Ok(Err(Unknown::NoLiveModel));
        };
        let ends = generations::live_sequences(&mut session, projection).await?;
        let stands = |log| ends.get(log).copied().unwrap_or_default();
        if at.iter().any(|(log, at)| *at > stands(log)) {
            return Ok(Err(Unknown::Behind));
        }
        let generations = [generation, self.member.generation];
        let mut cuts = Cuts::default();
        cuts.add(&mut session, projection, &generations).await?;
        let mut tables = Vec::new();
        for table in projection.tables() {
            tables.push(self.digest(&mut session, table, (generation, &cuts)).await?);
        }
        Ok(Ok(LiveLook { ends, cuts, tables }))
    }

    async fn digest(
        &self,
        session: &mut Session,
        table: &Table,
        (generation, cuts): (i64, &Cuts),
    ) -> Result<Looked, sqlx::Error> {
        let (mut all, mut by_tenant) = (Digest::default(), ByTenant::new());
        let suffix = copies::suffix(generation);
        let tenant = self.tenant.map(TenantId::as_str);
        session
            .each(table, &suffix, tenant, |row| {
                if !cuts.keep(table, &row) || self.hidden.iter().any(|portion| portion.hides(table, &row)) {
                    return;
                }
                let hash = hash(&row);
                all.add(hash);
                let of = row.first().and_then(Value::as_text).unwrap_or_default();
                if let Some(digest) = by_tenant.get_mut(of) {
                    digest.add(hash);
                } else if by_tenant.len() < TENANTS {
                    let mut digest = Digest::default();
                    digest.add(hash);
                    by_tenant.insert(of.to_owned(), digest);
                }
            })
            .await?;
        Ok((all, by_tenant))
    }
}

type ByTenant = BTreeMap<String, Digest>;

/// How many tenants are told apart; beyond that only the whole is compared.
const TENANTS: usize = 100_000;

fn differing(live: &ByTenant, rebuilt: &ByTenant) -> Vec<String> {
    let mut tenants: Vec<String> = live
        .iter()
        .filter(|(tenant, digest)| rebuilt.get(*tenant) != Some(digest))
        .map(|(tenant, _)| tenant.clone())
        .collect();
    tenants.extend(
        rebuilt
            .keys()
            .filter(|tenant| !live.contains_key(*tenant))
            .cloned(),
    );
    tenants.sort();
    tenants.truncate(NAMED);
    tenants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_rows_does_not_matter_and_their_values_do() {
        let rows: [Row; 3] = [
            vec!["a".into(), 1_i64.into()],
            vec!["b".into(), Value::Int(None)],
            vec!["ab".into(), 1_i64.into()],
        ];
        let of = |order: &[usize]| {
            let mut digest = Digest::default();
            for place in order {
                digest.add(hash(&rows[*place]));
            }
            digest
        };
        assert_eq!(of(&[0, 1, 2]), of(&[2, 0, 1]));
        assert_ne!(of(&[0, 1]), of(&[0, 2]));
        assert_ne!(of(&[0]), of(&[0, 0]));
    }
}
