//! Searching the audit trail.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::ensure;
use domain::{Commit, TenantId};
use projections::{AuditFilter, Page, ReadModels};
use serde_json::{Value, json};

use crate::queries::{folded, page};
use crate::world::{PATIENCE, Store, World, at, tenant, user_id};

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

/// A commit of today; those of [`World`] are years old.
async fn today(world: &mut World, tenant: &TenantId, number: u32) -> anyhow::Result<()> {
    let data = json!({ "email": "new@example.org", "name": "New" });
    let mut commit = world.record(
        tenant,
        "user",
        &user_id(number),
        1,
        vec![("user.registered", data)],
    );
    commit.meta.at = SystemTime::now().into();
    let subject = Commit::subject(tenant, "user", &user_id(number));
    let log = broker::layout::Log::Events(0);
    world
        .append(log, subject, format!("today-{number}"), commit.encode())
        .await?;
    Ok(())
}

async fn shown(read_models: &ReadModels, tenant: &TenantId) -> anyhow::Result<usize> {
    let users = AuditFilter {
        action: Some("user.registered".to_owned()),
        ..AuditFilter::default()
    };
    Ok(read_models
        .audit(tenant)
        .list(&users, &page(50))
        .await?
        .data
        .data
        .len())
}

/// Projectors begin by removing what is too old: starts some, and waits until a tenant has only so many entries, which
/// a legal hold would show.
async fn removed(
    world: &World,
    read_models: &ReadModels,
    tenant: &TenantId,
    left: &str,
) -> anyhow::Result<()> {
    let (projectors, stop) = world.start(read_models);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let rows = projections::verify::dump(read_models).await?;
        let of = |row: &&String| row.contains(tenant.as_str()) && row.contains("action=user.registered");
        let count = rows["audit"].iter().filter(of).count().to_string();
        if count == left {
            break;
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "{count} entries are there, not {left}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn what_is_past_its_retention_is_removed(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let (acme, other) = (tenant(1), tenant(2));
    for number in 0..3 {
        world.register(&acme, number).await?;
        world.register(&other, 10 + number).await?;
    }
    today(&mut world, &acme, 5).await?;
    let days = |version: u64, days: Value| {
        let to = if days.is_null() {
            json!({})
        } else {
            json!({ "audit_retention_days": days })
        };
        vec![(
            "settings.changed",
            json!({ "version": version, "from": {}, "to": to }),
        )]
    };
    let placed = vec![("legal_hold.placed", json!({ "from": null, "to": "Case 7" }))];
    world
        .commit(&acme, "legal_hold", acme.as_str(), 1, placed)
        .await?;
    world
        .commit(&acme, "settings", acme.as_str(), 1, days(1, json!(30)))
        .await?;
    let read_models = folded(&world).await?;
    assert_eq!(shown(&read_models, &acme).await?, 4, "a hold keeps everything");
    removed(&world, &read_models, &acme, "4").await?;

    let released = vec![("legal_hold.released", json!({ "from": "Case 7" }))];
    world
        .commit(&acme, "legal_hold", acme.as_str(), 2, released)
        .await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    assert_eq!(
        shown(&read_models, &acme).await?,
        1,
        "what is too old is not shown at once"
    );
    stop.cancel();
    projectors.join().await;
    removed(&world, &read_models, &acme, "1").await?;
    assert_eq!(shown(&read_models, &other).await?, 3, "another tenant's are kept");
    world.assert_folded(&read_models).await?;

    // Kept for ever from now on: what was removed stays away, and is no difference from the log.
    world
        .commit(&acme, "settings", acme.as_str(), 2, days(2, Value::Null))
        .await?;
    let read_models = folded(&world).await?;
    assert_eq!(shown(&read_models, &acme).await?, 1);
    world.assert_folded(&read_models).await?;
    world.sql("DELETE FROM audit_removed").await?;
    ensure!(
        world.assert_folded(&read_models).await.is_err(),
        "rows that are missing are not noticed"
    );
    Ok(())
}

/// A search that finds nothing looks at so many entries a page, and gets to the end nevertheless.
pub(crate) async fn a_page_looks_only_so_far(store: Store) -> anyhow::Result<()> {
    const MANY: usize = 12_000;
    let mut world = World::new(store).await?;
    let acme = tenant(1);
    let event = |number: usize| {
        let name = if number == 0 { "Needle" } else { "Hay" };
        ("user.renamed", json!({ "from": "x", "to": name }))
    };
    let events: Vec<_> = (0..MANY).map(event).collect();
    for (number, part) in events.chunks(1_000).enumerate() {
        let first = number as u64 * 1_000 + 1;
        world
            .commit(&acme, "user", &user_id(1), first, part.to_vec())
            .await?;
    }
    // The fold of users would refuse these: the audit trail takes every event.
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    let deadline = std::time::Instant::now() + PATIENCE;
    read_models
        .wait_for(&["audit"], &world.ends().await?, deadline)
        .await?;
    stop.cancel();
    projectors.join().await;
    let filter = AuditFilter {
        q: Some("needle".to_owned()),
        ..AuditFilter::default()
    };
    let (mut pages, mut found, mut cursor) = (0, 0, None);
    loop {
        let page = Page {
            limit: Some(10),
            cursor,
        };
        let listing = read_models.audit(&acme).list(&filter, &page).await?.data;
        found += listing.data.len();
        pages += 1;
        cursor = listing.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((pages, found), (3, 1));
    Ok(())
}
