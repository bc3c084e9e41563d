//! Which dead letters are meant: of a list by its query, of an action by its body.

use domain::endpoint::{MAX_LIST, Matching};
use domain::{DeliveryId, EndpointId, ErrorClass, EventType, Timestamp};
use projections::{DeadLetterFilter, Page};
use serde::{Deserialize, Deserializer, de};
use utoipa::{IntoParams, ToSchema};

use crate::extract::Limit;
use crate::problem::Problem;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterQuery {
    /// Of this endpoint only.
    #[param(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
    /// Of events of this type only.
    #[serde(rename = "type")]
    #[param(value_type = Option<String>)]
    event_type: Option<EventType>,
    /// Given up at this time (RFC 3339) or later.
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<Timestamp>,
    /// Given up before this time (RFC 3339).
    #[param(value_type = Option<String>, format = "date-time")]
    until: Option<Timestamp>,
    /// Whose last attempt failed in this way only: `dns`, `forbidden`, `refused`, `tls`, `timeout`, `reset`, `status` or
    /// `gone`.
    #[serde(default, deserialize_with = "error")]
    #[param(value_type = Option<String>)]
    error: Option<ErrorClass>,
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

fn error<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ErrorClass>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(de::Error::custom)
}

impl DeadLetterQuery {
    pub(super) fn read(self) -> (DeadLetterFilter, Page) {
        let filter = DeadLetterFilter {
            endpoint: self.endpoint,
            event_types: self.event_type.into_iter().collect(),
            since: self.since,
            until: self.until,
            errors: self.error.into_iter().collect(),
        };
        let page = Page {
            limit: Some(Limit::rows(self.limit)),
            cursor: self.cursor,
        };
        (filter, page)
    }
}

/// Dead letters by what they are; all that is given must hold, and something must be given.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = DeadLettersMatching, example = json!({ "event_types": ["invoice.paid"], "errors": ["timeout"] }))]
#[serde(deny_unknown_fields)]
pub(super) struct MatchingBody {
    /// Of this endpoint only.
    #[schema(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
    /// Of events of these types only: 1 to 1,000.
    #[schema(value_type = Option<Vec<String>>)]
    event_types: Option<Vec<EventType>>,
    /// Given up at this time (RFC 3339) or later.
    #[schema(value_type = Option<String>, format = "date-time")]
    since: Option<Timestamp>,
    /// Given up before this time (RFC 3339).
    #[schema(value_type = Option<String>, format = "date-time")]
    until: Option<Timestamp>,
    /// Whose last attempt failed in one of these ways only: `dns`, `forbidden`, `refused`, `tls`, `timeout`, `reset`,
    /// `status`, `gone`.
    #[schema(value_type = Option<Vec<String>>)]
    errors: Option<Vec<ErrorClass>>,
}

impl MatchingBody {
    /// What is asked of each endpoint concerned, and which those are.
    pub(super) fn read(self) -> Result<(Matching, DeadLetterFilter), Problem> {
        let matching = Matching {
            event_types: listed("event_types", self.event_types)?,
            since: self.since,
            until: self.until,
            errors: listed("errors", self.errors)?,
        };
        if matching == Matching::default() && self.endpoint.is_none() {
            return Err(Problem::invalid_body("matching", "must name something to match"));
        }
        let filter = DeadLetterFilter {
            endpoint: self.endpoint,
            event_types: matching.event_types.clone(),
            since: matching.since,
            until: matching.until,
            errors: matching.errors.clone(),
        };
        Ok((matching, filter))
    }
}

/// A list that names something, where it is given.
fn listed<T>(path: &str, list: Option<Vec<T>>) -> Result<Vec<T>, Problem> {
    match list {
        Some(list) if !(1..=MAX_LIST).contains(&list.len()) => {
            let message = format!("must hold 1 to {MAX_LIST} entries");
            Err(Problem::invalid_body(format!("matching.{path}"), message))
        }
        list => Ok(list.unwrap_or_default()),
    }
}

/// Which dead letters are meant: exactly one of the four.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "all": true, "rate": 20 }))]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// These deliveries: 1 to 1,000.
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) ids: Option<Vec<DeliveryId>>,
    /// All of this endpoint.
    #[schema(value_type = Option<String>)]
    pub(super) endpoint: Option<EndpointId>,
    /// Those that match.
    pub(super) matching: Option<MatchingBody>,
    /// `true`: all of the tenant.
    pub(super) all: Option<bool>,
}
