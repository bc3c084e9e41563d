//! Real events for tests: GitHub's webhook payloads, see `schemas/samples/README.md`.

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use crate::tools;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(rename = "type")]
    event_type: String,
    data: Value,
}

/// Every sample event as its type (`github.pull_request.opened`) and its payload, of 24 KiB at most.
pub fn github_events() -> anyhow::Result<Vec<(String, Value)>> {
    let path = tools::repository().join("schemas/samples/github-events.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            let line: Line = serde_json::from_str(line)
                .with_context(|| format!("line {} of {}", index + 1, path.display()))?;
            Ok((line.event_type, line.data))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_samples_are_of_many_types_with_names_that_are_legal() -> anyhow::Result<()> {
        let events = github_events()?;
        let types: BTreeSet<&str> = events.iter().map(|(event_type, _)| event_type.as_str()).collect();
        assert!(types.len() >= 150, "only {} types", types.len());
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.';
        assert!(
            types
                .iter()
                .all(|name| name.starts_with("github.") && name.chars().all(legal))
        );
        assert!(events.iter().all(|(_, data)| data.is_object()));
        Ok(())
    }
}
