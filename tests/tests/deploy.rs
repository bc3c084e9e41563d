//! The configuration we ship: that compose.yaml fits the rest, and what PostgreSQL's roles may do on the real server.
//! `deploy_nats.rs` does the same for NATS.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;
use sqlx::{Connection, Executor, PgConnection, Row};
use tests::{postgres, service, tools};

// --- compose.yaml --------------------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
}

#[derive(Deserialize)]
struct Service {
    image: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    networks: Vec<String>,
}

fn compose() -> anyhow::Result<(String, Compose)> {
    let text = std::fs::read_to_string(tools::repository().join("compose.yaml"))?;
    let compose = serde_saphyr::from_str(&text).context("compose.yaml")?;
    Ok((text, compose))
}

#[test]
fn compose_runs_the_tested_versions_and_publishes_only_the_api() -> anyhow::Result<()> {
    let (_, compose) = compose()?;
    assert_eq!(
        compose.services["nats"].image,
        format!("nats:{}-alpine", tools::NATS_VERSION)
    );
    let postgres = compose.services["postgres"]
        .image
        .strip_prefix("postgres:")
        .context("another image")?;
    let major: u32 = postgres.split(['.', '-']).next().unwrap_or_default().parse()?;
    assert!(major >= 15, "PostgreSQL {major}");
    for (name, service) in &compose.services {
        let published: &[&str] = if name == "gateway" {
            &["127.0.0.1:8080:8080"]
        } else {
            &[]
        };
        assert_eq!(service.ports, published, "{name}");
        let outside = service.networks.iter().any(|network| network == "outside");
        assert_eq!(
            outside,
            ["gateway", "delivery"].contains(&name.as_str()),
            "{name} {:?}",
            service.networks
        );
    }
    Ok(())
}

#[test]
fn the_image_is_built_with_the_pinned_toolchain() -> anyhow::Result<()> {
    let read = |name| std::fs::read_to_string(tools::repository().join(name));
    let (dockerfile, toolchain) = (read("Dockerfile")?, read("rust-toolchain.toml")?);
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = "));
    let channel = channel.context("no channel")?.trim_matches('"').to_owned();
    assert!(
        dockerfile.contains(&format!("FROM rust:{channel}-slim-")),
        "not rust {channel}"
    );
    let copied = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY deploy/")?.split(' ').next());
    for file in copied {
        assert!(
            tools::repository().join("deploy").join(file).is_file(),
            "deploy/{file} is missing"
        );
    }
    assert!(
        dockerfile
            .lines()
            .any(|line| line.starts_with("USER ") && !line.contains("root"))
    );
    Ok(())
}

#[test]
fn compose_mounts_files_that_are_there_and_asks_for_secrets_that_are_made() -> anyhow::Result<()> {
    let (text, compose) = compose()?;
    let sources = compose.services.values().flat_map(|service| &service.volumes);
    for source in sources.filter_map(|volume| volume.strip_prefix("./")?.split(':').next()) {
        assert!(tools::repository().join(source).is_file(), "{source} is missing");
    }
    let made = Command::new("sh")
        .arg(tools::repository().join("deploy/make-env.sh"))
        .output()?;
    let made = String::from_utf8(made.stdout)?;
    let made: BTreeMap<&str, &str> = made.lines().filter_map(|line| line.split_once('=')).collect();
    let asked: BTreeSet<&str> = text
        .split("${")
        .skip(1)
        .filter_map(|rest| rest.split(['}', ':']).next())
        .collect();
    assert_eq!(asked, made.keys().copied().collect());
    let different: BTreeSet<&&str> = made.values().collect();
    assert_eq!(different.len(), made.len(), "two secrets are the same");
    Ok(())
}

