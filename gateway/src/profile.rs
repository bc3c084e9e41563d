//! What the production profile refuses.

use broker::{Engine, Finding, Severity};

use crate::cli::Failure;
use crate::config::{Config, EngineChoice, Profile};

/// Settings that production does not allow.
pub(crate) fn forbidden(config: &Config) -> Vec<Finding> {
    let finding = |subject: &str, message: &str| Finding {
        severity: Severity::Failure,
        subject: subject.to_owned(),
        message: message.to_owned(),
    };
    let mut findings = Vec::new();
    if config.profile == Profile::Production && config.keys.master.is_none() {
        if let EngineChoice::Cluster(_) = config.storage.engine {
            findings.push(finding(
                "master_key",
                "A cluster in production needs TIDINGS_MASTER_KEY, the same for every process: `openssl rand -hex 32` makes one.",
            ));
        }
        if !config.http.listen.ip().is_loopback() && matches!(config.storage.engine, EngineChoice::Embedded) {
            findings.push(Finding {
                severity: Severity::Warning,
                ..finding(
                    "master_key",
                    "The master key lies beside the data it protects; set TIDINGS_MASTER_KEY to keep it elsewhere.",
                )
            });
        }
    }
    findings
}

/// In production, refuses to serve what `tidings doctor` calls a failure; what is worth a warning is logged.
pub(crate) async fn enforce(config: &Config, engine: &dyn Engine) -> Result<(), Failure> {
    let mut findings = forbidden(config);
    findings.extend(engine.examine().await);
    let mut failures = Vec::new();
    for Finding {
        severity,
        subject,
        message,
    } in findings
    {
        match severity {
            Severity::Fine => {}
            Severity::Failure if config.profile == Profile::Production => {
                failures.push(format!("{subject}: {message}"));
            }
            Severity::Failure | Severity::Warning => tracing::warn!(subject, "{message}"),
        }
    }
    match failures.as_slice() {
        [] => Ok(()),
        _ => Err(Failure::new(
            failures.join("\nerror: "),
            "`tidings doctor` shows every finding; the development profile (TIDINGS_PROFILE=development) accepts them for trying things out",
        )),
    }
}
