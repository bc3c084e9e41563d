//! Checking proofs, by the algorithms of RFC 9162 (§2.1.3.2 and §2.1.4.2), which are those of RFC 6962's trees.

use super::tree::Hash;

/// Whether `proof` shows that `leaf` is the hash of leaf `index` of the tree of `size` leaves with this root.
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, proof: &[Hash], root: Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut place, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = Hash::of_node(sibling, &hash);
            (place, last) = up_to_right_child(place, last);
        } else {
            hash = Hash::of_node(&hash, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// Whether `proof` shows that the tree of `new` leaves with root `new_root` begins with that of the `old` leaves with
/// root `old_root`. The tree without leaves begins every other, and needs no proof.
pub fn verify_consistency(old: u64, old_root: Hash, new: u64, new_root: Hash, proof: &[Hash]) -> bool {
    if old == 0 || old >= new {
        let same = old == new && old_root == new_root;
        return proof.is_empty() && (same || (old == 0 && new > 0 && old_root == Hash::EMPTY));
    }
    let (mut place, mut last) = (old - 1, new - 1);
    let level = place.trailing_ones();
    place >>= level;
    last >>= level;
    let mut proof = proof.iter();
    let first = if old.is_power_of_two() {
        Some(&old_root)
    } else {
        proof.next()
    };
    let Some(first) = first else { return false };
    let (mut before, mut after) = (*first, *first);
    let mut hashes = 0;
    for hash in proof {
        hashes += 1;
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            before = Hash::of_node(hash, &before);
            after = Hash::of_node(hash, &after);
            (place, last) = up_to_right_child(place, last);
        } else {
            after = Hash::of_node(&after, hash);
        }
        place >>= 1;
        last >>= 1;
    }
    hashes > 0 && last == 0 && before == old_root && after == new_root
}

/// Past the levels at which a place has no sibling: up until it is a right child, or the first of its level.
fn up_to_right_child(place: u64, last: u64) -> (u64, u64) {
    if place == 0 {
        return (place, last);
    }
    let levels = place.trailing_zeros();
    (place >> levels, last >> levels)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proof::testing::{leaves, naive_consistency, naive_path, naive_root};

    proptest! {
        #[test]
        fn true_proofs_are_believed_and_others_are_not(
            size in 1_usize..200, chance in 0_usize..200, spoil in 0_usize..200,
        ) {
            let leaves = leaves(size);
            let root = naive_root(&leaves);
            let index = chance % size;
            let mut path = naive_path(index, &leaves);
            let included = |leaf: usize, index: usize, size: usize, path: &[Hash]| {
                verify_inclusion(leaves[leaf], index as u64, size as u64, path, root)
            };
            prop_assert!(included(index, index, size, &path));
            let other = spoil % size;
            if other != index {
                prop_assert!(!included(other, index, size, &path));
                prop_assert!(!included(index, other, size, &path));
            }
            prop_assert!(!included(index, index, size, &[path.as_slice(), &[root]].concat()));
            if !path.is_empty() {
                prop_assert!(!included(index, index, size, &path[1..]));
                let spoiled = spoil % path.len();
                path[spoiled] = Hash::of_leaf(b"another");
                prop_assert!(!included(index, index, size, &path));
            }
        }

        #[test]
        fn a_tree_that_only_grew_is_told_from_one_that_changed(
            size in 1_usize..200, chance in 0_usize..200, spoil in 0_usize..200,
        ) {
            let leaves = leaves(size);
            let old = chance % size + 1;
            let (old_root, new_root) = (naive_root(&leaves[..old]), naive_root(&leaves));
            let mut proof = naive_consistency(old, &leaves, true);
            let consistent = |old_root: Hash, new_root: Hash, proof: &[Hash]| {
                verify_consistency(old as u64, old_root, size as u64, new_root, proof)
            };
            prop_assert!(consistent(old_root, new_root, &proof));
            let mut changed = leaves.clone();
            changed[spoil % old] = Hash::of_leaf(b"another");
            prop_assert!(!consistent(naive_root(&changed[..old]), new_root, &proof));
            prop_assert!(!consistent(old_root, naive_root(&changed), &proof));
            let rewritten = naive_consistency(old, &changed, true);
            prop_assert!(!consistent(old_root, naive_root(&changed), &rewritten));
            if !proof.is_empty() {
                prop_assert!(!consistent(old_root, new_root, &proof[1..]));
                let spoiled = spoil % proof.len();
                proof[spoiled] = Hash::of_leaf(b"another");
                prop_assert!(!consistent(old_root, new_root, &proof));
            }
        }
    }

    #[test]
    fn the_empty_tree_begins_every_other() {
        let root = naive_root(&leaves(3));
        assert!(verify_consistency(0, Hash::EMPTY, 3, root, &[]));
        assert!(verify_consistency(0, Hash::EMPTY, 0, Hash::EMPTY, &[]));
        assert!(!verify_consistency(0, root, 3, root, &[]));
        assert!(!verify_consistency(3, root, 0, Hash::EMPTY, &[]));
        assert!(!verify_consistency(3, root, 2, root, &[]));
        assert!(!verify_inclusion(root, 0, 0, &[], Hash::EMPTY));
    }
}
