//! The events of the demo: a file of JSON lines.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::cli::Failure;

/// Real GitHub webhooks; where they come from stands in `schemas/samples/README.md`.
const BUNDLED: &str = include_str!("../../../schemas/samples/github-events.jsonl");

/// One line: what `POST /v1/events` takes.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct Event {
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    /// Its data, to the byte.
    pub(crate) data: Box<RawValue>,
}

/// The events of a file (or those that come with the program), as many as wanted.
pub(crate) fn load(file: Option<&Path>, wanted: Option<u32>) -> Result<Vec<Event>, Failure> {
    let (name, content) = match file {
        None => ("the bundled events".to_owned(), BUNDLED.to_owned()),
        Some(path) => {
            let content = std::fs::read_to_string(path).map_err(|error| {
                Failure::new(
                    format!("{} cannot be read: {error}", path.display()),
                    "name a readable file of JSON lines",
                )
            })?;
            (path.display().to_string(), content)
        }
    };
    let events = parse(&name, &content)?;
    let wanted = wanted.map_or(events.len(), |wanted| wanted as usize);
    Ok(events.iter().cycle().take(wanted).cloned().collect())
}

fn parse(name: &str, content: &str) -> Result<Vec<Event>, Failure> {
    let mut events = Vec::new();
    for (number, line) in content
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let event = serde_json::from_str(line).map_err(|error| {
            Failure::new(
                format!("line {} of {name} is not an event: {error}", number + 1),
                r#"write one event a line, as {"type":"invoice.paid","data":{"amount":12}}"#,
            )
        })?;
        events.push(event);
    }
    if events.is_empty() {
        return Err(Failure::new(
            format!("{name} holds no events"),
            "name a file of JSON lines",
        ));
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_events_are_real_and_many() {
        let events = load(None, None).unwrap();
        assert!(events.len() > 100);
        assert!(events.iter().all(|event| event.event_type.starts_with("github.")));
        assert_eq!(load(None, Some(1_000)).unwrap().len(), 1_000);
    }

    #[test]
    fn a_bad_line_is_named() {
        let failure = parse("events.jsonl", "{\"type\":\"a\",\"data\":1}\n\nnonsense").unwrap_err();
        assert!(
            failure.to_string().contains("line 3 of events.jsonl"),
            "{failure}"
        );
        assert!(parse("events.jsonl", "\n").is_err());
    }
}
