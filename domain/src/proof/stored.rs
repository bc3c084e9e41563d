//! The few subtrees that are kept, and the others made from them.
//!
//! Leaves are kept, and of the complete subtrees those at every fourth level: one row more for every fifteen leaves.
//! Any other is then at most eight hashes away, and a proof in a tree of ten million leaves reads some two hundred.

use std::collections::{BTreeSet, HashMap};

use super::outline::Outline;
use super::tree::{Hash, Node};

/// Of so many levels, one is kept.
const STRIDE: u8 = 4;

/// Whether a subtree of this level is kept.
pub fn is_stored(level: u8) -> bool {
    level.is_multiple_of(STRIDE)
}

/// Subtrees as they were read back.
#[derive(Debug, Clone, Default)]
pub struct Stored(HashMap<Node, Hash>);

impl Stored {
    /// How many children a kept subtree has that are kept themselves.
    pub const CHILDREN: u64 = 1 << STRIDE;

    /// The kept subtrees that these proofs need, as groups of [`Stored::CHILDREN`]: each is told by its level and the
    /// number of the subtree above it, whose kept children are read together.
    pub fn groups<'o>(outlines: impl IntoIterator<Item = &'o Outline>) -> BTreeSet<(u8, u64)> {
        let nodes = outlines.into_iter().flat_map(Outline::nodes);
        let groups = nodes.map(|node| {
            let below = node.level % STRIDE;
            // All children of one subtree below its next kept level stand in one group.
            (node.level - below, node.number >> (STRIDE - below))
        });
        groups.collect()
    }

    /// Notes one that was read.
    pub fn insert(&mut self, node: Node, hash: Hash) {
        self.0.insert(node, hash);
    }

    /// The hash of any complete subtree; none where what it is made of was not read.
    pub fn hash(&self, node: Node) -> Option<Hash> {
        if is_stored(node.level) {
            return self.0.get(&node).copied();
        }
        let child = |number| {
            self.hash(Node {
                level: node.level - 1,
                number,
            })
        };
        Some(Hash::of_node(
            &child(node.number * 2)?,
            &child(node.number * 2 + 1)?,
        ))
    }

    /// A proof's hashes; none where something it needs was not read.
    pub fn prove(&self, outline: &Outline) -> Option<Vec<Hash>> {
        outline.hashes(|node| self.hash(node))
    }

    /// The root of the tree of `size` leaves; none where something it needs was not read.
    pub fn root(&self, size: u64) -> Option<Hash> {
        match Outline::root(size) {
            None => Some(Hash::EMPTY),
            Some(outline) => self.prove(&outline)?.pop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proof::Frontier;
    use crate::proof::testing::{leaves, naive_consistency, naive_path, naive_root};

    /// What would be kept of a tree, cut down to the groups asked for.
    fn read(leaves: &[Hash], outlines: &[&Outline]) -> Stored {
        let (mut tree, mut stored) = (Frontier::default(), Stored::default());
        let groups = Stored::groups(outlines.iter().copied());
        for leaf in leaves {
            tree.push(*leaf, |node, hash| {
                if is_stored(node.level) && groups.contains(&(node.level, node.number / Stored::CHILDREN)) {
                    stored.insert(node, hash);
                }
            });
        }
        stored
    }

    proptest! {
        #[test]
        fn the_groups_named_are_all_a_proof_needs(size in 1_usize..1_200, chance in 0_usize..1_200) {
            let leaves = leaves(size);
            let (index, old) = (chance % size, chance % size + 1);
            let inclusion = Outline::inclusion(index as u64, size as u64).unwrap();
            let consistency = Outline::consistency(old as u64, size as u64).unwrap();
            let root = Outline::root(old as u64).unwrap();
            prop_assert_eq!(read(&leaves, &[&inclusion]).prove(&inclusion), Some(naive_path(index, &leaves)));
            prop_assert_eq!(
                read(&leaves, &[&consistency]).prove(&consistency),
                Some(naive_consistency(old, &leaves, true))
            );
            prop_assert_eq!(read(&leaves, &[&root]).root(old as u64), Some(naive_root(&leaves[..old])));
        }
    }

    #[test]
    fn a_proof_reads_little_of_a_large_tree() {
        let size = 10_000_000;
        for index in [0, 1, 4_999_999, 8_388_607, 8_388_608, size - 1] {
            let outlines = [
                Outline::inclusion(index, size).unwrap(),
                Outline::root(size).unwrap(),
            ];
            let groups = Stored::groups(&outlines).len() as u64;
            assert!(groups * Stored::CHILDREN <= 256, "{index}: {groups} groups");
        }
    }

    #[test]
    fn what_was_not_read_is_not_made_up() {
        let outline = Outline::inclusion(3, 40).unwrap();
        assert_eq!(Stored::default().prove(&outline), None);
        assert_eq!(Stored::default().root(0), Some(Hash::EMPTY));
        assert_eq!(Stored::default().root(1), None);
    }
}
