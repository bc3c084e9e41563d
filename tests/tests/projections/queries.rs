//! Every query, on both databases.

use domain::TenantId;
use domain::endpoint::EndpointSettings;
use projections::{
    AuditFilter, EndpointStatus, EventTypeTotal, MessageFilter, Page, QueryError, ReadModels, StatusCounts,
    UserFilter,
};
use serde_json::json;

use crate::world::{Store, World, at, endpoint_id, event_id, tenant, user_id};

pub(super) fn page(limit: u32) -> Page {
    Page {
        limit: Some(limit),
        cursor: None,
    }
}

/// Folds what was appended, and stops.
pub(super) async fn folded(world: &World) -> anyhow::Result<ReadModels> {
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(read_models)
}

pub(crate) async fn tenants_and_users(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let (acme, platform) = (tenant(1), TenantId::platform());
    let provisioned = json!({ "id": acme.as_str(), "name": "Acme", "slug": "acme", "plan": "team" });
    let provisioned = vec![("tenant.provisioned", provisioned)];
    let renamed = vec![("tenant.renamed", json!({ "from": "Acme", "to": "Acme Ltd" }))];
    let id = acme.as_str();
    world.commit(&platform, "tenant", id, 1, provisioned).await?;
    world.commit(&platform, "tenant", id, 2, renamed).await?;
    world.register(&acme, 1).await?;
    let moved = json!({ "from": "user1@example.org", "to": "ada@example.net" });
    let moved = vec![("user.email_changed", moved)];
    world.commit(&acme, "user", &user_id(1), 2, moved).await?;
    world.register(&tenant(2), 2).await?;
    let read_models = folded(&world).await?;

    let tenants = read_models.tenants();
    assert_eq!(tenants.list(&page(50)).await?.data.data.len(), 1);
    let found = tenants.get(&acme).await?.data.expect("the tenant");
    let shown = (found.name.as_str(), found.slug.as_str(), found.plan.as_deref());
    assert_eq!(shown, ("Acme Ltd", "acme", Some("team")));
    assert!(found.updated_at > found.created_at);

    let users = read_models.users(&acme);
    let listed = users.list(&UserFilter::default(), &page(50)).await?;
    assert_eq!(listed.data.data.len(), 1, "another tenant's user is listed");
    assert_eq!(listed.data.data[0].email, "ada@example.net");
    assert_eq!(listed.positions.len(), 1);
    assert_eq!(users.get(&user_id(2).parse()?).await?.data, None);
    Ok(())
}

pub(crate) async fn endpoints_until_they_are_removed(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let acme = tenant(1);
    two_endpoints(&mut world, &acme).await?;
    let read_models = folded(&world).await?;
    let endpoints = read_models.endpoints(&acme);
    let listed = endpoints.list(&page(50)).await?.data.data;
    assert_eq!(listed.len(), 1, "a removed endpoint is listed");
    let shown = (listed[0].status, listed[0].disabled_reason.as_deref());
    assert_eq!(shown, (EndpointStatus::Disabled, Some("asked for")));
    assert_eq!(listed[0].url, "https://example.org/b");
    assert_eq!(listed[0].event_types, ["invoice.*"]);
    assert_eq!(endpoints.get(&endpoint_id(2)).await?.data, None);
    assert_eq!(
        endpoints.get(&endpoint_id(1)).await?.data.as_ref(),
        Some(&listed[0])
    );
    assert_eq!(read_models.stats(&acme).get(at(0)).await?.data.total_endpoints, 1);
    Ok(())
}

pub(crate) async fn messages_and_figures(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let acme = tenant(1);
    world.register(&acme, 1).await?;
    for (number, event_type) in [(1, "invoice.paid"), (2, "invoice.late"), (3, "invoice.paid")] {
        world.publish(&acme, number, event_type).await?;
    }
    let read_models = folded(&world).await?;
    messages(&read_models, &acme).await?;
    let stats = read_models.stats(&acme).get(at(0)).await?.data;
    assert_eq!(
        (stats.total_events, stats.events_last_24h, stats.total_users),
        (3, 3, 1)
    );
    let total = |event_type: &str, total| EventTypeTotal {
        event_type: event_type.to_owned(),
        total,
    };
    let by_type = [total("invoice.paid", 2), total("invoice.late", 1)];
    assert_eq!(stats.events_by_type, by_type);
    let later = at(25 * 60 * 60 * 1_000);
    assert_eq!(read_models.stats(&acme).get(later).await?.data.events_last_24h, 0);
    let empty = read_models.stats(&tenant(9)).get(at(0)).await?.data;
    assert_eq!(empty.events_by_status, StatusCounts::default());
    Ok(())
}

