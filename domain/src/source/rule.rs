//! Of which event type the messages of a source are.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Header;
use crate::EventType;
use crate::endpoint::JsonPointer;

/// The text or number at a place of a JSON text; none where something else is, or nothing.
pub fn text_at(pointer: &JsonPointer, body: &Value) -> Option<String> {
    match pointer.find(body)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Where the event type comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case", deny_unknown_fields)]
pub enum EventTypeRule {
    /// It is always the same.
    Fixed {
        /// The type.
        #[serde(rename = "type")]
        event_type: EventType,
    },
    /// A header says it.
    Header {
        /// Which.
        header: Header,
        /// What stands before it, with a dot between.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<EventType>,
    },
    /// The body says it.
    Body {
        /// Where.
        pointer: JsonPointer,
        /// What stands before it, with a dot between.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<EventType>,
    },
}

/// A request does not say what it is about, or in a way that makes no event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("says of no event type that it is of")]
pub struct NoEventType;

impl EventTypeRule {
    /// The type that a body names at a place; none if one of these texts cannot be one.
    pub(super) fn in_body(pointer: &str, prefix: Option<&str>) -> Option<Self> {
        Some(Self::Body {
            pointer: pointer.to_owned().try_into().ok()?,
            prefix: match prefix {
                Some(prefix) => Some(prefix.parse().ok()?),
                None => None,
            },
        })
    }

    pub(super) fn in_header(header: &str, prefix: &str) -> Option<Self> {
        Some(Self::Header {
            header: header.to_owned().try_into().ok()?,
            prefix: Some(prefix.parse().ok()?),
        })
    }

    /// The type of a request. Other systems write theirs as they like (`orders/create`, `customer:created`): what
    /// separates words becomes a dot, and what else cannot stand in a type `_`.
    pub fn event_type<'h>(
        &self,
        header: impl FnOnce(&Header) -> Option<&'h str>,
        body: &Value,
    ) -> Result<EventType, NoEventType> {
        let (text, prefix) = match self {
            Self::Fixed { event_type } => return Ok(event_type.clone()),
            Self::Header { header: name, prefix } => (header(name).map(str::to_owned), prefix),
            Self::Body { pointer, prefix } => (text_at(pointer, body), prefix),
        };
        let named = text.ok_or(NoEventType)?;
        let named = named.trim().chars().map(|c| match c {
            '/' | ':' | '.' => '.',
            c if c.is_ascii_alphanumeric() || c == '-' => c,
            _ => '_',
        });
        let named: String = named.collect();
        let whole = match prefix {
            Some(prefix) => format!("{prefix}.{named}"),
            None => named,
        };
        EventType::try_from(whole).map_err(|_| NoEventType)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(rule: Value) -> EventTypeRule {
        serde_json::from_value(rule).unwrap()
    }

    #[test]
    fn a_type_is_fixed_or_said_by_a_header_or_the_body() {
        let body = json!({ "event": { "type": "app mention" }, "n": 7, "list": [] });
        let header = |name: &Header| (name.as_str() == "x-topic").then_some(" orders/create ");
        let of = |rule: Value| {
            read(rule)
                .event_type(header, &body)
                .map(|named| named.as_str().to_owned())
        };
        assert_eq!(
            of(json!({ "from": "fixed", "type": "a.b" })),
            Ok("a.b".to_owned())
        );
        assert_eq!(
            of(json!({ "from": "header", "header": "X-Topic", "prefix": "shop" })),
            Ok("shop.orders.create".to_owned())
        );
        assert_eq!(
            of(json!({ "from": "body", "pointer": "/event/type" })),
            Ok("app_mention".to_owned())
        );
        assert_eq!(of(json!({ "from": "body", "pointer": "/n" })), Ok("7".to_owned()));
        for rule in [
            json!({ "from": "header", "header": "x-other" }),
            json!({ "from": "body", "pointer": "/list" }),
            json!({ "from": "body", "pointer": "/nothing" }),
        ] {
            assert_eq!(of(rule.clone()), Err(NoEventType), "{rule}");
        }
        let dots = json!({ "t": "a..b" });
        let rule = read(json!({ "from": "body", "pointer": "/t" }));
        assert_eq!(rule.event_type(|_| None, &dots), Err(NoEventType));
    }
}
