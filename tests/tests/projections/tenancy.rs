//! Tenant isolation in PostgreSQL: the database itself hides other tenants' rows, and the service refuses to start
//! where it would not.

use domain::TenantId;
use projections::verify::visible_tenants;
use projections::{OpenError, ReadModels, Settings, Target};

use crate::history::Dice;
use crate::world::{Store, World, tenant};

const TABLES: &[&str] = &[
    "tenants",
    "users",
    "user_roles",
    "roles",
    "role_graphs",
    "permission_users",
    "permission_user_roles",
    "permission_own",
    "permission_roles",
    "permission_role_grants",
    "permission_role_parents",
    "team_trees",
    "teams",
    "team_members",
    "team_former_users",
    "invitations",
    "endpoints",
    "sources",
    "audit",
    "messages",
    "deliveries",
    "attempts",
    "delivery_counts",
    "stats_totals",
    "stats_event_types",
    "stats_minutes",
    "series_events",
    "series_deliveries",
    "series_users",
    "series_user_days",
    "api_keys",
    "settings_versions",
    "usage",
];

fn open(url: &str, migrate: bool) -> impl Future<Output = Result<ReadModels, OpenError>> {
    ReadModels::open(Settings {
        target: Target::Postgres { url: url.to_owned() },
        migrate,
    })
}

/// No filter at all, and still only the rows of the tenant named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_filter_a_query_sees_one_tenant() -> anyhow::Result<()> {
    let mut world = World::new(Store::Postgres).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.live(&mut Dice::new(3), 300).await?;
    let provisioned =
        serde_json::json!({ "id": tenant(1).as_str(), "name": "Acme", "slug": "acme", "plan": null });
    let platform = TenantId::platform();
    world
        .commit(
            &platform,
            "tenant",
            tenant(1).as_str(),
            1,
            vec![("tenant.provisioned", provisioned)],
        )
        .await?;
    for number in [1, 2] {
        let key = format!("key_{number:0>26}");
        let issued = serde_json::json!({ "name": "owner", "scopes": ["*"] });
        world
            .commit(
                &tenant(number),
                "api_key",
                &key,
                1,
                vec![("api_key.issued", issued)],
            )
            .await?;
        let of = tenant(number);
        let changed = serde_json::json!({ "version": 1, "from": {}, "to": { "team_max_depth": 3 } });
        world
            .commit(
                &of,
                "settings",
                of.as_str(),
                1,
                vec![("settings.changed", changed)],
            )
            .await?;
    }
    world.settled(&read_models).await?;
    for table in TABLES {
        let owner = if *table == "tenants" {
            platform.clone()
        } else {
            tenant(1)
        };
        assert_eq!(
            visible_tenants(&read_models, &owner, table).await?,
            [owner.as_str()],
            "{table}"
        );
        let nobody = visible_tenants(&read_models, &tenant(99), table).await?;
        assert!(
            nobody.is_empty(),
            "{table} shows {nobody:?} to a tenant without rows"
        );
    }
    stop.cancel();
    projectors.join().await;
    Ok(())
}

#[tokio::test]
async fn only_the_owner_migrates_and_only_the_others_serve() -> anyhow::Result<()> {
    let database = tests::postgres::database().await?;
    let early = open(&database.projector_url, false).await;
    assert!(matches!(early, Err(OpenError::NotMigrated { .. })), "{early:?}");
    let not_owner = open(&database.projector_url, true).await;
    assert!(
        matches!(not_owner, Err(OpenError::MayNotMigrate { .. })),
        "{not_owner:?}"
    );
    let owner = open(&database.owner_url, true).await;
    assert!(matches!(owner, Err(OpenError::Unfit { .. })), "{owner:?}");
    for url in [&database.projector_url, &database.query_url, &database.url] {
        let read_models = open(url, true).await?;
        let bad = read_models
            .examine()
            .await
            .into_iter()
            .find(|found| found.severity != broker::Severity::Fine);
        assert_eq!(bad, None);
        read_models.close().await;
    }
    Ok(())
}

/// Connecting as a superuser prepares everything, as a developer does.
#[tokio::test]
async fn a_superuser_needs_no_preparation() -> anyhow::Result<()> {
    let database = tests::postgres::database().await?;
    let read_models = open(&database.url, true).await?;
    assert!(
        read_models
            .users(&tenant(1))
            .list(&projections::UserFilter::default(), &projections::Page::default())
            .await?
            .data
            .data
            .is_empty()
    );
    read_models.close().await;
    Ok(())
}

/// Each way to lose the protection is noticed at start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_protection_is_refused() -> anyhow::Result<()> {
    let mut world = World::new(Store::Postgres).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.register(&tenant(1), 1).await?;
    world.settled(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    for (spoil, mend) in [
        (
            "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        ),
        (
            "ALTER TABLE audit NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE audit FORCE ROW LEVEL SECURITY",
        ),
        (
            "REVOKE SELECT ON audit FROM tidings_query",
            "GRANT SELECT ON audit TO tidings_query",
        ),
        (
            "GRANT SELECT (subject) ON event_archive TO tidings_query",
            "REVOKE ALL ON event_archive FROM tidings_query; REVOKE SELECT (subject) ON event_archive FROM tidings_query",
        ),
        (
            "CREATE POLICY leak ON users TO tidings_query USING (true)",
            "DROP POLICY leak ON users",
        ),
        (
            "ALTER TABLE users OWNER TO tidings_query",
            "ALTER TABLE users OWNER TO tidings_owner; GRANT SELECT ON users TO tidings_query",
        ),
    ] {
        world.sql(spoil).await?;
        let refused = world.open().await;
        let refused = refused.err().and_then(|error| error.downcast::<OpenError>().ok());
        assert!(
            matches!(refused, Some(OpenError::Unfit { .. })),
            "after {spoil}: {refused:?}"
        );
        world.sql(mend).await?;
        world.open().await?;
    }
    Ok(())
}
