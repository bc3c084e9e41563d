//! Server addresses: reading them, their credentials, and what to say when nobody is there.

use std::io;

use async_nats::{ConnectErrorKind, ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

use super::Settings;
use crate::{Cause, OpenError, Token};

/// Passes on the user and password of the first address that has them: the client ignores those in addresses.
///
/// Such a user's replies come to `_INBOX_<user>.>`, so that a server can keep users of one account from listening
/// to each other's.
pub(super) fn with_credentials(options: ConnectOptions, url: &str) -> ConnectOptions {
    let found = url
        .split(',')
        .filter_map(|server| server.trim().parse::<ServerAddr>().ok())
        .find_map(|server| {
            let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            Some((
                decode(server.username()?),
                decode(server.password().unwrap_or_default()),
            ))
        });
    let Some((user, password)) = found else {
        return options;
    };
    let options = match Token::new(user.clone()) {
        Ok(user) => options.custom_inbox_prefix(format!("_INBOX_{user}")),
        Err(_) => options,
    };
    options.user_and_password(user, password)
}

pub(super) fn servers(url: &str) -> Result<Vec<ServerAddr>, io::Error> {
    url.split(',').map(|server| server.trim().parse()).collect()
}

/// The address without user and password, for messages.
pub(super) fn without_credentials(url: &str) -> String {
    let one = |server: &str| {
        let (scheme, rest) = server.split_once("://").unwrap_or(("nats", server));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        format!("{scheme}://{host}")
    };
    url.split(',')
        .map(|server| one(server.trim()))
        .collect::<Vec<_>>()
        .join(",")
}

/// The error for a server that cannot be reached, with advice by what went wrong.
pub(super) fn unreachable(settings: &Settings, kind: ConnectErrorKind, cause: Cause) -> OpenError {
    let advice = match kind {
        ConnectErrorKind::ServerParse => "write the address as nats://host:port",
        ConnectErrorKind::Dns => "the host name does not resolve; check TIDINGS_NATS_URL",
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            "the server refuses the user or password; check the credentials in TIDINGS_NATS_URL"
        }
        ConnectErrorKind::Tls => "the TLS connection failed; check certificates on both sides",
        ConnectErrorKind::TimedOut | ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => {
            "start nats-server there (with JetStream), or set TIDINGS_NATS_URL to where it runs; without \
             TIDINGS_NATS_URL the embedded engine needs no server"
        }
    };
    OpenError::Unreachable {
        what: format!("the NATS server at {}", settings.address()),
        advice: advice.to_owned(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_a_message_shows_no_password() {
        assert_eq!(
            without_credentials("nats://user:p@ss@host:4222"),
            "nats://host:4222"
        );
        assert_eq!(
            without_credentials("user:secret@a:1, tls://b:2"),
            "nats://a:1,tls://b:2"
        );
    }
}
