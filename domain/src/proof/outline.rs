//! Which subtrees a proof consists of.
//!
//! A proof is a list of hashes, each the root of a run of leaves. RFC 6962 §2.1 cuts such runs at the largest power
//! of two, so each is a row of complete subtrees, from the largest to the smallest.

use super::tree::{Hash, Node};

/// The runs of leaves whose roots make up a proof, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    runs: Vec<Vec<Node>>,
}

impl Outline {
    /// Of the proof that leaf `index` is in the tree of `size` leaves (RFC 6962 §2.1.1); none where it is not.
    pub fn inclusion(index: u64, size: u64) -> Option<Self> {
        if index >= size {
            return None;
        }
        let (mut low, mut high, mut runs) = (0, size, Vec::new());
        while high - low > 1 {
            let middle = low + split(high - low);
            if index < middle {
                runs.push(complete(middle, high));
                high = middle;
            } else {
                runs.push(complete(low, middle));
                low = middle;
            }
        }
        runs.reverse();
        Some(Self { runs })
    }

    /// Of the proof that the tree of `new` leaves begins with the tree of the `old` ones (RFC 6962 §2.1.2); none
    /// unless `0 < old <= new`.
    pub fn consistency(old: u64, new: u64) -> Option<Self> {
        if old == 0 || old > new {
            return None;
        }
        let (mut low, mut high, mut runs) = (0, new, Vec::new());
        while old < high {
            let middle = low + split(high - low);
            if old <= middle {
                runs.push(complete(middle, high));
                high = middle;
            } else {
                runs.push(complete(low, middle));
                low = middle;
            }
        }
        // Who verifies knows the old root already.
        if low > 0 {
            runs.push(complete(low, high));
        }
        runs.reverse();
        Some(Self { runs })
    }

    /// Of the root of the tree of `size` leaves, one at least.
    pub fn root(size: u64) -> Option<Self> {
        (size > 0).then(|| Self {
            runs: vec![complete(0, size)],
        })
    }

    /// The subtrees whose hashes it needs.
    pub fn nodes(&self) -> impl Iterator<Item = Node> {
        self.runs.iter().flatten().copied()
    }

    /// The proof's hashes; `hash` tells those of subtrees, and none where one is not known.
    pub fn hashes(&self, hash: impl Fn(Node) -> Option<Hash>) -> Option<Vec<Hash>> {
        let root = |run: &Vec<Node>| {
            let mut right: Option<Hash> = None;
            for node in run.iter().rev() {
                let left = hash(*node)?;
                right = Some(right.map_or(left, |right| Hash::of_node(&left, &right)));
            }
            right
        };
        self.runs.iter().map(root).collect()
    }
}

/// The largest power of two below a size of at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The run of leaves from `low` to before `high` as complete subtrees, the largest first. Where RFC 6962 cuts, `low`
/// is a multiple of each.
fn complete(mut low: u64, high: u64) -> Vec<Node> {
    let mut nodes = Vec::new();
    while low < high {
        let level = (high - low).ilog2();
        nodes.push(Node {
            level: u8::try_from(level).unwrap_or(u8::MAX),
            number: low >> level,
        });
        low += 1 << level;
    }
    nodes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proof::testing::{hex, leaves, naive_consistency, naive_path, naive_root, reference};

    fn lookup(leaves: &[Hash]) -> impl Fn(Node) -> Option<Hash> {
        |node| {
            let start = usize::try_from(node.number << node.level).ok()?;
            leaves.get(start..start + (1 << node.level)).map(naive_root)
        }
    }

    #[test]
    fn the_reference_proofs_come_out() {
        let (data, _) = reference();
        let leaves: Vec<_> = data.iter().map(|data| Hash::of_leaf(data)).collect();
        let prove = |outline: Option<Outline>| -> Vec<String> {
            let hashes = outline.unwrap().hashes(lookup(&leaves)).unwrap();
            hashes.iter().map(hex).collect()
        };
        assert!(prove(Outline::inclusion(0, 1)).is_empty());
        assert_eq!(
            prove(Outline::inclusion(0, 8)),
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ]
        );
        assert_eq!(
            prove(Outline::inclusion(5, 8)),
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
        assert_eq!(
            prove(Outline::consistency(6, 8)),
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
    }

    proptest! {
        #[test]
        fn proofs_are_those_the_definition_gives(size in 1_usize..200, chance in 0_usize..200) {
            let leaves = leaves(size);
            let (index, old) = (chance % size, chance % size + 1);
            let prove = |outline: Option<Outline>| outline.unwrap().hashes(lookup(&leaves)).unwrap();
            prop_assert_eq!(prove(Outline::inclusion(index as u64, size as u64)), naive_path(index, &leaves));
            prop_assert_eq!(
                prove(Outline::consistency(old as u64, size as u64)),
                naive_consistency(old, &leaves, true)
            );
            prop_assert_eq!(prove(Outline::root(size as u64)), vec![naive_root(&leaves)]);
        }
    }

    #[test]
    fn what_is_not_in_the_tree_has_no_proof() {
        assert_eq!(Outline::inclusion(3, 3), None);
        assert_eq!(Outline::consistency(0, 3), None);
        assert_eq!(Outline::consistency(4, 3), None);
        assert_eq!(Outline::root(0), None);
        assert!(Outline::inclusion(u64::MAX - 1, u64::MAX).is_some());
    }
}
