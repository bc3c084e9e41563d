//! From texts to values; each mistake says what was expected.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use broker::Token;
use delivery::{BreakerRules, EgressPolicy, InvalidSchedule, MasterKey, Ports, Schedule, Schemes};
use tracing_subscriber::EnvFilter;
use url::Url;

use super::{Profile, Role, Secret};

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an address and port such as 127.0.0.1:8080 or [::1]:8080"))
}

#[expect(clippy::unnecessary_wraps, reason = "every parser has one signature")]
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(if text.is_empty() { "." } else { text }))
}

#[expect(clippy::unnecessary_wraps, reason = "every parser has one signature")]
pub(super) fn list(text: &str) -> Result<Vec<String>, String> {
    Ok(text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect())
}

pub(super) fn number(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a whole number"))
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    match usize::from_str(text) {
        Ok(number) if (1..=100_000).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is not a whole number from 1 to 100000")),
    }
}

/// A size that a parser of HTTP can work with.
pub(super) fn head(text: &str) -> Result<usize, String> {
    match size(text)? {
        bytes if bytes >= 8 * 1024 => Ok(bytes),
        _ => Err(format!("{text:?} is less than 8KiB")),
    }
}

/// A time, or `never`.
pub(super) fn duration_or_never(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "never" => Ok(None),
        text => duration(text).map(Some),
    }
}

/// Four values of a breaker separated by commas, or `off`.
pub(super) fn breaker(text: &str) -> Result<Option<BreakerRules>, String> {
    if text == "off" {
        return Ok(None);
    }
    let expected = || format!("{text:?} is neither off nor four values such as 50%,10,1m,30s");
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [percent, minimum, window, open] = parts[..] else {
        return Err(expected());
    };
    let percent = percent.strip_suffix('%').and_then(|percent| percent.parse().ok());
    let failure_percent = percent.filter(|percent| (1..=100).contains(percent));
    let minimum = minimum.parse().ok().filter(|minimum| *minimum > 0);
    Ok(Some(BreakerRules {
        failure_percent: failure_percent.ok_or_else(expected)?,
        minimum: minimum.ok_or_else(expected)?,
        window: duration(window)?,
        open: duration(open)?,
    }))
}

pub(super) fn replicas(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err(format!("{text:?} is not 1, 3 or 5")),
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub(super) fn token(text: &str) -> Result<Token, String> {
    Token::new(text).map_err(|error| format!("{text:?}: {error}"))
}

/// A number and a unit: `ms`, `s`, `m`, `h`, `d`; more than nothing, at most ten years.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is not a time such as 250ms, 30s, 5m, 2h or 30d");
    let (number, unit) = split_unit(text);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    match number.checked_mul(millis).map(Duration::from_millis) {
        Some(time) if !time.is_zero() && time <= Duration::from_hours(3_650 * 24) => Ok(time),
        _ => Err(format!("{text:?} is not between 1ms and 3650d")),
    }
}

/// How long a log keeps its records: at least five minutes, since records are recognised as repeated for two.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time >= Duration::from_mins(5) => Ok(time),
        _ => Err(format!("{text:?} is less than 5m")),
    }
}

/// Bytes: a number, alone or with `KiB` or `MiB`; at most 1 GiB.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let expected = || format!("{text:?} is not a size such as 65536, 64KiB or 8MiB, up to 1024MiB");
    let (number, unit) = split_unit(text);
    let number: usize = number.parse().map_err(|_| expected())?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err(expected()),
    };
    number
        .checked_mul(factor)
        .filter(|size| (1..=1 << 30).contains(size))
        .ok_or_else(expected)
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number, unit.trim())
}

pub(super) fn roles(text: &str) -> Result<Vec<Role>, String> {
    let role = |name: &str| match name.trim() {
        "gateway" => Ok(Role::Gateway),
        "projections" => Ok(Role::Projections),
        "delivery" => Ok(Role::Delivery),
        other => Err(format!("{other:?} is none of gateway, projections, delivery")),
    };
    let mut roles = text.split(',').map(role).collect::<Result<Vec<_>, _>>()?;
    roles.sort_unstable();
    roles.dedup();
    Ok(roles)
}

pub(super) fn profile(text: &str) -> Result<Profile, String> {
    match text {
        "development" => Ok(Profile::Development),
        "production" => Ok(Profile::Production),
        _ => Err(format!("{text:?} is neither development nor production")),
    }
}

pub(super) fn nats_url(text: &str) -> Result<Secret, String> {
    let fits =
        |url: &str| Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "nats" | "tls" | "ws" | "wss"));
    if text.split(',').all(|url| fits(url.trim())) {
        Ok(Secret::new(text))
    } else {
        Err("is not an address such as nats://127.0.0.1:4222".to_owned())
    }
}

pub(super) fn database_url(text: &str) -> Result<Secret, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "postgres" | "postgresql") => Ok(Secret::new(text)),
        _ => Err("is not an address such as postgres://user@127.0.0.1/tidings".to_owned()),
    }
}

/// The value is not repeated in the message: it may be nearly right.
pub(super) fn admin_key(text: &str) -> Result<Secret, String> {
    let rest = text.strip_prefix("tdk_").unwrap_or_default();
    if rest.len() >= 32 && text.len() <= 256 && rest.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(Secret::new(text))
    } else {
        Err("must be tdk_ followed by 32 to 252 visible characters".to_owned())
    }
}

pub(super) fn master_key(text: &str) -> Result<Secret, String> {
    text.parse::<MasterKey>()
        .map(|_| Secret::new(text))
        .map_err(|error| error.to_string())
}

pub(super) fn schedule(text: &str) -> Result<Schedule, String> {
    text.parse().map_err(|error: InvalidSchedule| error.to_string())
}

pub(super) fn egress(text: &str) -> Result<EgressPolicy, String> {
    EgressPolicy::public()
        .allowing(text)
        .map_err(|error| error.to_string())
}

/// By which schemes, where it is said.
pub(super) fn schemes(text: &str) -> Result<Option<Schemes>, String> {
    optional(text)
}

/// At which ports, where it is said.
pub(super) fn ports(text: &str) -> Result<Option<Ports>, String> {
    optional(text)
}

fn optional<T: FromStr<Err: ToString>>(text: &str) -> Result<Option<T>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: T::Err| error.to_string())
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{text:?}: {error}")),
    }
}

pub(super) fn log_format(text: &str) -> Result<bool, String> {
    match text {
        "text" => Ok(false),
        "json" => Ok(true),
        _ => Err(format!("{text:?} is neither text nor json")),
    }
}
