//! Searching the audit trail.

use std::collections::BTreeMap;

use projections::AuditFilter;
use serde_json::json;

use crate::queries::{folded, page};
use crate::world::{Store, World, at, tenant, user_id};

pub(crate) async fn the_trail_is_searched(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let acme = tenant(1);
    let register = |name: &str| {
        vec![(
            "user.registered",
            json!({ "email": "a@example.org", "name": name }),
        )]
    };
    world
        .commit(&acme, "user", &user_id(1), 1, register("100% Ada_B"))
        .await?;
    world
        .commit(&acme, "user", &user_id(2), 1, register("100 Ada-B ÄÖ"))
        .await?;
    let key = format!("key_{:0>26}", 5);
    let issued = json!({ "name": "owner", "scopes": ["*"] });
    world
        .commit(&acme, "api_key", &key, 1, vec![("api_key.issued", issued)])
        .await?;
    world.register(&tenant(2), 3).await?;
    let read_models = folded(&world).await?;
    let find = async |filter: AuditFilter| -> anyhow::Result<Vec<u64>> {
        let rows = read_models.audit(&acme).list(&filter, &page(50)).await?.data.data;
        Ok(rows.iter().map(|row| row.position.sequence).collect())
    };
    let mut wanted: BTreeMap<&str, (AuditFilter, Vec<u64>)> = BTreeMap::new();
    let none = AuditFilter::default;
    let q = |text: &str| AuditFilter {
        q: Some(text.to_owned()),
        ..none()
    };
    let resource = |text: &str| AuditFilter {
        resource: Some(text.to_owned()),
        ..none()
    };
    wanted.insert("all", (none(), vec![3, 2, 1]));
    wanted.insert("percent", (q("100%"), vec![1]));
    wanted.insert("underscore", (q("ada_b"), vec![1]));
    wanted.insert("case", (q("ADA"), vec![2, 1]));
    wanted.insert("only ASCII folds", (q("äö"), vec![]));
    wanted.insert("as written", (q("ÄÖ"), vec![2]));
    wanted.insert("kind", (resource("user"), vec![2, 1]));
    wanted.insert("id", (resource(&user_id(1)), vec![1]));
    wanted.insert(
        "kind and id",
        (resource(&format!("user/{}", user_id(2))), vec![2]),
    );
    wanted.insert(
        "action",
        (
            AuditFilter {
                action: Some("api_key.issued".to_owned()),
                ..none()
            },
            vec![3],
        ),
    );
    let actor = format!("key_{:0>26}", 1);
    wanted.insert(
        "actor",
        (
            AuditFilter {
                actor: Some(actor),
                ..none()
            },
            vec![2],
        ),
    );
    wanted.insert(
        "window",
        (
            AuditFilter {
                since: Some(at(1)),
                until: Some(at(2)),
                ..none()
            },
            vec![2],
        ),
    );
    for (name, (filter, expected)) in wanted {
        assert_eq!(find(filter).await?, expected, "{name}");
    }
    let row = read_models
        .audit(&acme)
        .list(&resource(&user_id(1)), &page(1))
        .await?
        .data
        .data
        .remove(0);
    assert_eq!(
        (row.action.as_str(), row.command.as_str()),
        ("user.registered", "Something")
    );
    assert_eq!(
        (row.origin.as_deref(), row.request_id.as_deref()),
        (Some("192.0.2.7"), Some("req-0"))
    );
    assert_eq!(row.data["name"], "100% Ada_B");
    Ok(())
}
