//! What an event changed, field by field, with the values before and after: read from what the event says.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// One field's change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// What changed, as `name`; of things that have many of a kind, which one follows after a dot.
    pub field: String,
    /// What it was: null where there was nothing; none where the event does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What it is: null where there is nothing.
    pub to: Value,
}

/// The fields that an event of this name, with these data, changed. Empty where it changed nothing but asked for
/// something, or told of something.
pub fn changes(event_type: &str, data: &Value) -> Vec<Change> {
    let Some(data) = data.as_object() else {
        return Vec::new();
    };
    let (kind, what) = event_type.split_once('.').unwrap_or_default();
    match what {
        _ if matches!(kind, "command" | "read" | "secret" | "access" | "recovery") => Vec::new(),
        "redrive_requested" | "discard_requested" | "resend_requested" => Vec::new(),
        "registered" | "created" | "issued" | "defined" | "provisioned" => created(kind, data),
        "renamed" => from_to("name", data),
        "email_changed" => from_to("email", data),
        "plan_changed" => from_to("plan", data),
        "moved" => from_to("parent", data),
        "placed" | "released" => from_to("reason", data),
        "attributes_changed" => from_to("attributes", data),
        "preferences_changed" => from_to("preferences", data),
        "member_role_changed" => from_to(&format!("members.{}", text(data, "user")), data),
        "described" => described(data),
        "permissions_changed" => vec![came_and_went("permissions", data)],
        "inheritance_changed" => vec![came_and_went("inherits", data)],
        "role_granted" => vec![change("roles", Value::Null, value(data, "role"))],
        "role_revoked" => vec![change("roles", value(data, "role"), Value::Null)],
        "permission_set" => vec![change(
            &format!("permissions.{}", text(data, "permission")),
            value(data, "was"),
            value(data, "effect"),
        )],
        "permission_cleared" => vec![change(
            &format!("permissions.{}", text(data, "permission")),
            value(data, "was"),
            Value::Null,
        )],
        "members_added" => members(data, |role| change("", Value::Null, role)),
        "members_removed" => removed_members(data),
        "version_added" => version_added(data),
        "merged" => vec![change("merged_into", Value::Null, value(data, "into"))],
        "split" => vec![
            change("split_off", Value::Null, value(data, "new")),
            change("members", value(data, "members"), Value::Null),
            change("children", value(data, "children"), Value::Null),
        ],
        "rotated" => rotated(data),
        "resent" => resent(data),
        _ => match switched(kind, what, data) {
            Some(changes) => changes,
            None => told(kind, data),
        },
    }
}

/// What is on or off after the event, and was the other way before.
fn switched(kind: &str, what: &str, data: &Map<String, Value>) -> Option<Vec<Change>> {
    let (field, to) = match what {
        "deactivated" => ("active", false),
        "reactivated" if kind == "user" => ("active", true),
        "reactivated" => ("suspended", false),
        "enabled" => ("enabled", true),
        "disabled" => ("enabled", false),
        "reinstated" => ("deprecated", false),
        "suspended" | "terminated" | "removed" | "retired" | "revoked" | "deprecated" | "accepted"
        | "expired" => (what, true),
        _ => return None,
    };
    let mut changes = vec![change(field, json!(!to), json!(to))];
    changes.extend(data.get("reason").map(|reason| Change {
        field: "reason".to_owned(),
        from: Some(Value::Null),
        to: reason.clone(),
    }));
    Some(changes)
}

fn change(field: &str, from: Value, to: Value) -> Change {
    Change {
        field: field.to_owned(),
        from: Some(from),
        to,
    }
}

fn value(data: &Map<String, Value>, field: &str) -> Value {
    data.get(field).cloned().unwrap_or_default()
}

fn text<'d>(data: &'d Map<String, Value>, field: &str) -> &'d str {
    data.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Everything of a thing that has come into being.
