//! What is wrong with an export, and what came out in the end.

use domain::Position;
use domain::proof::Hash;
use serde::Serialize;

/// How many findings are told one by one; the others are counted.
const MOST: usize = 100;

/// What was done to the log or its export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A record is not what it was.
    Changed,
    /// Records are missing.
    Removed,
    /// Records stand here that did not.
    Added,
    /// Records stand in another order.
    Reordered,
    /// A record is another tenant's, or another log's.
    Foreign,
    /// A line is no record at all.
    Unreadable,
    /// The records are not those that a checkpoint was signed over.
    Rewritten,
    /// A checkpoint was not signed by the key, or not as it stands.
    Forged,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Added => "added",
            Self::Reordered => "reordered",
            Self::Foreign => "foreign",
            Self::Unreadable => "unreadable",
            Self::Rewritten => "rewritten",
            Self::Forged => "forged",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was done.
    pub(super) kind: Kind,
    /// On which line of the export, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<u64>,
    /// To which leaf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) leaf: Option<u64>,
    /// To the record at which place in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) position: Option<Position>,
    /// In words.
    pub(super) message: String,
}

impl Finding {
    /// Of the whole.
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            line: None,
            leaf: None,
            position: None,
            message: message.into(),
        }
    }
}

/// Findings, of which only so many are kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings {
    told: Vec<Finding>,
    untold: u64,
}

impl Findings {
    /// Notes one; what is wrong with the whole is always told.
    pub(super) fn push(&mut self, finding: Finding) {
        if self.told.len() < MOST || finding.leaf.is_none() {
            self.told.push(finding);
        } else {
            self.untold += 1;
        }
    }

    /// In the order of the export, those of the whole last; and how many more there were.
    pub(super) fn sorted(mut self) -> (Vec<Finding>, u64) {
        self.told
            .sort_by_key(|finding| (finding.line.unwrap_or(u64::MAX), finding.kind));
        (self.told, self.untold)
    }
}

/// A checkpoint, and whether the export is what it was signed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Compared {
    /// Its file.
    pub(super) file: String,
    /// How many records it covers.
    pub(super) size: u64,
    /// Their root.
    pub(super) root: Hash,
    /// When it was signed, as it says itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signed_at: Option<String>,
    /// Whether the export begins with those records.
    pub(super) verified: bool,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    /// Whether all is as it was signed.
    pub(super) verified: bool,
    /// Whose log it is, as the key names it.
    pub(super) origin: String,
    /// How many records the export holds.
    pub(super) records: u64,
    /// The checkpoints, as they were given.
    pub(super) checkpoints: Vec<Compared>,
    /// What is wrong, in the order of the export.
    pub(super) findings: Vec<Finding>,
    /// How many findings more there were.
    pub(super) more_findings: u64,
}

impl Report {
    /// The report in lines, as a person reads it.
    pub(super) fn in_words(&self) -> String {
        let mut lines = vec![if self.verified {
            format!("verified: {} records of {}", self.records, self.origin)
        } else {
            let findings = self.findings.len() as u64 + self.more_findings;
            format!(
                "NOT verified: {findings} finding(s) in {} records of {}",
                self.records, self.origin
            )
        }];
        for checkpoint in &self.checkpoints {
            let signed = checkpoint.signed_at.as_ref();
            let signed = signed.map_or_else(String::new, |at| format!(", signed at {at}"));
            let verdict = if checkpoint.verified {
                "holds"
            } else {
                "DOES NOT HOLD"
            };
            lines.push(format!(
                "  {}: {} records{signed}: {verdict}",
                checkpoint.file, checkpoint.size
            ));
        }
        for finding in &self.findings {
            let line = finding
                .line
                .map_or_else(String::new, |line| format!("line {line}: "));
            lines.push(format!("  {}: {line}{}", finding.kind.name(), finding.message));
        }
        if self.more_findings > 0 {
            lines.push(format!("  and {} more", self.more_findings));
        }
        lines.join("\n")
    }
}
