//! What of a record goes into the tree.

use super::tree::Hash;
use crate::{Position, Source};

/// A record that cannot be a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLeaf {
    /// It stands in another kind of log.
    #[error("only records of a log of events are leaves")]
    Log,
    /// Its subject or message id is empty or holds what neither may hold.
    #[error("its {0} must be visible ASCII characters")]
    Text(&'static str),
}

/// A record of a tenant as a leaf of its tree.
///
/// The leaf's data, of which [`Leaf::hash`] is the leaf hash, is the text
///
/// ```text
/// tidings-record/v1
/// e0-42
/// ev.ten_….user.usr_…
/// ten_…:01ARZ3NDEKTSV4RRFFQ69G5FAV
/// ```
///
/// (position, subject and message id, each line ended by one line feed) and after it the record's bytes as the log
/// keeps them. No two records have the same data, since none of the first four lines can hold a line feed. When the
/// log stored the record is not covered: a log restored from its archive stores it anew, and when the command was
/// decided stands in the record's bytes.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'r> {
    /// Where it stands.
    pub position: Position,
    /// Where it belongs.
    pub subject: &'r str,
    /// The id it was appended under.
    pub message_id: &'r str,
    /// The bytes the log keeps.
    pub payload: &'r [u8],
}

impl Leaf<'_> {
    /// The first line of the data.
    pub const FORM: &'static str = "tidings-record/v1";

    /// The bytes that are hashed.
    pub fn data(&self) -> Result<Vec<u8>, InvalidLeaf> {
        if self.position.source != Source::Events {
            return Err(InvalidLeaf::Log);
        }
        for (name, text) in [("subject", self.subject), ("message id", self.message_id)] {
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(InvalidLeaf::Text(name));
            }
        }
        let head = format!(
            "{}\n{}\n{}\n{}\n",
            Self::FORM,
            self.position,
            self.subject,
            self.message_id
        );
        Ok([head.as_bytes(), self.payload].concat())
    }

    /// The leaf's hash.
    pub fn hash(&self) -> Result<Hash, InvalidLeaf> {
        Ok(Hash::of_leaf(&self.data()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Leaf<'static> {
        Leaf {
            position: Position {
                source: Source::Events,
                shard: 0,
                sequence: 42,
            },
            subject: "ev.ten_1.user.usr_2",
            message_id: "ten_1:c1",
            payload: b"\x81\n\xff",
        }
    }

    #[test]
    fn the_form_stays_as_it_was_published() {
        let data = example().data().unwrap();
        assert_eq!(
            data,
            b"tidings-record/v1\ne0-42\nev.ten_1.user.usr_2\nten_1:c1\n\x81\n\xff"
        );
        assert_eq!(example().hash().unwrap(), Hash::of_leaf(&data));
    }

    #[test]
    fn whatever_of_a_record_changes_its_leaf_changes() {
        let hash = |change: fn(&mut Leaf<'static>)| {
            let mut leaf = example();
            change(&mut leaf);
            leaf.hash().unwrap()
        };
        let changes: [fn(&mut Leaf<'static>); 6] = [
            |_| {},
            |leaf| leaf.position.sequence = 43,
            |leaf| leaf.position.shard = 1,
            |leaf| leaf.subject = "ev.ten_1.user.usr_3",
            |leaf| leaf.message_id = "ten_1:c2",
            |leaf| leaf.payload = b"\x81\n\xfe",
        ];
        let hashes: std::collections::BTreeSet<_> = changes.into_iter().map(hash).collect();
        assert_eq!(hashes.len(), changes.len());
    }

    #[test]
    fn what_could_pass_for_another_record_is_no_leaf() {
        let mut leaf = example();
        leaf.subject = "ev.ten_1\nten_1:c1";
        assert_eq!(leaf.hash(), Err(InvalidLeaf::Text("subject")));
        leaf = example();
        leaf.message_id = "";
        assert_eq!(leaf.hash(), Err(InvalidLeaf::Text("message id")));
        leaf = example();
        leaf.position.source = Source::Messages;
        assert_eq!(leaf.hash(), Err(InvalidLeaf::Log));
    }
}
