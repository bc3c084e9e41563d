//! Entries of the audit trail as events of the Open Cybersecurity Schema Framework, version 1.3.0
//! (<https://schema.ocsf.io/1.3.0/>). `docs/audit-trail.md` has the mapping as a table.

use domain::TenantId;
use projections::{AuditRow, Outcome};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::export::Row;

/// The version of the schema.
const VERSION: &str = "1.3.0";

/// An entry as an OCSF event: a line of an export.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Event(Value);

impl Row for Event {
    /// There is no such form as CSV.
    const COLUMNS: &'static [&'static str] = &[];

    fn cells(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A class of the schema, and what of it an entry is.
struct Class {
    category: (u32, &'static str),
    uid: u32,
    name: &'static str,
    activity: (u32, &'static str),
}

/// An event of the category Identity & Access Management.
fn iam(uid: u32, name: &'static str, activity: (u32, &'static str)) -> Class {
    Class {
        category: (3, "Identity & Access Management"),
        uid,
        name,
        activity,
    }
}

fn account(activity: (u32, &'static str)) -> Class {
    iam(3001, "Account Change", activity)
}

fn access(gives: bool) -> Class {
    let activity = if gives {
        (1, "Assign Privileges")
    } else {
        (2, "Revoke Privileges")
    };
    iam(3005, "User Access Management", activity)
}

fn api(activity: (u32, &'static str)) -> Class {
    Class {
        category: (6, "Application Activity"),
        uid: 6003,
        name: "API Activity",
        activity,
    }
}

const CREATE: (u32, &str) = (1, "Create");
const READ: (u32, &str) = (2, "Read");
const UPDATE: (u32, &str) = (3, "Update");
const DELETE: (u32, &str) = (4, "Delete");

impl Class {
    fn of(row: &AuditRow) -> Self {
        let allows = |field: &str| row.data.get(field).is_some_and(|effect| effect == "allow");
        match row.action.as_str() {
            "user.registered" => account((1, "Create")),
            "user.reactivated" => account((2, "Enable")),
            "user.deactivated" => account((5, "Disable")),
            "user.removed" => account((6, "Delete")),
            "user.role_granted" => access(true),
            "user.role_revoked" => access(false),
            "user.permission_set" => access(allows("effect")),
            "user.permission_cleared" => access(!allows("was")),
            "secret.shown" | "read.refused" => api(READ),
            "access.dropped" | "access.limited" => api((99, "Other")),
            "command.refused" => api(of_command(&row.command)),
            action if action.starts_with("user.") => account((99, "Update")),
            action => api(of_action(action)),
        }
    }

    fn is_api(&self) -> bool {
        self.uid == 6003
    }
}

fn of_action(action: &str) -> (u32, &'static str) {
    match action.split_once('.').map(|(_, what)| what) {
        Some("created" | "registered" | "issued" | "defined" | "provisioned" | "placed") => CREATE,
        Some("removed" | "revoked" | "retired" | "terminated" | "expired" | "released" | "merged") => DELETE,
        _ => UPDATE,
    }
}

fn of_command(command: &str) -> (u32, &'static str) {
    let begins = |words: &[&str]| words.iter().any(|word| command.starts_with(word));
    if begins(&[
        "Create",
        "Register",
        "Issue",
        "Invite",
        "Define",
        "Provision",
        "Import",
        "Place",
    ]) {
        CREATE
    } else if begins(&["Remove", "Revoke", "Retire", "Terminate", "Delete", "Release"]) {
        DELETE
    } else {
        UPDATE
    }
}

impl Event {
    /// An entry of a tenant's trail.
    pub(super) fn of(tenant: &TenantId, row: &AuditRow) -> Self {
        let class = Class::of(row);
        let (activity, activity_name) = class.activity;
        let (category, category_name) = class.category;
        let refused = row.outcome == Outcome::Refused;
        let mut event = json!({
            "category_uid": category,
            "category_name": category_name,
            "class_uid": class.uid,
            "class_name": class.name,
            "activity_id": activity,
            "activity_name": activity_name,
            "type_uid": u64::from(class.uid) * 100 + u64::from(activity),
            "type_name": format!("{}: {activity_name}", class.name),
            "time": row.at.as_millis(),
            "severity_id": if refused { 2 } else { 1 },
            "severity": if refused { "Low" } else { "Informational" },
            "status_id": if refused { 2 } else { 1 },
            "status": if refused { "Failure" } else { "Success" },
            "message": message(row),
            "metadata": metadata(tenant, row),
            "actor": { "user": actor(&row.actor) },
            "src_endpoint": source(row),
            "unmapped": unmapped(row),
        });
        if let Some(problem) = row.data.get("problem").filter(|_| refused) {
            event["status_code"] = problem.clone();
        }
        if class.is_api() {
            event["api"] = operation(row);
            event["resources"] = json!([resource(row)]);
        } else {
            event["user"] = user(row);
        }
        if class.uid == 3005 {
            let given = row.data.get("role").or_else(|| row.data.get("permission"));
            event["privileges"] = json!([given]);
        }
        Self(event)
    }
}

fn message(row: &AuditRow) -> String {
    let (action, kind, id) = (&row.action, &row.resource_type, &row.resource_id);
    match (row.outcome, row.data.get("problem").and_then(Value::as_str)) {
        (Outcome::Refused, Some(problem)) => format!("{} of {kind} {id} was refused: {problem}", row.command),
        _ => format!("{action}: {kind} {id}"),
    }
}

fn metadata(tenant: &TenantId, row: &AuditRow) -> Value {
    let mut metadata = json!({
        "version": VERSION,
        "uid": format!("{}.{}", row.position, row.version),
        "event_code": row.action,
        "log_name": "audit",
        "tenant_uid": tenant.as_str(),
        "product": {
            "name": "Tidings",
            "vendor_name": "Tidings",
            "version": env!("CARGO_PKG_VERSION"),
            "feature": { "name": "audit" },
        },
    });
    if let Some(correlation) = &row.correlation_id {
        metadata["correlation_uid"] = json!(correlation);
    }
    metadata
}

/// Who acted: a key, the platform's administrator, who holds an invitation, or a part of the service.
fn actor(label: &str) -> Value {
    let (type_id, type_name) = match label {
        "platform-admin" => (2, "Admin"),
        _ if label.starts_with("inv_") => (1, "User"),
        _ if label.starts_with("system:") => (3, "System"),
        _ => (99, "API key"),
    };
    json!({ "uid": label, "type_id": type_id, "type": type_name })
}

/// What the service itself does comes from no address.
fn source(row: &AuditRow) -> Value {
    match &row.origin {
        Some(address) => json!({ "ip": address }),
        None => json!({ "svc_name": "tidings" }),
    }
}

fn operation(row: &AuditRow) -> Value {
    let mut operation = json!({ "operation": row.command, "service": { "name": "tidings" } });
    if let Some(request) = &row.request_id {
        operation["request"] = json!({ "uid": request });
    }
    if row.outcome == Outcome::Refused
        && let Some(status) = row.data.get("status")
    {
        operation["response"] = json!({ "code": status, "error": row.data["problem"] });
    }
    operation
}

fn resource(row: &AuditRow) -> Value {
    let mut resource = json!({ "type": row.resource_type });
    // One that was to come into being has no id yet; its kind stands for it.
    let (field, value) = match row.resource_id.as_str() {
        "" => ("name", &row.resource_type),
        _ => ("uid", &row.resource_id),
    };
    resource[field] = json!(value);
    resource
}

/// The account that was changed.
fn user(row: &AuditRow) -> Value {
    let mut user = json!({ "uid": row.resource_id, "type_id": 1, "type": "User" });
    for (field, of) in [("email", "email_addr"), ("name", "full_name")] {
        if let Some(Value::String(text)) = row.data.get(field) {
            user[of] = json!(text);
        }
    }
    user
}

/// What the schema has no place for.
fn unmapped(row: &AuditRow) -> Value {
    json!({
        "position": row.position,
        "version": row.version,
        "command": row.command,
        "command_id": row.command_id,
        "request_id": row.request_id,
        "causation_id": row.causation_id,
        "traceparent": row.traceparent,
        "changes": row.changes,
        "data": row.data,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use domain::{Position, Source, Timestamp};

    use super::*;

    fn row(action: &str, data: &Value) -> AuditRow {
        let refused = action.ends_with(".refused");
        AuditRow {
            position: Position {
                source: Source::Events,
                shard: 0,
                sequence: 42,
            },
            version: 3,
            at: Timestamp::from_millis(1_614_265_330_007),
            actor: "key_00000000000000000000000009".into(),
            action: action.into(),
            command: "RemoveUser".into(),
            resource_type: "user".into(),
            resource_id: if refused { String::new() } else { "usr_1".into() },
            outcome: if refused {
                Outcome::Refused
            } else {
                Outcome::Success
            },
            request_id: Some("req-1".into()),
            origin: (!refused).then(|| "192.0.2.7".into()),
            command_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
            correlation_id: Some("order-7".into()),
            causation_id: None,
            traceparent: None,
            changes: domain::changes(action, data),
            data: data.clone(),
        }
    }

    fn folder(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../schemas")
            .join(name)
    }

    /// Every event there is, against what version 1.3.0 requires of its three classes, with their activities.
    #[test]
    fn every_event_fits_its_class() {
        let schema: Value =
            serde_json::from_slice(&std::fs::read(folder("ocsf/audit-1.3.0.json")).unwrap()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let tenant = TenantId::platform();
        let mut classes = std::collections::BTreeSet::new();
        for entry in std::fs::read_dir(folder("events")).unwrap() {
            let golden: Value =
                serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
            let action = golden["type"].as_str().unwrap();
            let Event(event) = Event::of(&tenant, &row(action, &golden["data"]));
            let wrong: Vec<_> = validator
                .iter_errors(&event)
                .map(|error| error.to_string())
                .collect();
            assert!(wrong.is_empty(), "{action}: {wrong:?}\n{event:#}");
            classes.insert(event["type_uid"].as_u64().unwrap());
        }
        for type_uid in [
            300_101, 300_102, 300_105, 300_106, 300_501, 300_502, 600_301, 600_302, 600_303, 600_304,
        ] {
            assert!(classes.contains(&type_uid), "no event is a {type_uid}");
        }
    }

    #[test]
    fn what_is_missing_is_noticed() {
        let schema: Value =
            serde_json::from_slice(&std::fs::read(folder("ocsf/audit-1.3.0.json")).unwrap()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let Event(whole) = Event::of(&TenantId::platform(), &row("endpoint.removed", &json!({})));
        for field in [
            "actor",
            "api",
            "src_endpoint",
            "metadata",
            "time",
            "severity_id",
            "type_uid",
        ] {
            let mut event = whole.clone();
            event.as_object_mut().unwrap().remove(field);
            assert!(!validator.is_valid(&event), "{field} is not missed");
        }
    }
}