fn created(kind: &str, data: &Map<String, Value>) -> Vec<Change> {
    let fields = match data.get("settings") {
        Some(Value::Object(settings)) => settings,
        _ => data,
    };
    // The thing's own id is no field of it.
    let fields = fields
        .iter()
        .filter(|(field, _)| *field != kind && *field != "id");
    fields
        .map(|(field, value)| change(field, Value::Null, value.clone()))
        .collect()
}

/// A value before and after; of objects, the members that differ.
fn from_to(field: &str, data: &Map<String, Value>) -> Vec<Change> {
    let to = value(data, "to");
    match (data.get("from"), &to) {
        (Some(Value::Object(before)), Value::Object(after)) => {
            differences(&format!("{field}."), before, after)
        }
        (from, _) => vec![Change {
            field: field.to_owned(),
            from: from.cloned(),
            to,
        }],
    }
}

fn differences(prefix: &str, before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<Change> {
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    after
        .keys()
        .chain(gone)
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| {
            change(
                &format!("{prefix}{name}"),
                value(before, name),
                value(after, name),
            )
        })
        .collect()
}

fn described(data: &Map<String, Value>) -> Vec<Change> {
    match data.get("description") {
        Some(to) => vec![Change {
            field: "description".to_owned(),
            from: data.get("from").cloned(),
            to: to.clone(),
        }],
        None => from_to("description", data),
    }
}

/// Of a set: what went as the value before, what came as the value after.
fn came_and_went(field: &str, data: &Map<String, Value>) -> Change {
    change(field, value(data, "removed"), value(data, "added"))
}

fn members(data: &Map<String, Value>, of: impl Fn(Value) -> Change) -> Vec<Change> {
    let members = data.get("members").and_then(Value::as_array);
    let members = members.into_iter().flatten().filter_map(Value::as_object);
    members
        .map(|member| Change {
            field: format!("members.{}", text(member, "user")),
            ..of(value(member, "role"))
        })
        .collect()
}

/// Events of earlier programs name the users without the roles they had.
fn removed_members(data: &Map<String, Value>) -> Vec<Change> {
    if data.contains_key("members") {
        return members(data, |role| change("", role, Value::Null));
    }
    let users = data.get("users").and_then(Value::as_array);
    let users = users.into_iter().flatten().filter_map(Value::as_str);
    users
        .map(|user| Change {
            field: format!("members.{user}"),
            from: None,
            to: Value::Null,
        })
        .collect()
}

/// A version stands beside those before it, which stay as they are.
fn version_added(data: &Map<String, Value>) -> Vec<Change> {
    let version = data.get("version").and_then(Value::as_u64).unwrap_or_default();
    vec![
        change("version", json!(version.saturating_sub(1)), json!(version)),
        change(&format!("schema.{version}"), Value::Null, value(data, "schema")),
    ]
}

fn rotated(data: &Map<String, Value>) -> Vec<Change> {
    let generation = data.get("generation").and_then(Value::as_u64).unwrap_or_default();
    let mut changes = vec![change(
        "generation",
        json!(generation.saturating_sub(1)),
        json!(generation),
    )];
    let others = data.iter().filter(|(field, _)| *field != "generation");
    changes.extend(others.map(|(field, to)| Change {
        field: field.clone(),
        from: None,
        to: to.clone(),
    }));
    changes
}

fn resent(data: &Map<String, Value>) -> Vec<Change> {
    let before = |field: &str| data.get("from").and_then(|from| from.get(field)).cloned();
    let fields = data.iter().filter(|(field, _)| *field != "from");
    fields
        .map(|(field, to)| Change {
            field: field.clone(),
            from: before(field),
            to: to.clone(),
        })
        .collect()
}