#[test]
fn each_duty_has_credentials_of_its_own_and_only_migrate_the_owners() -> anyhow::Result<()> {
    let (_, compose) = compose()?;
    let user = |service: &str, setting: &str| -> anyhow::Result<String> {
        let url = compose.services[service]
            .environment
            .get(setting)
            .with_context(|| format!("{service} {setting}"))?;
        let (_, rest) = url.split_once("://").context("not a URL")?;
        Ok(rest.split(':').next().unwrap_or_default().to_owned())
    };
    for (service, nats, database) in [
        ("migrate", "owner", "tidings_owner"),
        ("gateway", "gateway", "tidings_projector"),
        ("delivery", "delivery", "tidings_query"),
    ] {
        assert_eq!(user(service, "TIDINGS_NATS_URL")?, nats);
        assert_eq!(user(service, "TIDINGS_DATABASE_URL")?, database);
    }
    for (name, service) in &compose.services {
        let holds = |secret: &str| service.environment.values().any(|value| value.contains(secret));
        let server = ["nats", "postgres"].contains(&name.as_str());
        assert_eq!(
            holds("${NATS_OWNER_PASSWORD") && !server,
            name == "migrate",
            "{name}"
        );
        assert_eq!(
            holds("${TIDINGS_OWNER_PASSWORD") && !server,
            name == "migrate",
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn compose_sets_only_what_the_binary_knows() -> anyhow::Result<()> {
    let (_, compose) = compose()?;
    let output = Command::new(service::binary()?)
        .args(["config", "--default"])
        .output()?;
    ensure!(
        output.status.success(),
        "tidings config --default: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let known = String::from_utf8(output.stdout)?;
    for name in ["migrate", "gateway", "delivery"] {
        let service = &compose.services[name];
        assert!(
            ["migrate", "serve"].contains(&service.command[0].as_str()),
            "{name}"
        );
        for variable in service.environment.keys() {
            let key = variable
                .strip_prefix("TIDINGS_")
                .context("a setting of something else")?
                .to_lowercase();
            assert!(known.contains(&format!("\n# {key} = ")), "{name} sets {variable}");
        }
    }
    Ok(())
}

// --- deploy/postgres -----------------------------------------------------------------------------------------

#[tokio::test]
async fn no_serving_role_is_owner_or_above_row_level_security() -> anyhow::Result<()> {
    let database = postgres::database().await?;
    let mut superuser = PgConnection::connect(&database.url).await?;
    let roles = superuser
        .fetch_all(
            "SELECT rolname::text AS name, \
                    rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls AS above, \
                    rolname = (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()) \
                      AS owner, \
                    (SELECT string_agg(roleid::regrole::text, ' ') FROM pg_auth_members WHERE member = pg_roles.oid) \
                      AS member_of \
             FROM pg_roles WHERE rolname LIKE 'tidings%' ORDER BY 1",
        )
        .await?;
    let roles: Vec<(String, bool, bool, Option<String>)> = roles
        .iter()
        .map(|row| {
            (
                row.get("name"),
                row.get("above"),
                row.get("owner"),
                row.get("member_of"),
            )
        })
        .collect();
    let plain = |name: &str, owner| (name.to_owned(), false, owner, None);
    let projector = (
        "tidings_projector".to_owned(),
        false,
        false,
        Some("tidings_query".to_owned()),
    );
    assert_eq!(
        roles,
        [
            plain("tidings_owner", true),
            projector,
            plain("tidings_query", false)
        ]
    );
    Ok(())
}

#[tokio::test]
async fn each_role_has_its_rights_on_what_the_owner_makes() -> anyhow::Result<()> {
    let database = postgres::database().await?;
    let mut owner = PgConnection::connect(&database.owner_url).await?;
    let mut projector = PgConnection::connect(&database.projector_url).await?;
    let mut query = PgConnection::connect(&database.query_url).await?;
    owner
        .execute("CREATE TABLE users (id BIGINT PRIMARY KEY)")
        .await?;
    projector.execute("INSERT INTO users VALUES (1)").await?;
    assert_eq!(query.fetch_all("SELECT id FROM users").await?.len(), 1);
    for forbidden in [
        "INSERT INTO users VALUES (2)",
        "DELETE FROM users",
        "TRUNCATE users",
        "CREATE TABLE t ()",
    ] {
        assert!(
            query.execute(forbidden).await.is_err(),
            "tidings_query may {forbidden}"
        );
    }
    for forbidden in [
        "DROP TABLE users",
        "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE t ()",
    ] {
        assert!(
            projector.execute(forbidden).await.is_err(),
            "tidings_projector may {forbidden}"
        );
    }
    let wrong = database.query_url.replace(postgres::PASSWORD, "another");
    assert!(
        PgConnection::connect(&wrong).await.is_err(),
        "passwords are asked for"
    );
    Ok(())
}
