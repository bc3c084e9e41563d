//! Tenant isolation in PostgreSQL: the database itself hides other tenants' rows, and the service refuses to start
//! where it would not.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use broker::Subject;
use broker::layout::Log;
use domain::proof::Outline;
use domain::{Commit, EventTypeId, TenantId};
use projections::verify::visible_tenants;
use projections::{
    AuditFilter, DeadLetterFilter, DeliveryFilter, Interval, InvitationFilter, MessageFilter, Metric,
    OpenError, Page, ReadModels, Series, SeriesQuery, Settings, Standing, Target, TeamFilter, UserFilter,
    models,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::history::Dice;
use crate::rebuild::{plan, rebuild, standing_of};
use crate::world::{ALL, Store, World, at, endpoint_id, role_id, tenant, user_id};

fn open(url: &str, migrate: bool) -> impl Future<Output = Result<ReadModels, OpenError>> {
    ReadModels::open(Settings {
        target: Target::Postgres { url: url.to_owned() },
        migrate,
    })
}

/// The tables that a tenant's rows are in, each with its projection.
fn tables() -> Vec<(&'static str, &'static str)> {
    let known = models::all();
    let kept = known.iter().filter(|projection| !projection.lasting());
    let tables = kept.flat_map(|projection| {
        let name = projection.name();
        projection.tables().iter().map(move |table| (name, *table))
    });
    let of_tenants = tables.filter(|(_, table)| {
        table
            .columns
            .first()
            .is_some_and(|column| column.name == "tenant")
    });
    of_tenants
        .map(|(projection, table)| (projection, table.name))
        .collect()
}

/// Something of every kind for two tenants and more.
async fn inhabited(world: &mut World) -> anyhow::Result<()> {
    world.live(&mut Dice::new(3), 300).await?;
    let platform = TenantId::platform();
    for number in [1, 2] {
        let of = tenant(number);
        let slug = format!("acme-{number}");
        let provisioned = json!({ "id": of.as_str(), "name": "Acme", "slug": slug, "plan": null });
        let provisioned = vec![("tenant.provisioned", provisioned)];
        world
            .commit(&platform, "tenant", of.as_str(), 1, provisioned)
            .await?;
        let key = format!("key_{number:0>26}");
        let issued = vec![(
            "api_key.issued",
            json!({ "name": format!("owner {number}"), "scopes": ["*"] }),
        )];
        world.commit(&of, "api_key", &key, 1, issued).await?;
        let days = 30_000 + number;
        let to = json!({ "team_max_depth": 3, "audit_retention_days": days });
        let changed = vec![("settings.changed", json!({ "version": 1, "from": {}, "to": to }))];
        world.commit(&of, "settings", of.as_str(), 1, changed).await?;
        let event_type = format!("invoice.paid{number}");
        let registered =
            json!({ "name": event_type, "version": 1, "schema": { "const": number }, "description": null });
        let registered = vec![("event_type.registered", registered)];
        let id = EventTypeId::derive(&event_type.parse()?);
        world
            .commit(&of, "event_type", id.as_str(), 1, registered)
            .await?;
        let source = json!({
            "name": format!("Shop {number}"), "event_type": { "from": "header", "header": "x-topic", "prefix": "shop" },
            "rate_limit": { "per_seconds": 1, "requests": 100 }, "tolerance_seconds": 300,
            "verification": {
                "encoding": "hex", "hash": "sha256", "header": "x-signature", "id": "/id", "key": "text",
                "prefix": "sha256=", "scheme": "hmac",
            },
        });
        let created = vec![("source.created", json!({ "settings": source }))];
        let id = format!("src_{number:0>26}");
        world.commit(&of, "source", &id, 1, created).await?;
        role(world, &of, role_id(1_000_000 + number)).await?;
        let user = user_id(1_000_000 + number);
        let email = format!("of{number}@example.org");
        let rights = json!({ "permission": "teams.read.tenant", "effect": "allow" });
        let events = vec![
            ("user.registered", json!({ "email": email, "name": "Eve" })),
            (
                "user.role_granted",
                json!({ "role": role_id(1_000_000 + number) }),
            ),
            ("user.permission_set", rights),
        ];
        world.commit(&of, "user", &user, 1, events).await?;
        let id = endpoint_id(1_000_000 + number);
        let settings = json!({ "url": format!("https://example.org/{number}"), "event_types": ["*"], "description": null });
        let created = vec![("endpoint.created", json!({ "settings": settings }))];
        world.commit(&of, "endpoint", id.as_str(), 1, created).await?;
    }
    Ok(())
}

/// One more role of a tenant's.
async fn role(world: &mut World, of: &TenantId, id: String) -> anyhow::Result<()> {
    let subject = Subject::new(Commit::subject(of, "roles", of.as_str()))?;
    let last = world.engine.log(Log::Events(0)).last(&subject).await?;
    let last = last.map(|record| Commit::decode(&record.payload)).transpose()?;
    let version = last.map_or(0, |commit| commit.last_version());
    let role = json!({
        "role": id, "name": "Own", "description": null, "permissions": ["users.read.tenant"], "inherits": [],
    });
    let defined = vec![("role.defined", role)];
    world
        .commit(of, "roles", of.as_str(), version + 1, defined)
        .await?;
    Ok(())
}

/// No filter at all, and still only the rows of the tenant named: in every table of every read model, and in its copy
/// once that was switched to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_filter_a_query_sees_one_tenant() -> anyhow::Result<()> {
    let mut world = World::new(Store::Postgres).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    inhabited(&mut world).await?;
    world.settled(&read_models).await?;
    assert!(tables().len() >= 38, "only {:?}", tables());
    for generation in 0..2 {
        for (projection, table) in tables() {
            assert_eq!(
                standing_of(&read_models, projection, Standing::Live).await?,
                [generation]
            );
            let owner = if table == "tenants" {
                TenantId::platform()
            } else {
                tenant(1)
            };
            let name = format!("{table} of generation {generation}");
            assert_eq!(
                visible_tenants(&read_models, &owner, table).await?,
                [owner.as_str()],
                "{name}"
            );
            let nobody = visible_tenants(&read_models, &tenant(99), table).await?;
            assert!(
                nobody.is_empty(),
                "{name} shows {nobody:?} to a tenant without rows"
            );
        }
        if generation == 0 {
            let never = CancellationToken::new();
            rebuild(&world, &read_models)
                .run("rpl_1", &plan(ALL), &never)
                .await?;
        }
    }
    stop.cancel();
    projectors.join().await;
    Ok(())
}

