//! What the commits of an aggregate say of each other: their versions have no gap, and each carries the hash of the
//! one before. It does not prove anything that the root does not, but tells where an export was spoiled.

use std::collections::HashMap;

use domain::proof::Hash;
use domain::{Commit, Position};

use super::finding::Kind;

/// How many aggregates are followed, so that memory is bounded; of others only the root tells.
const MOST: usize = 900_000;

/// Half of a hash, which is enough to notice.
type Half = [u8; 16];

fn half(bytes: &[u8]) -> Half {
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(bytes) {
        *to = *from;
    }
    half
}

#[derive(Debug, Clone, Copy)]
struct Link {
    version: u64,
    hash: Half,
    position: Position,
}

/// The last commit of each aggregate.
#[derive(Debug, Default)]
pub(super) struct Chains(HashMap<Half, Link>);

impl Chains {
    /// Notes the next commit on a subject, and tells how it does not go on from the one before.
    pub(super) fn follow(
        &mut self,
        subject: &str,
        position: Position,
        payload: &[u8],
        commit: &Commit,
    ) -> Option<(Kind, String)> {
        let key = half(Hash::of_leaf(subject.as_bytes()).as_bytes());
        let known = self.0.get(&key).copied();
        if known.is_none() && self.0.len() >= MOST {
            return None;
        }
        let link = Link {
            version: commit.last_version(),
            hash: half(&Commit::hash(payload)),
            position,
        };
        self.0.insert(key, link);
        broken(subject, position, commit, known)
    }
}

fn broken(
    subject: &str,
    position: Position,
    commit: &Commit,
    before: Option<Link>,
) -> Option<(Kind, String)> {
    let version = commit.first_version;
    let Some(before) = before else {
        return (version != 1 || commit.prev.is_some()).then(|| {
            let text = format!(
                "{subject} begins with version {version} at {position}: what came before it is missing"
            );
            (Kind::Removed, text)
        });
    };
    let (at, expected) = (before.position, before.version + 1);
    if version > expected {
        let text = format!(
            "{subject} has version {} at {at} and version {version} at {position}: what stood between is missing",
            before.version
        );
        return Some((Kind::Removed, text));
    }
    if version < expected {
        let text =
            format!("{position} is version {version} of {subject}, which has come so far at {at} already");
        return Some((Kind::Added, text));
    }
    let follows = commit
        .prev
        .as_deref()
        .is_some_and(|prev| half(prev) == before.hash);
    (!follows).then(|| {
        let text = format!(
            "{position} was written after another record of {subject} than the one at {at}: one of the two was changed"
        );
        (Kind::Changed, text)
    })
}
