//! Hashes of the tree, and the frontier from which it grows.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A text that is not a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 32 bytes in base64")]
pub struct InvalidHash;

/// A hash of the tree: SHA-256 over what RFC 6962 §2.1 puts before it. In text: base64 (RFC 4648 §4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    /// The root of the tree without leaves: the hash of nothing.
    pub const EMPTY: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
        0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ]);

    /// The hash of a leaf: of `0x00` and its data.
    pub fn of_leaf(data: &[u8]) -> Self {
        Self(
            Sha256::new()
                .chain_update([0])
                .chain_update(data)
                .finalize()
                .into(),
        )
    }

    /// The hash of an inner node: of `0x01` and the hashes under it.
    pub fn of_node(left: &Self, right: &Self) -> Self {
        let node = Sha256::new()
            .chain_update([1])
            .chain_update(left.0)
            .chain_update(right.0);
        Self(node.finalize().into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for Hash {
    type Error = InvalidHash;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidHash> {
        bytes.try_into().map(Self).map_err(|_| InvalidHash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidHash)?;
        Self::try_from(bytes.as_slice())
    }
}

impl TryFrom<String> for Hash {
    type Error = InvalidHash;

    fn try_from(text: String) -> Result<Self, InvalidHash> {
        text.parse()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// A complete subtree: that of the leaves from `number << level` on, `1 << level` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// How high it is; a leaf is at level 0.
    pub level: u8,
    /// Which of its level, from 0.
    pub number: u64,
}

/// A frontier that was not written by [`Frontier::to_bytes`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not the frontier of a tree of {size} leaves")]
pub struct InvalidFrontier {
    /// The size it was said to have.
    pub size: u64,
}

/// All that a tree needs to grow and to tell its root: its complete subtrees, the largest first, one for each 1 in
/// the binary form of its size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    hashes: Vec<Hash>,
}

impl Frontier {
    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf, and tells each subtree that it completes, the leaf itself first.
    pub fn push(&mut self, leaf: Hash, mut completed: impl FnMut(Node, Hash)) {
        let (mut hash, mut number, mut level) = (leaf, self.size, 0);
        completed(Node { level, number }, hash);
        while number & 1 == 1 {
            let Some(left) = self.hashes.pop() else { break };
            hash = Hash::of_node(&left, &hash);
            number >>= 1;
            level += 1;
            completed(Node { level, number }, hash);
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// The root of the tree as it is.
    pub fn root(&self) -> Hash {
        let mut hashes = self.hashes.iter().rev();
        let Some(smallest) = hashes.next() else {
            return Hash::EMPTY;
        };
        hashes.fold(*smallest, |right, left| Hash::of_node(left, &right))
    }

    /// Its hashes one after the other, to be kept with the size.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.iter().flat_map(Hash::as_bytes).copied().collect()
    }

    /// Reads them back.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Result<Self, InvalidFrontier> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || hashes.len() != size.count_ones() as usize {
            return Err(InvalidFrontier { size });
        }
        Ok(Self {
            size,
            hashes: hashes.iter().copied().map(Hash).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proof::testing::{hex, leaves, naive_root, reference};

    #[test]
    fn the_reference_trees_have_their_roots() {
        assert_eq!(Frontier::default().root(), Hash::EMPTY);
        assert_eq!(Hash::EMPTY.as_bytes(), &<[u8; 32]>::from(Sha256::digest([])));
        let (leaves, roots) = reference();
        let mut tree = Frontier::default();
        for (leaf, root) in leaves.iter().zip(roots) {
            tree.push(Hash::of_leaf(leaf), |_, _| {});
            assert_eq!(hex(&tree.root()), root, "of {} leaves", tree.size());
        }
    }

    proptest! {
        #[test]
        fn a_tree_grows_into_what_all_its_leaves_give(count in 0_usize..300) {
            let leaves = leaves(count);
            let mut tree = Frontier::default();
            for leaf in &leaves {
                tree.push(*leaf, |node, hash| {
                    let start = usize::try_from(node.number << node.level).unwrap();
                    assert_eq!(hash, naive_root(&leaves[start..start + (1 << node.level)]));
                });
                // What is kept between two leaves is enough to go on.
                tree = Frontier::from_bytes(tree.size(), &tree.to_bytes()).unwrap();
            }
            prop_assert_eq!(tree.root(), naive_root(&leaves));
        }
    }

    #[test]
    fn a_frontier_of_another_size_is_refused() {
        let mut tree = Frontier::default();
        for leaf in leaves(5) {
            tree.push(leaf, |_, _| {});
        }
        let bytes = tree.to_bytes();
        assert!(Frontier::from_bytes(5, &bytes).is_ok());
        assert!(Frontier::from_bytes(7, &bytes).is_err());
        assert!(Frontier::from_bytes(5, &bytes[1..]).is_err());
    }

    #[test]
    fn a_hash_reads_as_it_prints() {
        let hash = Hash::of_leaf(b"x");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for text in ["", "AAAA", "not base64!"] {
            assert_eq!(text.parse::<Hash>(), Err(InvalidHash));
        }
    }
}
