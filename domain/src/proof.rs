//! Proofs about a log: a Merkle tree over the records of a tenant, and signed statements of its state.
//!
//! Whoever keeps one [`Checkpoint`] can tell later whether a record is the one that stood at its place then
//! ([`verify_inclusion`]), and whether a later state only added to that one ([`verify_consistency`]). Nothing but
//! SHA-256 and Ed25519 is trusted, least of all the service.
//!
//! * [`Leaf`] is what of a record is hashed; [`Hash`] and [`Frontier`] make the tree of RFC 6962 (§2.1).
//! * [`Outline`] names the subtrees a proof consists of; [`Stored`] takes them from the few that are kept.
//! * [`Signer`] and [`Verifier`] make and check signed notes (<https://c2sp.org/signed-note>), [`Checkpoint`] their
//!   text (<https://c2sp.org/tlog-checkpoint>).

mod checkpoint;
mod leaf;
mod note;
mod outline;
mod stored;
mod tree;
mod verify;

pub use checkpoint::{Checkpoint, InvalidCheckpoint, Unopened};
pub use leaf::{InvalidLeaf, Leaf};
pub use note::{InvalidKey, InvalidNote, Signer, Unverified, Verifier};
pub use outline::Outline;
pub use stored::{Stored, is_stored};
pub use tree::{Frontier, Hash, InvalidFrontier, InvalidHash, Node};
pub use verify::{verify_consistency, verify_inclusion};

#[cfg(test)]
pub(crate) mod testing {
    use super::Hash;

    /// The root as RFC 6962 §2.1 writes it down, from all leaves.
    pub(crate) fn naive_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::EMPTY,
            [leaf] => *leaf,
            leaves => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                Hash::of_node(&naive_root(left), &naive_root(right))
            }
        }
    }

    /// The largest power of two below a number.
    pub(crate) fn split(size: usize) -> usize {
        size.next_power_of_two() / 2
    }

    /// The audit path of RFC 6962 §2.1.1.
    pub(crate) fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(split(leaves.len()));
        let (mut path, sibling) = if index < left.len() {
            (naive_path(index, left), naive_root(right))
        } else {
            (naive_path(index - left.len(), right), naive_root(left))
        };
        path.push(sibling);
        path
    }

    /// The consistency proof of RFC 6962 §2.1.2.
    pub(crate) fn naive_consistency(old: usize, leaves: &[Hash], known: bool) -> Vec<Hash> {
        if old == leaves.len() {
            return if known {
                Vec::new()
            } else {
                vec![naive_root(leaves)]
            };
        }
        let (left, right) = leaves.split_at(split(leaves.len()));
        let (mut proof, other) = if old <= left.len() {
            (naive_consistency(old, left, known), naive_root(right))
        } else {
            (
                naive_consistency(old - left.len(), right, false),
                naive_root(left),
            )
        };
        proof.push(other);
        proof
    }

    /// Some leaves.
    pub(crate) fn leaves(count: usize) -> Vec<Hash> {
        (0..count)
            .map(|number| Hash::of_leaf(&number.to_be_bytes()))
            .collect()
    }

    /// The leaves of the reference tests of Certificate Transparency, and the roots of the trees of the first 1 to 8.
    pub(crate) fn reference() -> (Vec<Vec<u8>>, Vec<&'static str>) {
        let leaves = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let decode = |text: &str| -> Vec<u8> {
            let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
            (0..text.len()).step_by(2).map(digit).collect()
        };
        let roots = vec![
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        (leaves.into_iter().map(decode).collect(), roots)
    }

    /// A hash in hexadecimal.
    pub(crate) fn hex(hash: &Hash) -> String {
        use std::fmt::Write;
        hash.as_bytes().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
