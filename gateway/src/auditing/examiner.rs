//! Follows an export record by record: grows the tree again, compares it with the checkpoints where they stand, and
//! notes whatever does not fit together. Memory does not depend on the length of the export.

use std::collections::BTreeMap;

use domain::proof::{Checkpoint, Frontier, Hash};
use domain::{Commit, Position};

use super::chains::Chains;
use super::finding::{Compared, Finding, Findings, Kind, Report};
use super::line::Line;

/// How many gaps in the numbers of leaves are kept open in the hope that what is missing comes later.
const MOST_GAPS: usize = 1_000;

/// A checkpoint to compare with.
#[derive(Debug, Clone)]
struct Target {
    file: String,
    checkpoint: Checkpoint,
    /// Once the tree is as large: whether its root is the one signed, and whether that of the leaf hashes in the
    /// export is.
    outcome: Option<(bool, bool)>,
}

/// Where the export stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    line: u64,
    leaf: u64,
    position: Position,
}

/// An export under examination.
#[derive(Debug)]
pub(super) struct Examiner {
    origin: String,
    tenant: String,
    log: String,
    targets: Vec<Target>,
    /// The tree of the records.
    tree: Frontier,
    /// The tree of the leaf hashes that stand beside them.
    declared: Frontier,
    next_leaf: u64,
    last: Option<Position>,
    /// Leaves passed over so far: the first of each gap, and the first after it.
    gaps: BTreeMap<u64, u64>,
    chains: Chains,
    findings: Findings,
}

impl Examiner {
    /// Of the log that the checkpoints are of, each with its file's name. Their origins must be the same.
    pub(super) fn new(origin: &str, checkpoints: Vec<(String, Checkpoint)>) -> Self {
        let mut parts = origin.split('/').skip(1).map(str::to_owned);
        let targets = checkpoints.into_iter().map(|(file, checkpoint)| Target {
            file,
            checkpoint,
            outcome: None,
        });
        let mut examiner = Self {
            origin: origin.to_owned(),
            tenant: parts.next().unwrap_or_default(),
            log: parts.next().unwrap_or_default(),
            targets: targets.collect(),
            tree: Frontier::default(),
            declared: Frontier::default(),
            next_leaf: 0,
            last: None,
            gaps: BTreeMap::new(),
            chains: Chains::default(),
            findings: Findings::default(),
        };
        examiner.compare();
        examiner
    }

