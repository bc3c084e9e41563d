//! What `tidings doctor` wants to know: version, limits, syncing, and drift of every stream.

use std::time::Duration;

use super::connection::{AskError, Connection};
use super::monitor::{Sync, sync_of};
use super::names::Names;
use super::streams::{self, Drift, Plan};
use super::{MINIMUM_VERSION, Settings, queue};
use crate::{Finding, MAX_RECORD, OpenError, Severity};

/// Refuses a server older than [`MINIMUM_VERSION`].
pub(super) fn require_version(settings: &Settings, connection: &Connection) -> Result<(), OpenError> {
    let finding = version(connection);
    if finding.severity == Severity::Fine {
        return Ok(());
    }
    Err(OpenError::Unfit {
        what: format!("the NATS server at {}", settings.address()),
        advice: finding.message,
    })
}

/// Every finding, the good ones too.
pub(super) async fn examine(settings: &Settings, connection: &Connection, names: &Names) -> Vec<Finding> {
    let mut findings = vec![version(connection), max_payload(connection)];
    for plan in streams::plans(settings, names) {
        findings.push(stream(connection, &plan).await);
    }
    findings.push(consumer(settings, connection, names).await);
    if settings.monitors.is_empty() {
        findings.push(unverified_sync());
    }
    for monitor in &settings.monitors {
        findings.push(sync(settings, monitor).await);
    }
    findings
}

fn finding(severity: Severity, subject: &str, message: String) -> Finding {
    Finding {
        severity,
        subject: subject.to_owned(),
        message,
    }
}

fn version(connection: &Connection) -> Finding {
    let found = connection.client.server_info().version;
    let (major, minor, patch) = MINIMUM_VERSION;
    let message = format!("the server is nats-server {found}");
    if parse_version(&found).is_some_and(|version| version >= MINIMUM_VERSION) {
        finding(Severity::Fine, "nats-server", message)
    } else {
        let advice = format!(
            "{message}; install {major}.{minor}.{patch} or newer: older ones can lose what they acknowledged"
        );
        finding(Severity::Failure, "nats-server", advice)
    }
}

/// Of `2.15.1` or `2.15.1-beta.2`.
fn parse_version(text: &str) -> Option<(u64, u64, u64)> {
    let mut parts = text.split(['.', '-', '+']).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

fn max_payload(connection: &Connection) -> Finding {
    let limit = connection.max_payload();
    let message = format!("a record or value may have {limit} bytes");
    if limit >= MAX_RECORD {
        finding(Severity::Fine, "max_payload", message)
    } else {
        let advice = format!(
            "{message}, less than the {MAX_RECORD} that records may have; set `max_payload: 2MB` on the server"
        );
        finding(Severity::Failure, "max_payload", advice)
    }
}

async fn stream(connection: &Connection, plan: &Plan) -> Finding {
    match streams::actual(connection, &plan.name).await {
        Ok(Some(actual)) => judge_drift(&plan.name, &plan.drift(&actual)),
        asked => unknown(&plan.name, asked.map(drop)),
    }
}

async fn consumer(settings: &Settings, connection: &Connection, names: &Names) -> Finding {
    let subject = format!("{}/{}", names.deliveries(), queue::CONSUMER);
    match queue::consumer_drift(settings, connection, names).await {
        Ok(Some(drift)) => judge_drift(&subject, &drift),
        asked => unknown(&subject, asked.map(drop)),
    }
}

fn judge_drift(subject: &str, drift: &[Drift]) -> Finding {
    if drift.is_empty() {
        return finding(
            Severity::Fine,
            subject,
            "it is configured as it should be".to_owned(),
        );
    }
    let severity = if drift.iter().any(Drift::breaks_a_promise) {
        Severity::Failure
    } else {
        Severity::Warning
    };
    let details: Vec<&str> = drift.iter().map(|drift| drift.detail.as_str()).collect();
    let message = format!(
        "{}; correct it with `nats stream edit`, or find out who changed it",
        details.join("; ")
    );
    finding(severity, subject, message)
}

fn unknown(subject: &str, asked: Result<(), AskError>) -> Finding {
    let message = match asked {
        Ok(()) => "it is missing; open the installation once with an account that may create it".to_owned(),
        Err(error) => {
            format!("it could not be asked about ({error}); check that JetStream answers this account")
        }
    };
    finding(Severity::Failure, subject, message)
}

fn unverified_sync() -> Finding {
    let message = "it could not be verified, since clients are not told: give the server's monitoring address, or look \
                   for `sync_always` in its /varz; the configuration needs `jetstream { sync_interval: always }`";
    finding(Severity::Warning, "sync_interval", message.to_owned())
}

async fn sync(settings: &Settings, monitor: &str) -> Finding {
    let lax = if settings.require_sync_always {
        Severity::Failure
    } else {
        Severity::Warning
    };
    let (severity, message) = match sync_of(monitor, settings.timeouts.request).await {
        Ok(Sync::Always) => (
            Severity::Fine,
            format!("{monitor} syncs before every acknowledgement"),
        ),
        Ok(Sync::Every(interval)) => (lax, lax_sync(monitor, interval)),
        Ok(Sync::Off) => (lax, format!("JetStream is off on {monitor}")),
        Err(cause) => (
            Severity::Warning,
            format!("it could not be verified, {monitor} does not answer: {cause}"),
        ),
    };
    finding(severity, "sync_interval", message)
}

fn lax_sync(monitor: &str, interval: Duration) -> String {
    format!(
        "{monitor} syncs only every {interval:?}: a power cut loses what was acknowledged since; set `jetstream {{ \
         sync_interval: always }}`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(parse_version("2.15.1").unwrap() >= MINIMUM_VERSION);
        assert!(parse_version("2.100.0-beta.1").unwrap() >= MINIMUM_VERSION);
        assert!(parse_version("2.9.10").unwrap() < MINIMUM_VERSION);
        assert_eq!(parse_version("nightly"), None);
    }
}
