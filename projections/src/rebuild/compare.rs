//! The comparison of a copy with the live model at one and the same position.

use std::collections::BTreeMap;

use domain::TenantId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::build::Build;
use super::{Member, Rebuild, RebuildError};
use crate::engine::{Session, copies};
use crate::generations;
use crate::models::retention::{self, Cuts};
use crate::projection::Projection;
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

/// Compares each member with its live generation; none where no member has one.
pub(super) async fn run(
    rebuild: &Rebuild,
    build: &Build<'_>,
    members: &[Member],
    tenant: Option<&TenantId>,
) -> Result<Option<Vec<Difference>>, RebuildError> {
    let (mut differences, mut compared) = (Vec::new(), false);
    for member in members {
        if let Some(found) = one(rebuild, build, member, tenant).await? {
            compared = true;
            differences.extend(found);
        }
    }
    Ok(compared.then_some(differences))
}

/// Looks at the live tables as of one moment, folds the copy exactly to where they stood, and looks at it then.
///
/// The copy never stands further than the live model here, since it was built up to where that stood.
async fn one(
    rebuild: &Rebuild,
    build: &Build<'_>,
    member: &Member,
    tenant: Option<&TenantId>,
) -> Result<Option<Vec<Difference>>, RebuildError> {
    let database = &rebuild.read_models.database;
    let projection = member.projection.as_ref();
    let mut session = database.begin_snapshot().await?;
    let Some(generation) = generations::live(&mut session, projection).await? else {
        return Ok(None);
    };
    let ends = generations::live_sequences(&mut session, projection).await?;
    for (log, end) in &ends {
        if build.at(*log).await?.is_some_and(|at| at > *end) {
            return Ok(None);
        }
    }
    let cuts = cuts(&mut session, projection, &[generation, member.generation]).await?;
    let mut live = Vec::new();
    for table in projection.tables() {
        live.push(digest(&mut session, table, (generation, &cuts), tenant).await?);
    }
    drop(session);
    build.to(&ends.into_iter().collect()).await?;
    let mut session = database.begin_snapshot().await?;
    let mut differences = Vec::new();
    for (table, (live, by_tenant)) in projection.tables().iter().zip(live) {
        let (rebuilt, of_copy) = digest(&mut session, table, (member.generation, &cuts), tenant).await?;
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
    Ok(Some(differences))
}

/// What may be missing on one side because it was removed, by a setting and the clock.
async fn cuts(
    session: &mut Session,
    projection: &dyn Projection,
    generations: &[i64],
) -> Result<Cuts, sqlx::Error> {
    match projection.name() {
        "audit" => retention::cuts(session, generations).await,
        _ => Ok(Cuts::default()),
    }
}

type ByTenant = BTreeMap<String, Digest>;

/// How many tenants are told apart; beyond that only the whole is compared.
const TENANTS: usize = 100_000;

async fn digest(
    session: &mut Session,
    table: &Table,
    (generation, cuts): (i64, &Cuts),
    tenant: Option<&TenantId>,
) -> Result<(Digest, ByTenant), sqlx::Error> {
    let (mut all, mut by_tenant) = (Digest::default(), ByTenant::new());
    let suffix = copies::suffix(generation);
    let tenant = tenant.map(TenantId::as_str);
    session
        .each(table, &suffix, tenant, |row| {
            if !cuts.keep(table, &row) {
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