    /// Notes what is wrong apart from the records.
    pub(super) fn note(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Takes the next line.
    pub(super) fn feed(&mut self, number: u64, text: &[u8]) {
        let line: Line = match serde_json::from_slice(text) {
            Ok(line) => line,
            Err(error) => {
                self.note(Finding {
                    line: Some(number),
                    leaf: Some(self.next_leaf),
                    ..Finding::new(
                        Kind::Unreadable,
                        format!("this is no record of an export: {error}"),
                    )
                });
                return self.grow(Hash::EMPTY, Hash::EMPTY, self.next_leaf);
            }
        };
        let place = Place {
            line: number,
            leaf: line.leaf,
            position: line.position,
        };
        self.order(place);
        let hash = self.content(place, &line);
        self.grow(hash, line.leaf_hash, line.leaf);
    }

    fn tell(&mut self, place: Place, kind: Kind, message: impl Into<String>) {
        self.findings.push(Finding {
            kind,
            line: Some(place.line),
            leaf: Some(place.leaf),
            position: Some(place.position),
            message: message.into(),
        });
    }

    /// Whether it stands where its number and position say.
    fn order(&mut self, place: Place) {
        let Place { leaf, position, .. } = place;
        if leaf > self.next_leaf {
            self.gaps.insert(self.next_leaf, leaf);
            if self.gaps.len() > MOST_GAPS {
                let first = self.gaps.pop_first();
                self.missing(first);
            }
        } else if leaf < self.next_leaf {
            let passed_over = self.fill(leaf);
            if passed_over {
                let text = format!("leaf {leaf} ({position}) stands after leaves that come after it");
                self.tell(place, Kind::Reordered, text);
            } else {
                let text = format!("leaf {leaf} ({position}) stands here once more");
                self.tell(place, Kind::Added, text);
            }
        } else if let Some(last) = self.last.filter(|last| last.sequence >= position.sequence) {
            let text = format!("{position} stands after {last}");
            self.tell(place, Kind::Reordered, text);
        }
        self.last = Some(position);
    }

    /// Takes a leaf out of the gap it is missing from, if it is.
    fn fill(&mut self, leaf: u64) -> bool {
        let Some((&start, &end)) = self
            .gaps
            .range(..=leaf)
            .next_back()
            .filter(|(_, end)| leaf < **end)
        else {
            return false;
        };
        self.gaps.remove(&start);
        if start < leaf {
            self.gaps.insert(start, leaf);
        }
        if leaf + 1 < end {
            self.gaps.insert(leaf + 1, end);
        }
        true
    }

    fn missing(&mut self, gap: Option<(u64, u64)>) {
        let Some((start, end)) = gap else { return };
        let text = match end - start {
            1 => format!("leaf {start} is missing"),
            count => format!("the {count} leaves from {start} to {} are missing", end - 1),
        };
        self.findings.push(Finding {
            leaf: Some(start),
            ..Finding::new(Kind::Removed, text)
        });
    }

    /// Whether it says what it should, and of whom; answers the hash of what stands there.
    fn content(&mut self, place: Place, line: &Line) -> Hash {
        let position = place.position;
        if line.subject.split('.').nth(1) != Some(&self.tenant) || position.log() != self.log {
            let text = format!("{position} ({}) is no record of {}", line.subject, self.origin);
            self.tell(place, Kind::Foreign, text);
        }
        let hash = match line.hash() {
            Ok(hash) => hash,
            Err(error) => {
                self.tell(
                    place,
                    Kind::Changed,
                    format!("{position} can be no record: {error}"),
                );
                return Hash::EMPTY;
            }
        };
        if hash != line.leaf_hash {
            let text = format!(
                "{position} is not the record whose leaf hash stands beside it: position, subject, message id or payload was changed"
            );
            self.tell(place, Kind::Changed, text);
        }
        if !line.is_read_rightly() {
            let text = format!("the readable part of {position} does not say what its payload says");
            self.tell(place, Kind::Changed, text);
        }
        if let Some(commit) = commit(line) {
            if Commit::subject(&commit.tenant, &commit.aggregate, &commit.id) != line.subject {
                let text = format!(
                    "{position} is filed under {}, and its payload is of another subject",
                    line.subject
                );
                self.tell(place, Kind::Changed, text);
            }
            let broken = self
                .chains
                .follow(&line.subject, position, &line.payload, &commit);
            if let Some((kind, text)) = broken {
                self.tell(place, kind, text);
            }
        }
        hash
    }

    fn grow(&mut self, hash: Hash, declared: Hash, leaf: u64) {
        self.tree.push(hash, |_, _| {});
        self.declared.push(declared, |_, _| {});
        self.next_leaf = self.next_leaf.max(leaf.saturating_add(1));
        self.compare();
    }

    fn compare(&mut self) {
        let (tree, declared) = (&self.tree, &self.declared);
        for target in &mut self.targets {
            if target.checkpoint.size == tree.size() {
                let root = target.checkpoint.root;
                target.outcome = Some((tree.root() == root, declared.root() == root));
            }
        }
    }

    /// The end of the export.
    pub(super) fn finish(mut self) -> Report {
        while let Some(gap) = self.gaps.pop_first() {
            self.missing(Some(gap));
        }
        let mut targets = std::mem::take(&mut self.targets);
        targets.sort_by_key(|target| target.checkpoint.size);
        let mut proved = None;
        for target in &targets {
            match self.verdict(target, proved) {
                None => proved = Some(target.checkpoint.size),
                Some(finding) => self.note(finding),
            }
        }
        if let Some(newest) = targets.last() {
            self.beyond(newest);
        }
        let compared = targets.into_iter().map(|target| Compared {
            file: target.file,
            size: target.checkpoint.size,
            root: target.checkpoint.root,
            signed_at: target.checkpoint.at.map(|at| at.to_string()),
            verified: target.outcome.is_some_and(|(records, _)| records),
        });
        let (findings, more_findings) = self.findings.sorted();
        Report {
            verified: findings.is_empty(),
            origin: self.origin,
            records: self.tree.size(),
            checkpoints: compared.collect(),
            findings,
            more_findings,
        }
    }

    /// What keeps a checkpoint from holding; `proved` is how many records a smaller one has proved.
    fn verdict(&self, target: &Target, proved: Option<u64>) -> Option<Finding> {
        let (file, size) = (&target.file, target.checkpoint.size);
        let good = proved.map_or_else(String::new, |proved| {
            format!("; the first {proved} records are proved, so it was done after them")
        });
        match target.outcome {
            Some((true, _)) => None,
            Some((false, true)) => {
                let text = format!(
                    "{file} holds for the leaf hashes of the first {size} records, so these are true: each record that differs from its own was changed{good}"
                );
                Some(Finding::new(Kind::Changed, text))
            }
            Some((false, false)) => {
                let text =
                    format!("the first {size} records are not those that {file} was signed over{good}");
                Some(Finding::new(Kind::Rewritten, text))
            }
            None => {
                let held = self.tree.size();
                let text = format!("{file} covers {size} records, and the export holds {held}{good}");
                Some(Finding::new(Kind::Removed, text))
            }
        }
    }

    /// Records that no checkpoint covers.
    fn beyond(&mut self, newest: &Target) {
        let (held, size) = (self.tree.size(), newest.checkpoint.size);
        if held > size {
            let text = format!(
                "{} record(s) stand after the {size} that {} covers: nothing proves them. Export with size={size}, or compare with a later checkpoint",
                held - size,
                newest.file
            );
            self.note(Finding::new(Kind::Added, text));
        }
    }
}

fn commit(line: &Line) -> Option<Commit> {
    let filed = line.subject.starts_with("ev.");
    Commit::decode(&line.payload).ok().filter(|_| filed)
}

#[cfg(test)]
mod tests;
