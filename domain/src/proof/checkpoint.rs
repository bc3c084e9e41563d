//! The text of a checkpoint: which log, how many leaves, which root (<https://c2sp.org/tlog-checkpoint>).

use std::fmt;
use std::str::FromStr;

use super::note::{InvalidNote, Signer, Unverified, Verifier};
use super::tree::Hash;
use crate::{Position, Source, TenantId, Timestamp};

/// A text that is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a checkpoint of a tree: {0}")]
pub struct InvalidCheckpoint(&'static str);

/// Why a note is not the checkpoint it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// The note is not to be believed.
    #[error(transparent)]
    Note(#[from] Unverified),
    /// The note is believed, and is no checkpoint of the key's log.
    #[error(transparent)]
    Text(#[from] InvalidCheckpoint),
}

/// The state of a tenant's tree at a moment.
///
/// In text the three lines of the specification, and two lines of extension that say where the last leaf stands in
/// the log and when this was signed:
///
/// ```text
/// tidings/ten_…/e0
/// 4711
/// CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
/// position e0-5122
/// time 2026-11-20T23:05:00.000Z
/// ```
///
/// Others' checkpoints may have other lines of extension, or none: what is not understood is passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose log it is, as [`Checkpoint::origin_of`] tells it.
    pub origin: String,
    /// How many leaves the tree has.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// Where its last leaf stands.
    pub last: Option<Position>,
    /// When this was signed.
    pub at: Option<Timestamp>,
}

impl Checkpoint {
    /// The origin of a tenant's tree over a log, which is also the name it is signed under.
    pub fn origin_of(tenant: &TenantId, shard: u16) -> String {
        let log = Position {
            source: Source::Events,
            shard,
            sequence: 0,
        };
        format!("tidings/{tenant}/{}", log.log())
    }

    /// The tenant that the origin names, if it is one of this program's.
    pub fn tenant(&self) -> Option<&str> {
        let (tenant, _) = self.origin.strip_prefix("tidings/")?.split_once('/')?;
        Some(tenant)
    }

    /// The signed note.
    pub fn sign(&self, signer: &Signer) -> Result<String, InvalidNote> {
        signer.sign(&self.to_string())
    }

    /// Reads a note, once the key's signature has proved true.
    pub fn open(note: &str, key: &Verifier) -> Result<Self, Unopened> {
        let checkpoint: Self = key.open(note)?.parse()?;
        if checkpoint.origin == key.name() {
            Ok(checkpoint)
        } else {
            Err(InvalidCheckpoint("its origin is not the name of the key").into())
        }
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root)?;
        if let Some(last) = self.last {
            writeln!(f, "position {last}")?;
        }
        if let Some(at) = self.at {
            writeln!(f, "time {at}")?;
        }
        Ok(())
    }
}

impl FromStr for Checkpoint {
    type Err = InvalidCheckpoint;

    fn from_str(text: &str) -> Result<Self, InvalidCheckpoint> {
        let mut lines = text.lines();
        let origin = lines.next().filter(|line| !line.is_empty());
        let origin = origin.ok_or(InvalidCheckpoint("it names no origin"))?;
        let size = lines.next().and_then(number);
        let size = size.ok_or(InvalidCheckpoint("its second line is not a number of leaves"))?;
        let root = lines.next().and_then(|line| line.parse().ok());
        let root = root.ok_or(InvalidCheckpoint("its third line is not a hash"))?;
        let mut checkpoint = Self {
            origin: origin.to_owned(),
            size,
            root,
            last: None,
            at: None,
        };
        for line in lines {
            match line.split_once(' ') {
                _ if line.is_empty() => return Err(InvalidCheckpoint("one of its lines is empty")),
                Some(("position", position)) => checkpoint.last = position.parse().ok(),
                Some(("time", time)) => checkpoint.at = time.parse().ok(),
                _ => {}
            }
        }
        Ok(checkpoint)
    }
}

/// A number without sign or leading zeros.
fn number(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Checkpoint {
        let tenant = "ten_00000000000000000000000007".parse().unwrap();
        Checkpoint {
            origin: Checkpoint::origin_of(&tenant, 0),
            size: 4_711,
            root: Hash::of_leaf(b"x"),
            last: "e0-5122".parse().ok(),
            at: Some(Timestamp::from_millis(1_614_265_330_000)),
        }
    }

    #[test]
    fn a_checkpoint_reads_as_it_prints() {
        let checkpoint = example();
        assert_eq!(checkpoint.to_string().parse(), Ok(checkpoint.clone()));
        assert_eq!(
            checkpoint.to_string(),
            format!(
                "tidings/ten_00000000000000000000000007/e0\n4711\n{}\nposition e0-5122\ntime 2021-02-25T15:02:10.000Z\n",
                checkpoint.root
            )
        );
        assert_eq!(checkpoint.tenant(), Some("ten_00000000000000000000000007"));
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        let text =
            "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\nother\n";
        let checkpoint: Checkpoint = text.parse().unwrap();
        assert_eq!(
            (checkpoint.size, checkpoint.last, checkpoint.tenant()),
            (20_852_163, None, None)
        );
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let root = Hash::EMPTY;
        for text in [
            String::new(),
            "o\n".to_owned(),
            format!("o\n01\n{root}\n"),
            format!("o\n+1\n{root}\n"),
            format!("o\n-1\n{root}\n"),
            "o\n1\nAAAA\n".to_owned(),
            format!("o\n1\n{root}\n\nx\n"),
            format!("\n1\n{root}\n"),
        ] {
            assert!(text.parse::<Checkpoint>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_note_under_a_key_of_another_log_is_no_checkpoint() {
        let (mine, other) = (example(), "tidings/ten_2/e0");
        let signer = Signer::new(&mine.origin, &[1; 32]).unwrap();
        let note = mine.sign(&signer).unwrap();
        assert_eq!(Checkpoint::open(&note, &signer.verifier()), Ok(mine.clone()));
        let foreign = Signer::new(other, &[1; 32]).unwrap();
        assert!(Checkpoint::open(&note, &foreign.verifier()).is_err());
        let renamed = mine.sign(&foreign).unwrap();
        assert!(matches!(
            Checkpoint::open(&renamed, &foreign.verifier()),
            Err(Unopened::Text(_))
        ));
    }
}
