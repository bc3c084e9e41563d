//! `tidings doctor`: looks at everything, says what to do, and changes nothing. Only on the embedded engine, where
//! there is no data yet, opening makes some.

use std::fs::{self, File, TryLockError};
use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use broker::trust::Watch;
use broker::{Engine, Finding, Severity, Trust};
use serde_json::json;

use crate::cli::Failure;
use crate::config::{Config, Configuration, EngineChoice, Profile, Role};
use crate::installation::{open_engine, open_read_models};
use crate::keys::{ADMIN_FILE, MASTER_FILE};
use crate::profile;

/// 2026-01-01: a clock before the program's own time is wrong.
const EARLIEST: u64 = 1_767_225_600;

/// What the embedded engine locks in its folder.
const LOCK_FILE: &str = "lock";

/// Runs the subcommand: exit code 1 if anything failed.
pub(crate) async fn run(configuration: Configuration, as_json: bool) -> Result<ExitCode, Failure> {
    let config = configuration.parse()?;
    let findings = examine(&config).await;
    if as_json {
        print_json(&findings);
    } else {
        print_table(&findings);
    }
    let failed = findings
        .iter()
        .any(|finding| finding.severity == Severity::Failure);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn finding(severity: Severity, subject: &str, message: impl Into<String>) -> Finding {
    Finding {
        severity,
        subject: subject.to_owned(),
        message: message.into(),
    }
}

async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![configuration(config), clock()];
    findings.extend(profile::forbidden(config));
    findings.push(egress(config));
    if is_in_use(config) {
        let advice = "A running service holds the data folder; its /health/ready tells how it is. Stop it to have the log examined.";
        findings.push(finding(Severity::Warning, "engine", advice));
        findings.extend(key_files(config));
        return findings;
    }
    match open_engine(&looking_only(config)).await {
        Ok(engine) => {
            findings.extend(engine.examine().await);
            findings.extend(key_files(config));
            if config.has(Role::Gateway) || config.has(Role::Projections) {
                findings.extend(read_models(config, engine.as_ref()).await);
            }
            engine.close().await;
        }
        Err(failure) => {
            findings.push(finding(Severity::Failure, "engine", failure.one_line()));
            findings.extend(key_files(config));
        }
    }
    findings
}

/// The same configuration without the right to create what is missing in the log: that is for `tidings migrate`.
fn looking_only(config: &Config) -> Config {
    let mut config = config.clone();
    if let EngineChoice::Cluster(cluster) = &mut config.storage.engine {
        cluster.manage = false;
    }
    config
}

/// Whether a service runs on the embedded engine's folder, which one process can open.
fn is_in_use(config: &Config) -> bool {
    let embedded = matches!(config.storage.engine, EngineChoice::Embedded);
    let lock = File::open(config.storage.data.join(LOCK_FILE)).map(|file| file.try_lock());
    embedded && matches!(lock, Ok(Err(TryLockError::WouldBlock)))
}

fn configuration(config: &Config) -> Finding {
    let engine = match config.storage.engine {
        EngineChoice::Embedded => "embedded",
        EngineChoice::Cluster(_) => "cluster",
    };
    let profile = match config.profile {
        Profile::Development => "development",
        Profile::Production => "production",
    };
    finding(
        Severity::Fine,
        "configuration",
        format!("It is complete: {engine} engine, {profile} profile."),
    )
}

fn clock() -> Finding {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    if now < EARLIEST {
        let advice = "This machine's clock is years behind; set it, and keep it set with NTP: receivers refuse webhooks whose time is more than five minutes off.";
        finding(Severity::Failure, "clock", advice)
    } else {
        finding(Severity::Fine, "clock", "This machine's clock is plausible.")
    }
}

fn egress(config: &Config) -> Finding {
    match config.profile {
        Profile::Development => {
            let advice = "Receivers on this machine's loopback addresses are allowed, as the development profile has it.";
            finding(Severity::Warning, "egress", advice)
        }
        Profile::Production => finding(
            Severity::Fine,
            "egress",
            "Receivers are public, or in the networks of TIDINGS_EGRESS_ALLOW.",
        ),
    }
}

/// The data folder and the keys in it must be their owner's alone.
fn key_files(config: &Config) -> Vec<Finding> {
    let folder = &config.storage.data;
    let paths = [folder.clone(), folder.join(MASTER_FILE), folder.join(ADMIN_FILE)];
    paths.iter().filter_map(|path| permissions(path)).collect()
}

fn permissions(path: &Path) -> Option<Finding> {
    let metadata = fs::metadata(path).ok()?;
    let (mode, name) = (metadata.permissions().mode() & 0o777, path.display().to_string());
    let for_others = mode & 0o077;
    Some(if for_others == 0 {
        finding(Severity::Fine, &name, "Only its owner can read it.")
    } else {
        let right = if metadata.is_dir() { "700" } else { "600" };
        let advice =
            format!("Others than its owner can get at it (mode {mode:o}): run `chmod {right} {name}`.");
        finding(Severity::Failure, &name, advice)
    })
}

async fn read_models(config: &Config, engine: &dyn Engine) -> Vec<Finding> {
    match open_read_models(config).await {
        Ok(read_models) => {
            let mut findings = read_models.examine().await;
            let fences = Arc::new(read_models.clone());
            let watch = Watch::new(Trust::default(), engine, Some(fences));
            findings.extend(watch.examine().await);
            read_models.close().await;
            findings
        }
        Err(failure) => vec![finding(Severity::Failure, "read models", failure.one_line())],
    }
}

fn print_json(findings: &[Finding]) {
    let rows: Vec<_> = findings
        .iter()
        .map(|finding| {
            let severity = match finding.severity {
                Severity::Fine => "fine",
                Severity::Warning => "warning",
                Severity::Failure => "failure",
            };
            json!({ "severity": severity, "subject": finding.subject, "message": finding.message })
        })
        .collect();
    println!("{:#}", json!({ "findings": rows }));
}

fn print_table(findings: &[Finding]) {
    let width = findings
        .iter()
        .map(|finding| finding.subject.chars().count())
        .max()
        .unwrap_or(0)
        .min(48);
    let colours = std::io::stdout().is_terminal();
    for Finding {
        severity,
        subject,
        message,
    } in findings
    {
        let (mark, colour) = match severity {
            Severity::Fine => ("✓", "32"),
            Severity::Warning => ("!", "33"),
            Severity::Failure => ("✗", "31"),
        };
        let mark = if colours {
            format!("\u{1b}[{colour}m{mark}\u{1b}[0m")
        } else {
            mark.to_owned()
        };
        println!("{mark} {subject:width$}  {message}");
    }
    let count = |wanted| {
        findings
            .iter()
            .filter(|finding| finding.severity == wanted)
            .count()
    };
    println!(
        "\n{} failures, {} warnings",
        count(Severity::Failure),
        count(Severity::Warning)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_others_can_read_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join(MASTER_FILE);
        assert_eq!(permissions(&key), None);
        fs::write(&key, "x").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(permissions(&key).unwrap().severity, Severity::Failure);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(permissions(&key).unwrap().severity, Severity::Fine);
    }
}
