//! The Merkle tree over each tenant's records in the log: what checkpoints are signed over and proofs made of.
//!
//! Every record of a tenant is a leaf, claims of unique values too, in the order of the log. A tree is kept as its
//! frontier, from which it grows without reading anything else; its leaves; and its complete subtrees at every fourth
//! level ([`domain::proof::Stored`]), so that a proof in ten million records reads some two hundred rows.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use async_trait::async_trait;
use domain::Source;
use domain::proof::{Frontier, Hash, Leaf, Node, is_stored};

use crate::projection::{ApplyError, Incoming, Projection};
use crate::rows::Rows;
use crate::sql::{Value, unreadable};
use crate::table::{Column, Growth, Row, Table};

mod queries;

pub use queries::{LeafRow, Tree, TreeSnapshot, TreeState};

const NAME: &str = "tree";

/// A tree: its size, the sequence of its last leaf, and its frontier.
static TREES: Table = Table {
    name: "trees",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::int("shard"),
        Column::int("size"),
        Column::int("last"),
        Column::bytes("frontier"),
    ],
    growth: Growth::Kept,
};

/// Leaves by where they stand in the log.
static LEAVES: Table = Table {
    name: "tree_leaves",
    key: 3,
    columns: &[
        Column::text("tenant"),
        Column::int("shard"),
        Column::int("sequence"),
        Column::int("leaf"),
        Column::bytes("hash"),
    ],
    growth: Growth::Added,
};

/// Complete subtrees at every fourth level, each with the sequence of its last leaf.
static NODES: Table = Table {
    name: "tree_nodes",
    key: 4,
    columns: &[
        Column::text("tenant"),
        Column::int("shard"),
        Column::int("level"),
        Column::int("number"),
        Column::int("last"),
        Column::bytes("hash"),
    ],
    growth: Growth::Added,
};

/// The fold.
#[derive(Debug)]
pub(super) struct TreeProjection;

#[async_trait]
impl Projection for TreeProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        1
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Events]
    }

    fn tables(&self) -> &'static [&'static Table] {
        const { &[&TREES, &LEAVES, &NODES] }
    }

    /// What cannot be read is in the log nevertheless.
    fn verbatim(&self) -> bool {
        true
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        let mut trees = grown(batch, rows).await?;
        for incoming in batch {
            if let Some(tree) = trees.get_mut(&key_of(incoming)) {
                add(rows, incoming, tree);
            }
        }
        for ((tenant, shard), tree) in trees {
            let row = vec![
                tenant.into(),
                shard.into(),
                tree.frontier.size().into(),
                tree.last.into(),
                tree.frontier.to_bytes().into(),
            ];
            rows.put(&TREES, row);
        }
        Ok(())
    }
}

/// A tree while a batch is folded: its frontier, and the sequence of its last leaf.
struct Growing {
    frontier: Frontier,
    last: u64,
}

/// Whose tree a record is of.
fn key_of(incoming: &Incoming) -> (&str, u16) {
    (&incoming.tenant, incoming.position.shard)
}

/// The trees that a batch adds to, as they were before.
async fn grown<'b>(
    batch: &'b [Incoming],
    rows: &mut Rows<'_>,
) -> Result<HashMap<(&'b str, u16), Growing>, ApplyError> {
    let mut trees = HashMap::new();
    let row_key = |(tenant, shard): (&str, u16)| vec![tenant.into(), shard.into()];
    rows.load(&TREES, batch.iter().map(|incoming| row_key(key_of(incoming))))
        .await?;
    for incoming in batch {
        if let Entry::Vacant(tree) = trees.entry(key_of(incoming)) {
            let row = rows.get(&TREES, row_key(*tree.key())).await?;
            tree.insert(kept(row)?);
        }
    }
    Ok(trees)
}

/// The tree of a row; an empty one where there is none.
fn kept(row: Option<Row>) -> Result<Growing, ApplyError> {
    let Some(row) = row else {
        return Ok(Growing {
            frontier: Frontier::default(),
            last: 0,
        });
    };
    let frontier = TREES.get(&row, "frontier").and_then(Value::as_bytes);
    let size = TREES.int(&row, "size").unsigned_abs();
    let frontier = Frontier::from_bytes(size, frontier.unwrap_or_default())
        .map_err(|error| unreadable("frontier", error))?;
    Ok(Growing {
        frontier,
        last: TREES.int(&row, "last").unsigned_abs(),
    })
}

fn add(rows: &mut Rows<'_>, incoming: &Incoming, tree: &mut Growing) {
    let leaf = Leaf {
        position: incoming.position,
        subject: &incoming.subject,
        message_id: &incoming.message_id,
        payload: &incoming.payload,
    };
    // The broker stores nothing that is no leaf; somebody who put it there past the broker gets one that nothing
    // proves.
    let hash = leaf.hash().unwrap_or(Hash::EMPTY);
    let (tenant, shard) = key_of(incoming);
    let sequence = incoming.position.sequence;
    tree.last = sequence;
    tree.frontier.push(hash, |Node { level, number }, hash| {
        let hash = hash.as_bytes().to_vec().into();
        if level == 0 {
            let row = vec![tenant.into(), shard.into(), sequence.into(), number.into(), hash];
            rows.add(&LEAVES, row);
        } else if is_stored(level) {
            let level = i64::from(level).into();
            let row = vec![
                tenant.into(),
                shard.into(),
                level,
                number.into(),
                sequence.into(),
                hash,
            ];
            rows.add(&NODES, row);
        }
    });
}
