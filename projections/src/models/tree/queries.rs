//! Reading a tree: its state, its leaves, and the subtrees that proofs are made of.

use domain::TenantId;
use domain::proof::{Frontier, Hash, Node, Outline, Stored};
use sqlx::any::AnyRow;

use super::NAME;
use crate::ReadModels;
use crate::page::{Answer, QueryError};
use crate::read_models::Query;
use crate::sql::{Statement, bytes, number, unreadable};

/// The lowest level above the leaves whose subtrees are kept.
const FIRST_LEVEL: u8 = 4;

/// A tree as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeState {
    /// How many leaves it has.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// The sequence of its last leaf in the log, 0 where it has none.
    pub last: u64,
}

/// A leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafRow {
    /// Which one, from 0.
    pub leaf: u64,
    /// Where its record stands in the log.
    pub sequence: u64,
    /// Its hash.
    pub hash: Hash,
}

impl LeafRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            leaf: number(row, "leaf")?,
            sequence: number(row, "sequence")?,
            hash: hash(row)?,
        })
    }
}

fn hash(row: &AnyRow) -> Result<Hash, sqlx::Error> {
    Hash::try_from(bytes(row, "hash")?.as_slice()).map_err(|error| unreadable("hash", error))
}

/// The tree over a tenant's records in one shard.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
    pub(crate) shard: u16,
}

impl Tree<'_> {
    /// The tree as it is at one moment, to ask several things of.
    pub async fn snapshot(&self) -> Result<TreeSnapshot, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let sql = format!(
            "SELECT size, last, frontier FROM {} WHERE tenant = $1 AND shard = $2",
            query.table("trees")
        );
        let select = Statement::new(sql).with(self.tenant.as_str()).with(self.shard);
        let rows = query.rows(select).await?;
        let state = match rows.first() {
            Some(row) => state(row)?,
            None => TreeState {
                size: 0,
                root: Hash::EMPTY,
                last: 0,
            },
        };
        Ok(TreeSnapshot {
            query,
            tenant: self.tenant.clone(),
            shard: self.shard,
            state,
        })
    }
}

fn state(row: &AnyRow) -> Result<TreeState, sqlx::Error> {
    let frontier = Frontier::from_bytes(number(row, "size")?, &bytes(row, "frontier")?)
        .map_err(|error| unreadable("frontier", error))?;
    Ok(TreeState {
        size: frontier.size(),
        root: frontier.root(),
        last: number(row, "last")?,
    })
}

/// A tree at one moment.
pub struct TreeSnapshot {
    query: Query,
    tenant: TenantId,
    shard: u16,
    state: TreeState,
}

impl TreeSnapshot {
    /// Its size, root and end.
    pub fn state(&self) -> TreeState {
        self.state
    }

    /// The leaf of the record at a sequence, if that is the tenant's.
    pub async fn leaf(&mut self, sequence: u64) -> Result<Option<LeafRow>, QueryError> {
        let mut select = self.select("tree_leaves", "leaf, sequence, hash");
        select.push(" AND sequence = ").bind(sequence);
        let rows = self.query.rows(select).await?;
        let leaf = rows.first().map(LeafRow::read).transpose()?;
        Ok(leaf.filter(|leaf| leaf.leaf < self.state.size))
    }

    /// Leaves in order, from one on to before another, at most so many and one at least if there is any.
    pub async fn leaves(&mut self, from: u64, until: u64, limit: u32) -> Result<Vec<LeafRow>, QueryError> {
        // Leaves are found by their sequences, and sequences by the subtree that ends before the wanted one.
        let block = from / Stored::CHILDREN;
        let limit = u64::from(limit) + from % Stored::CHILDREN;
        let mut rows = self.leaves_from(block, limit).await?;
        rows.retain(|leaf| (from..until).contains(&leaf.leaf));
        Ok(rows)
    }

    async fn leaves_from(&mut self, block: u64, limit: u64) -> Result<Vec<LeafRow>, QueryError> {
        let before = i64::try_from(block).unwrap_or(i64::MAX) - 1;
        let nodes = self.query.table("tree_nodes");
        let mut select = self.select("tree_leaves", "leaf, sequence, hash");
        // All of it within the subquery: row-level security lets PostgreSQL use no condition for an index that might tell
        // of rows it hides, and it takes COALESCE for one.
        select
            .push(" AND sequence > (SELECT COALESCE(max(last), 0) FROM ")
            .push(&nodes);
        select.push(" WHERE tenant = ").bind(self.tenant.as_str());
        select.push(" AND shard = ").bind(self.shard);
        select.push(" AND level = ").bind(u64::from(FIRST_LEVEL));
        select.push(" AND number = ").bind(before);
        select.push(") ORDER BY sequence LIMIT ").bind(limit);
        let rows = self.query.rows(select).await?;
        Ok(rows.iter().map(LeafRow::read).collect::<Result<_, _>>()?)
    }

    /// The kept subtrees that these proofs need.
    pub async fn subtrees(&mut self, outlines: &[&Outline]) -> Result<Stored, QueryError> {
        let mut stored = Stored::default();
        let groups = Stored::groups(outlines.iter().copied());
        let (leaves, nodes): (Vec<_>, Vec<_>) = groups.into_iter().partition(|(level, _)| *level == 0);
        for (_, block) in leaves {
            for leaf in self.leaves_from(block, Stored::CHILDREN).await? {
                let node = Node {
                    level: 0,
                    number: leaf.leaf,
                };
                stored.insert(node, leaf.hash);
            }
        }
        if nodes.is_empty() {
            return Ok(stored);
        }
        for row in self.query.rows(self.nodes(&nodes)).await? {
            let level: u64 = number(&row, "level")?;
            let node = Node {
                level: u8::try_from(level).map_err(|error| unreadable("level", error))?,
                number: number(&row, "number")?,
            };
            stored.insert(node, hash(&row)?);
        }
        Ok(stored)
    }

    /// Selects groups of subtrees: the children of one subtree each, in one statement that is a range of the key for
    /// each of them.
    fn nodes(&self, groups: &[(u8, u64)]) -> Statement {
        let table = self.query.table("tree_nodes");
        let mut select = Statement::new("");
        for (place, (level, parent)) in groups.iter().enumerate() {
            let first = parent * Stored::CHILDREN;
            if place > 0 {
                select.push(" UNION ALL ");
            }
            select.push("SELECT level, number, hash FROM ").push(&table);
            select.push(" WHERE tenant = ").bind(self.tenant.as_str());
            select.push(" AND shard = ").bind(self.shard);
            select.push(" AND level = ").bind(u64::from(*level));
            select.push(" AND number >= ").bind(first);
            select.push(" AND number < ").bind(first + Stored::CHILDREN);
        }
        select
    }

    fn select(&self, table: &str, columns: &str) -> Statement {
        let table = self.query.table(table);
        Statement::new(format!(
            "SELECT {columns} FROM {table} WHERE tenant = $1 AND shard = $2"
        ))
        .with(self.tenant.as_str())
        .with(self.shard)
    }

    /// Ends the reading with what it found.
    pub async fn answer<T>(self, data: T) -> Result<Answer<T>, QueryError> {
        self.query.answer(data).await
    }
}