/// An event without a rule of its own: a pair of objects by what differs, anything else as what is now.
fn told(kind: &str, data: &Map<String, Value>) -> Vec<Change> {
    if let (Some(Value::Object(before)), Some(Value::Object(after))) = (data.get("from"), data.get("to")) {
        return differences("", before, after);
    }
    if data.contains_key("to") {
        return from_to("value", data);
    }
    let fields = data.iter().filter(|(field, _)| *field != kind && *field != "id");
    fields
        .map(|(field, to)| Change {
            field: field.clone(),
            from: None,
            to: to.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "reads as a literal at each call")]
    fn told_of(event_type: &str, data: Value) -> Vec<(String, Option<Value>, Value)> {
        changes(event_type, &data)
            .into_iter()
            .map(|change| (change.field, change.from, change.to))
            .collect()
    }

    #[test]
    fn values_before_and_after_are_told_by_field() {
        let one = |field: &str, from: Value, to: Value| vec![(field.to_owned(), Some(from), to)];
        assert_eq!(
            told_of("user.renamed", json!({ "from": "Ada", "to": "Ada Lovelace" })),
            one("name", json!("Ada"), json!("Ada Lovelace"))
        );
        assert_eq!(
            told_of(
                "endpoint.changed",
                json!({ "from": { "url": "a", "description": "x" }, "to": { "url": "b", "description": "x" } })
            ),
            one("url", json!("a"), json!("b"))
        );
        assert_eq!(
            told_of(
                "settings.changed",
                json!({ "version": 2, "from": { "a": 1 }, "to": {} })
            ),
            one("a", json!(1), Value::Null)
        );
        assert_eq!(
            told_of(
                "user.attributes_changed",
                json!({ "from": { "a": 1 }, "to": { "a": 2 } })
            ),
            one("attributes.a", json!(1), json!(2))
        );
        assert_eq!(
            told_of("tenant.reactivated", json!({})),
            one("suspended", json!(true), json!(false))
        );
        assert_eq!(
            told_of("api_key.revoked", json!({})),
            one("revoked", json!(false), json!(true))
        );
        assert_eq!(
            told_of(
                "user.permission_set",
                json!({ "permission": "p", "effect": "deny", "was": "allow" })
            ),
            one("permissions.p", json!("allow"), json!("deny"))
        );
        assert_eq!(
            told_of("endpoint.redrive_requested", json!({ "selection": "all" })),
            vec![]
        );
    }

    #[test]
    fn what_comes_into_being_was_nothing() {
        assert_eq!(
            told_of("team.created", json!({ "team": "team_1", "name": "Europe" })),
            vec![("name".to_owned(), Some(Value::Null), json!("Europe"))]
        );
        assert_eq!(
            told_of("endpoint.created", json!({ "settings": { "url": "a" } })),
            vec![("url".to_owned(), Some(Value::Null), json!("a"))]
        );
    }

    /// Every event there is, as its golden file has it: what changes something tells a field, and nearly all tell what
    /// it was before.
    #[test]
    fn every_event_tells_its_changes() {
        const TELL_NONE: &[&str] = &[
            "access.dropped.v1",
            "access.limited.v1",
            "command.refused.v1",
            "read.refused.v1",
            "secret.shown.v1",
            "endpoint.discard_requested.v1",
            "endpoint.discard_requested.v2",
            "endpoint.redrive_requested.v1",
            "endpoint.redrive_requested.v2",
            "endpoint.resend_requested.v1",
        ];
        /// What they put in the place of the old is a reference, or the file is of an earlier program.
        const WITHOUT_BEFORE: &[&str] = &[
            "api_key.rotated.v1",
            "endpoint.secret_rotated.v1",
            "invitation.resent.v1",
            "source.secret_rotated.v1",
            "team.described.v1",
            "team.members_removed.v1",
            "user.preferences_changed.v1",
        ];
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/events");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            // What is asked of projections, replays and recoveries changes no tenant's thing.
            if ["projection.", "replay.", "recovery."]
                .iter()
                .any(|kind| name.starts_with(kind))
            {
                continue;
            }
            let golden: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let changes = changes(golden["type"].as_str().unwrap(), &golden["data"]);
            assert_eq!(
                changes.is_empty(),
                TELL_NONE.contains(&name.as_str()),
                "{name}: {changes:?}"
            );
            let complete = changes.iter().all(|change| change.from.is_some());
            assert_eq!(
                complete,
                !WITHOUT_BEFORE.contains(&name.as_str()),
                "{name}: {changes:?}"
            );
        }
    }
}
