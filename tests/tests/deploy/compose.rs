//! That `compose.yaml` and the `Dockerfile` fit each other, the configuration files and the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;
use tests::{service, tools};

#[derive(Deserialize)]
pub(crate) struct Compose {
    pub(crate) services: BTreeMap<String, Service>,
}

#[derive(Deserialize)]
pub(crate) struct Service {
    image: String,
    #[serde(default)]
    pub(crate) command: Vec<String>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    networks: Vec<String>,
    #[serde(default)]
    pub(crate) stop_grace_period: String,
}

/// The file's text, and what it says.
pub(crate) fn compose() -> anyhow::Result<(String, Compose)> {
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
    ] {
        assert_eq!(user(service, "TIDINGS_NATS_URL")?, nats);
        assert_eq!(user(service, "TIDINGS_DATABASE_URL")?, database);
    }
    assert_eq!(user("delivery", "TIDINGS_NATS_URL")?, "delivery");
    let has = |name: &str| -> BTreeSet<&str> {
        let environment = |service: &str| compose.services[service].environment.contains_key(name);
        ["migrate", "gateway", "delivery"]
            .into_iter()
            .filter(|service| environment(service))
            .collect()
    };
    assert_eq!(
        has("TIDINGS_DATABASE_URL"),
        BTreeSet::from(["migrate", "gateway"])
    );
    assert_eq!(has("TIDINGS_ADMIN_KEY"), BTreeSet::from(["gateway"]));
    assert_eq!(has("TIDINGS_MASTER_KEY"), BTreeSet::from(["gateway", "delivery"]));
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
