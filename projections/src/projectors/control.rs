//! What operators have decided about projections: which rest, and which records are to be passed over.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use domain::Position;
use tokio::sync::watch;

/// The decisions in force; clones share them. Whoever follows the operators' decisions keeps them up to date.
#[derive(Debug, Clone, Default)]
pub struct Control {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    decisions: Mutex<Decisions>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Decisions {
    paused: BTreeSet<String>,
    skipped: BTreeSet<(String, Position)>,
}

impl Control {
    /// Lets a projection rest: it folds nothing until it is resumed.
    pub fn pause(&self, projection: &str) {
        self.change(|decisions| decisions.paused.insert(projection.to_owned()));
    }

    /// Lets a projection go on.
    pub fn resume(&self, projection: &str) {
        self.change(|decisions| decisions.paused.remove(projection));
    }

    /// Lets a projection pass over a record, now and in every rebuild.
    pub fn skip(&self, projection: &str, position: Position) {
        self.change(|decisions| decisions.skipped.insert((projection.to_owned(), position)));
    }

    /// Whether a projection rests.
    pub fn is_paused(&self, projection: &str) -> bool {
        self.read(|decisions| decisions.paused.contains(projection))
    }

    /// The records that a projection passes over.
    pub fn skipped(&self, projection: &str) -> BTreeSet<Position> {
        self.read(|decisions| {
            let skipped = decisions.skipped.iter();
            let of = skipped.filter(|(name, _)| name == projection);
            of.map(|(_, position)| *position).collect()
        })
    }

    /// Tells when a decision changes.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.inner.changed.subscribe()
    }

    fn read<T>(&self, read: impl FnOnce(&Decisions) -> T) -> T {
        read(
            &self
                .inner
                .decisions
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn change(&self, change: impl FnOnce(&mut Decisions) -> bool) {
        let changed = change(
            &mut self
                .inner
                .decisions
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        if changed {
            self.inner.changed.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_about_one_projection() {
        let control = Control::default();
        let changes = control.changes();
        control.pause("users");
        control.skip("users", "e0-7".parse().unwrap());
        assert!(control.is_paused("users") && !control.is_paused("roles"));
        assert_eq!(control.skipped("users").len(), 1);
        assert!(control.skipped("roles").is_empty());
        assert!(changes.has_changed().unwrap());
        control.resume("users");
        assert!(!control.is_paused("users"));
    }
}
