//! Which event types an endpoint wants.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::EventType;

/// A text that is not an event-type filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an event type such as `invoice.paid`, one with `*` in the place of words such as `invoice.*` or `invoice.*.paid`, or `*` for all"
)]
pub struct InvalidFilter;

/// `*` (all), `invoice.*` (all whose type begins with `invoice.`), `invoice.*.paid` (one word, whatever it is), or one
/// type: a `*` at the end stands for one word or more, anywhere else for exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventTypeFilter(String);

impl EventTypeFilter {
    /// Whether messages of this type are wanted. Those that Tidings itself publishes must be asked for by their first
    /// word: `*` means all that the tenant does.
    pub fn matches(&self, event_type: &EventType) -> bool {
        if event_type.is_reserved() && !self.0.starts_with(EventType::RESERVED) {
            return false;
        }
        let mut words = event_type.as_str().split('.');
        let mut wanted = self.0.split('.').peekable();
        while let Some(pattern) = wanted.next() {
            let word = words.next();
            if pattern == "*" && wanted.peek().is_none() {
                return word.is_some();
            }
            if word.is_none_or(|word| pattern != "*" && pattern != word) {
                return false;
            }
        }
        words.next().is_none()
    }

    /// The filter as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EventTypeFilter {
    type Error = InvalidFilter;

    fn try_from(text: String) -> Result<Self, InvalidFilter> {
        let words = text.split('.').map(|word| if word == "*" { "x" } else { word });
        // A type of this form and length.
        let example = words.collect::<Vec<_>>().join(".");
        if example.parse::<EventType>().is_ok() {
            Ok(Self(text))
        } else {
            Err(InvalidFilter)
        }
    }
}

impl From<EventTypeFilter> for String {
    fn from(filter: EventTypeFilter) -> Self {
        filter.0
    }
}

impl fmt::Display for EventTypeFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_all_a_group_or_one_type() {
        let matches = |filter: &str, event_type: &str| {
            EventTypeFilter::try_from(filter.to_owned())
                .unwrap()
                .matches(&event_type.parse().unwrap())
        };
        assert!(matches("*", "invoice.paid"));
        assert!(matches("invoice.*", "invoice.paid"));
        assert!(matches("invoice.*", "invoice.paid.late"));
        assert!(!matches("invoice.*", "invoice"));
        assert!(!matches("invoice.*", "invoices.paid"));
        assert!(matches("invoice.paid", "invoice.paid"));
        assert!(!matches("invoice.paid", "invoice.paid.late"));
        assert!(matches("invoice.*.paid", "invoice.7.paid"));
        assert!(!matches("invoice.*.paid", "invoice.paid"));
        assert!(!matches("invoice.*.paid", "invoice.7.8.paid"));
        assert!(!matches("invoice.*.paid", "invoice.7.paid.late"));
        assert!(matches("*.paid", "invoice.paid"));
        assert!(matches("*.*", "invoice.paid.late"));
        assert!(!matches("*.*", "invoice"));
        assert!(matches("invoice.*.*", "invoice.7.paid"));
        for text in ["", "**", "invoice*", "invoice.*x.paid", ".*", "invoice.>"] {
            assert!(
                EventTypeFilter::try_from(text.to_owned()).is_err(),
                "{text:?} was accepted"
            );
        }
    }

    #[test]
    fn what_tidings_itself_publishes_must_be_asked_for_by_name() {
        let wants = |filter: &str, kind: &str| {
            let filter = EventTypeFilter::try_from(filter.to_owned()).unwrap();
            filter.matches(&kind.parse().unwrap())
        };
        let disabled = "tidings.endpoint.disabled";
        assert!(!wants("*", disabled));
        for filter in ["tidings.*", "tidings.endpoint.*", disabled] {
            assert!(wants(filter, disabled), "{filter}");
        }
        assert!(wants("*", "tidingsx.endpoint.disabled"));
    }

    #[test]
    fn a_filter_reads_as_it_was_written() {
        let filter = EventTypeFilter::try_from("invoice.*".to_owned()).unwrap();
        assert_eq!(filter.as_str(), "invoice.*");
    }
}