/// One endpoint changed and disabled, one removed.
async fn two_endpoints(world: &mut World, tenant: &TenantId) -> anyhow::Result<()> {
    let settings = |url: &str| json!({ "url": url, "event_types": ["invoice.*"], "description": "books" });
    serde_json::from_value::<EndpointSettings>(settings("https://example.org/a"))?;
    let (one, two) = (endpoint_id(1), endpoint_id(2));
    let created = || {
        vec![(
            "endpoint.created",
            json!({ "settings": settings("https://example.org/a") }),
        )]
    };
    world
        .commit(tenant, "endpoint", one.as_str(), 1, created())
        .await?;
    world
        .commit(tenant, "endpoint", two.as_str(), 1, created())
        .await?;
    let changed =
        json!({ "from": settings("https://example.org/a"), "to": settings("https://example.org/b") });
    let changes = vec![
        ("endpoint.changed", changed),
        ("endpoint.redrive_requested", json!({ "selection": "all" })),
        ("endpoint.disabled", json!({ "reason": "asked for" })),
    ];
    world.commit(tenant, "endpoint", one.as_str(), 2, changes).await?;
    world
        .commit(
            tenant,
            "endpoint",
            two.as_str(),
            2,
            vec![("endpoint.removed", json!({}))],
        )
        .await?;
    Ok(())
}

async fn messages(read_models: &ReadModels, tenant: &TenantId) -> anyhow::Result<()> {
    let messages = read_models.messages(tenant);
    let ids = async |filter: MessageFilter| -> anyhow::Result<Vec<String>> {
        let listed = messages.list(&filter, &page(50)).await?.data.data;
        Ok(listed.iter().map(|message| message.id.to_string()).collect())
    };
    let id = |number| event_id(number).to_string();
    assert_eq!(ids(MessageFilter::default()).await?, [id(3), id(2), id(1)]);
    let paid = MessageFilter {
        event_type: Some("invoice.paid".parse()?),
        ..MessageFilter::default()
    };
    assert_eq!(ids(paid).await?, [id(3), id(1)]);
    let window = MessageFilter {
        since: Some(at(2_000)),
        until: Some(at(3_000)),
        ..MessageFilter::default()
    };
    assert_eq!(ids(window).await?, [id(2)]);
    let found = messages.get(&event_id(2)).await?.data.expect("the message");
    assert_eq!((found.position.to_string(), found.size), ("m0-2".to_owned(), 17));
    assert_eq!(messages.get(&event_id(9)).await?.data, None);
    Ok(())
}

pub(crate) async fn pages_continue_and_foreign_cursors_are_refused(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let acme = tenant(1);
    for number in 1..=7 {
        world.register(&acme, number).await?;
        world.publish(&acme, u64::from(number), "ping").await?;
    }
    let read_models = folded(&world).await?;
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let listing = read_models
            .users(&acme)
            .list(
                &UserFilter::default(),
                &Page {
                    limit: Some(3),
                    cursor,
                },
            )
            .await?
            .data;
        assert!(listing.data.len() <= 3);
        seen.extend(listing.data.into_iter().map(|user| user.id.to_string()));
        cursor = listing.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..=7).rev().map(user_id).collect::<Vec<_>>());

    let mut audited = Vec::new();
    let mut next = Page {
        limit: Some(2),
        cursor: None,
    };
    loop {
        let listing = read_models
            .audit(&acme)
            .list(&AuditFilter::default(), &next)
            .await?
            .data;
        audited.extend(listing.data.into_iter().map(|row| row.position.sequence));
        let Some(cursor) = listing.next_cursor else { break };
        next.cursor = Some(cursor);
    }
    assert_eq!(audited, [7, 6, 5, 4, 3, 2, 1]);

    let of_users = read_models
        .users(&acme)
        .list(&UserFilter::default(), &page(1))
        .await?
        .data
        .next_cursor;
    for cursor in [of_users, Some("nonsense".to_owned()), Some(String::new())] {
        let page = Page { limit: None, cursor };
        let refused = read_models
            .messages(&acme)
            .list(&MessageFilter::default(), &page)
            .await;
        assert!(matches!(refused, Err(QueryError::BadCursor)), "{refused:?}");
        let refused = read_models
            .deliveries(&acme)
            .dead_letters(&projections::DeadLetterFilter::default(), &page)
            .await;
        assert!(matches!(refused, Err(QueryError::BadCursor)), "{refused:?}");
    }
    Ok(())
}
