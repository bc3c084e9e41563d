//! Which dead letters of an endpoint are meant, and how fast they are to be tried again.

use serde::{Deserialize, Serialize};

use super::{EndpointRejection, MAX_LIST};
use crate::bounded::Bounded;
use crate::{DeliveryId, ErrorClass, EventType, Timestamp};

/// How many become due in a second.
pub type Rate = Bounded<1, 10_000>;

/// Which dead letters of an endpoint are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// All there are when the request is carried out.
    All,
    /// These; those that are no dead letters then are passed over.
    Deliveries(Vec<DeliveryId>),
    /// All that are like this when the request is carried out.
    Matching(Matching),
}

/// Dead letters by what they are; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matching {
    /// Of messages of one of these types; empty: of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<EventType>,
    /// Given up at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Given up before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whose last attempt failed in one of these ways; empty: in whichever.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorClass>,
}

impl Selection {
    pub(super) fn bounded(self) -> Result<Self, EndpointRejection> {
        let longest = match &self {
            Self::All => 0,
            Self::Deliveries(list) => list.len(),
            Self::Matching(matching) => matching.event_types.len().max(matching.errors.len()),
        };
        if longest > MAX_LIST {
            return Err(EndpointRejection::ListTooLong);
        }
        Ok(self)
    }
}

impl Matching {
    /// Whether a dead letter is meant: of this type, given up at this time, because of this. What was given up before
    /// its reason was noted with it matches no reason.
    pub fn matches(&self, event_type: &EventType, given_up: Timestamp, error: Option<ErrorClass>) -> bool {
        let of_type = self.event_types.is_empty() || self.event_types.contains(event_type);
        let of_error = self.errors.is_empty() || error.is_some_and(|error| self.errors.contains(&error));
        let late = self.since.is_none_or(|since| given_up >= since);
        let early = self.until.is_none_or(|until| given_up < until);
        of_type && of_error && late && early
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    #[test]
    fn everything_that_is_given_must_hold() {
        let at = Timestamp::from_millis;
        let all = Matching::default();
        let kind: EventType = "invoice.paid".parse().unwrap();
        let timeout = Some(ErrorClass::Timeout);
        assert!(all.matches(&kind, at(5), None));
        let narrow = Matching {
            event_types: vec!["user.left".parse().unwrap(), kind.clone()],
            since: Some(at(5)),
            until: Some(at(9)),
            errors: vec![ErrorClass::Timeout],
        };
        assert!(narrow.matches(&kind, at(5), timeout) && narrow.matches(&kind, at(8), timeout));
        assert!(!narrow.matches(&"invoice.due".parse().unwrap(), at(5), timeout));
        assert!(!narrow.matches(&kind, at(4), timeout) && !narrow.matches(&kind, at(9), timeout));
        assert!(!narrow.matches(&kind, at(5), Some(ErrorClass::Dns)) && !narrow.matches(&kind, at(5), None));
    }

    #[test]
    fn a_selection_names_as_much_as_a_list_holds_and_no_more() {
        let selections = |length| {
            let types = Matching {
                event_types: vec!["invoice.paid".parse().unwrap(); length],
                ..Matching::default()
            };
            let errors = Matching {
                errors: vec![ErrorClass::Timeout; length],
                ..Matching::default()
            };
            [
                Selection::Deliveries(vec![DeliveryId::new(Ulid(1)); length]),
                Selection::Matching(types),
                Selection::Matching(errors),
            ]
        };
        for full in selections(MAX_LIST) {
            assert_eq!(full.clone().bounded(), Ok(full));
        }
        for longer in selections(MAX_LIST + 1) {
            assert_eq!(longer.bounded(), Err(EndpointRejection::ListTooLong));
        }
    }
}