/// Every query, with the program's filter taken out of its statements: on PostgreSQL each answers as if it were there.
/// On SQLite, where nothing else confines them, they answer with others' rows, so it was taken out indeed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_programs_filter_every_query_answers_the_same() -> anyhow::Result<()> {
    for store in [Store::Postgres, Store::Sqlite] {
        let mut world = World::new(store).await?;
        let read_models = world.open().await?;
        let (projectors, stop) = world.start(&read_models);
        inhabited(&mut world).await?;
        world.settled(&read_models).await?;
        for generation in 0..2 {
            let (unfiltered, seen) = read_models.unfiltered();
            // What one tenant's rows hide by chance, those of the other do not.
            let (mut queries, mut different) = (BTreeSet::new(), BTreeSet::new());
            for (own, other) in [(1, 2), (2, 1)] {
                let with = every_query(&read_models, own, other).await?;
                let without = every_query(&unfiltered, own, other).await?;
                for (query, expected) in with {
                    queries.insert(query);
                    if without[query] != expected {
                        different.insert(query);
                    }
                }
            }
            assert!(queries.len() >= 42, "only {} queries", queries.len());
            let same: Vec<_> = queries.difference(&different).copied().collect();
            let expected: Vec<_> = match store {
                Store::Postgres => queries.into_iter().collect(),
                Store::Sqlite => CONFINED_OTHERWISE.to_vec(),
            };
            assert_eq!(same, expected, "on {store:?}, generation {generation}");
            covered(&seen.statements(), generation);
            if generation == 0 {
                let never = CancellationToken::new();
                rebuild(&world, &read_models)
                    .run("rpl_1", &plan(ALL), &never)
                    .await?;
            }
        }
        stop.cancel();
        projectors.join().await;
    }
    Ok(())
}

