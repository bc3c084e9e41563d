//! Which secrets an endpoint's webhooks are signed with, and which secrets of it can be erased. The secrets themselves
//! are kept elsewhere; here they only have names.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{SecretId, Timestamp};

/// How many secrets that are no longer used are remembered, so that what a crash left of them can still be erased: at
/// least those of a whole policy.
const REMEMBERED: usize = 32;

/// The names of an endpoint's secrets. `None` names the one it was created with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    current: Option<SecretId>,
    previous: Option<Previous>,
    /// Those that no longer sign, or of which the policy no longer speaks, the oldest first.
    ended: VecDeque<Option<SecretId>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Previous {
    secret: Option<SecretId>,
    until: Timestamp,
}

impl Secrets {
    /// The secret that signs.
    pub fn current(&self) -> Option<&SecretId> {
        self.current.as_ref()
    }

    /// Until when the secret before the current one signs beside it, if there was one.
    pub fn previous_valid_until(&self) -> Option<Timestamp> {
        self.previous.as_ref().map(|previous| previous.until)
    }

    /// Those that sign at a time: the current one, then the one before it during their overlap.
    pub fn signing_at(&self, now: Timestamp) -> impl Iterator<Item = Option<&SecretId>> {
        let previous = self.previous.as_ref().filter(|previous| now < previous.until);
        std::iter::once(self.current.as_ref()).chain(previous.map(|previous| previous.secret.as_ref()))
    }

    /// Those that are no longer used and can be erased.
    pub fn ended(&self) -> impl Iterator<Item = Option<&SecretId>> {
        self.ended.iter().map(Option::as_ref)
    }

    /// All that may still be kept anywhere.
    pub fn all(&self) -> impl Iterator<Item = Option<&SecretId>> {
        let previous = self.previous.iter().map(|previous| previous.secret.as_ref());
        self.ended().chain(previous).chain([self.current.as_ref()])
    }

    /// Another secret signs from now on; the one before it does too until a time, and the one before that no longer.
    pub fn rotate(&mut self, to: SecretId, previous_valid_until: Timestamp) {
        let before = Previous {
            secret: self.current.replace(to),
            until: previous_valid_until,
        };
        if let Some(ended) = self.previous.replace(before) {
            self.end(ended.secret);
        }
    }

    /// The policy speaks no longer of these.
    pub fn release<'s>(&mut self, names: impl Iterator<Item = &'s SecretId>) {
        for name in names {
            self.end(Some(name.clone()));
        }
    }

    fn end(&mut self, secret: Option<SecretId>) {
        self.ended.push_back(secret);
        if self.ended.len() > REMEMBERED {
            self.ended.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn the_previous_secret_signs_until_its_time_or_the_next_rotation() {
        let (first, second) = (SecretId::new(Ulid(1)), SecretId::new(Ulid(2)));
        let mut secrets = Secrets::default();
        assert_eq!(secrets.signing_at(at(0)).collect::<Vec<_>>(), [None]);
        secrets.rotate(first.clone(), at(10));
        assert_eq!(
            secrets.signing_at(at(9)).collect::<Vec<_>>(),
            [Some(&first), None]
        );
        assert_eq!(secrets.signing_at(at(10)).collect::<Vec<_>>(), [Some(&first)]);
        assert_eq!(secrets.ended().count(), 0);
        secrets.rotate(second.clone(), at(20));
        assert_eq!(
            secrets.signing_at(at(5)).collect::<Vec<_>>(),
            [Some(&second), Some(&first)]
        );
        assert_eq!(secrets.ended().collect::<Vec<_>>(), [None]);
        assert_eq!(
            secrets.all().collect::<Vec<_>>(),
            [None, Some(&first), Some(&second)]
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut secrets = Secrets::default();
        for number in 0..100 {
            secrets.rotate(SecretId::new(Ulid(number)), at(0));
        }
        assert_eq!(secrets.ended().count(), REMEMBERED);
        assert_eq!(secrets.ended().last(), Some(Some(&SecretId::new(Ulid(97)))));
    }

    #[test]
    fn the_current_secret_is_told_and_until_when_the_one_before_signs() {
        let first = SecretId::new(Ulid(1));
        let mut secrets = Secrets::default();
        assert_eq!((secrets.current(), secrets.previous_valid_until()), (None, None));
        secrets.rotate(first.clone(), at(10));
        assert_eq!(
            (secrets.current(), secrets.previous_valid_until()),
            (Some(&first), Some(at(10)))
        );
    }
}