/// That every statement had a filter, and that together they read every table of a tenant's.
fn covered(statements: &[String], generation: i64) {
    for statement in statements {
        assert!(
            statement.contains("OR 1 = 1"),
            "no filter was taken out of {statement}"
        );
    }
    let suffix = if generation == 0 {
        String::new()
    } else {
        format!("_g{generation}")
    };
    let is_read = |table: &str| {
        let table = format!("{table}{suffix}");
        let mut words = statements.iter().flat_map(|statement| {
            statement.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
        });
        words.any(|word| word == table)
    };
    let unread: Vec<_> = tables()
        .into_iter()
        .map(|(_, table)| table)
        .filter(|table| !is_read(table))
        .collect();
    assert_eq!(unread, FOLDED_ONLY, "of generation {generation}");
}

/// Tables that only folds read.
const FOLDED_ONLY: &[&str] = &["role_graphs", "team_trees", "series_user_days"];

/// Queries that answer the same with every tenant's rows: what they ask for is one tenant's by itself.
const CONFINED_OTHERWISE: &[&str] = &["a tenant", "tenants"];

fn page() -> Page {
    Page {
        limit: Some(200),
        cursor: None,
    }
}

/// What each query answers a tenant, also of ids that are another's.
async fn every_query(
    read_models: &ReadModels,
    own: u32,
    other: u32,
) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let (own, foreign, page, now) = (tenant(own), tenant(other), page(), at(10_000_000_000));
    let user = user_id(1_000_000 + other).parse()?;
    let role = role_id(1_000_000 + other).parse()?;
    let team = format!("team_{:0>26}", 1).parse()?;
    let event_type = format!("invoice.paid{other}").parse()?;
    let mut answers = BTreeMap::new();
    macro_rules! asked {
        ($($name:literal: $query:expr),* $(,)?) => {
            $(answers.insert($name, format!("{:?}", $query.await.context($name)?.data));)*
        };
    }
    let users = read_models.users(&own);
    let of_role = UserFilter {
        role: Some(role_id(other).parse()?),
        ..UserFilter::default()
    };
    asked! {
        "users": users.list(&UserFilter::default(), &page),
        "users of a role": users.list(&of_role, &page),
        "a user": users.get(&user),
        "preferences": users.preferences(&user),
        "roles": read_models.roles(&own).list(&page),
        "a role": read_models.roles(&own).get(&role),
        "holders": read_models.permissions(&own).holders(&"teams.read.tenant".parse()?, &page),
        "holders of a role": read_models.permissions(&own).role_holders(&role, &page),
        "teams": read_models.teams(&own).list(&TeamFilter::default(), &page),
        "teams of a member": read_models.teams(&own).list(&TeamFilter { member: Some(user_id(1).parse()?), parent: None }, &page),
        "a team": read_models.teams(&own).get(&team),
        "members": read_models.teams(&own).members(&team, &page),
        "keys": read_models.api_keys(&own).list(&page),
        "a key": read_models.api_keys(&own).get(&format!("key_{other:0>26}").parse()?),
        "endpoints": read_models.endpoints(&own).list(&page),
        "an endpoint": read_models.endpoints(&own).get(&endpoint_id(1_000_000 + other)),
        "tenants": read_models.tenants().list(&page),
        "a tenant": read_models.tenants().get(&foreign),
        "sources": read_models.sources(&own).list(&page),
        "a source": read_models.sources(&own).get(&format!("src_{other:0>26}").parse()?),
        "event types": read_models.event_types(&own).list(&page),
        "an event type": read_models.event_types(&own).get(&event_type),
        "a version": read_models.event_types(&own).version(&event_type, 1),
        "settings": read_models.settings(&own).newest(),
        "settings that were": read_models.settings(&own).history(&page),
        "usage": read_models.usage(&own).get(),
        "figures": read_models.stats(&own).get(now),
    }
    let invitations = read_models.invitations(&own);
    let filter = InvitationFilter { status: None, now };
    let invitation = read_models.invitations(&foreign).list(&filter, &page).await?;
    let invitation = invitation.data.data.first().context("an invitation")?.id.clone();
    let messages = read_models.messages(&own);
    let message = read_models
        .messages(&foreign)
        .list(&MessageFilter::default(), &page)
        .await?;
    let message = message.data.data.first().context("a message")?.id.clone();
    let deliveries = read_models.deliveries(&own);
    let delivery = read_models
        .deliveries(&foreign)
        .list(&DeliveryFilter::default(), &page)
        .await?;
    let delivery = delivery.data.data.first().context("a delivery")?.id.clone();
    asked! {
        "invitations": invitations.list(&filter, &page),
        "an invitation": invitations.get(&invitation, now),
        "messages": messages.list(&MessageFilter::default(), &page),
        "a message": messages.get(&message),
        "deliveries": deliveries.list(&DeliveryFilter::default(), &page),
        "a delivery": deliveries.get(&delivery),
        "attempts": deliveries.attempts(&delivery),
        "dead letters": deliveries.dead_letters(&DeadLetterFilter::default(), &page),
        "endpoints of dead letters": deliveries.dead_letter_endpoints(&DeadLetterFilter::default()),
    }
    let audit = read_models.audit(&own);
    let by = AuditFilter {
        action: Some("user.registered".to_owned()),
        ..AuditFilter::default()
    };
    asked! {
        "trail": audit.list(&AuditFilter::default(), &page),
        "trail of an action": audit.list(&by, &page),
    }
    let followed = audit.after(&by, "e0-0".parse()?, 200).await?;
    answers.insert("trail as it grows", format!("{:?}", followed.rows));
    trees(read_models, (&own, &foreign), &mut answers).await?;
    let series = read_models.series(&own);
    for (name, metric, of) in [
        ("series of events", Metric::Events, Series::All),
        (
            "series of a type",
            Metric::Events,
            Series::Type("invoice.paid".parse()?),
        ),
        ("series of deliveries", Metric::Deliveries, Series::All),
        ("series of users", Metric::ActiveUsers, Series::All),
    ] {
        let wanted = SeriesQuery::new(metric, Interval::Day, of, Some(at(0)), at(86_400_000))?;
        answers.insert(name, format!("{:?}", series.get(&wanted).await?.data));
    }
    Ok(answers)
}

async fn trees(
    read_models: &ReadModels,
    (own, foreign): (&TenantId, &TenantId),
    answers: &mut BTreeMap<&'static str, String>,
) -> anyhow::Result<()> {
    let mut tree = read_models.tree(own, 0).snapshot().await?;
    let state = tree.state();
    answers.insert("tree", format!("{state:?}"));
    let foreign = read_models.tree(foreign, 0).snapshot().await?.state().last;
    let leaf = tree.leaf(foreign).await?;
    answers.insert("leaf", format!("{leaf:?}"));
    answers.insert("leaves", format!("{:?}", tree.leaves(20, state.size, 200).await?));
    let outline = Outline::inclusion(state.size / 2, state.size).context("an outline")?;
    let proof = tree.subtrees(&[&outline]).await?.prove(&outline);
    answers.insert("proof", format!("{proof:?}"));
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
            .list(&UserFilter::default(), &Page::default())
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
