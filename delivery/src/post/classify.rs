//! Why no response came: the class of an HTTP client's error, and words for the tenant.
//!
//! The words hold nothing of the error itself but what TLS says of the receiver's certificate: addresses and
//! the state of the network around Tidings are not the tenant's to see.

use std::error::Error;
use std::io;

use domain::ErrorClass;

use crate::egress::Forbidden;

pub(super) fn classify(error: &reqwest::Error) -> (ErrorClass, String) {
    let found = causes(error).find_map(specific);
    found.unwrap_or_else(|| general(error))
}

/// The error and what lies under it. An `io::Error` that wraps another names that one's cause as its own, so the
/// wrapped one is looked at in place.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

fn specific(cause: &(dyn Error + 'static)) -> Option<(ErrorClass, String)> {
    if let Some(forbidden) = cause.downcast_ref::<Forbidden>() {
        return Some((ErrorClass::Forbidden, forbidden.to_string()));
    }
    if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
        return Some((ErrorClass::Tls, format!("TLS failed: {tls}")));
    }
    let kind = cause.downcast_ref::<io::Error>()?.kind();
    let (class, words) = match kind {
        io::ErrorKind::ConnectionRefused => (ErrorClass::Refused, "the connection was refused"),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            (ErrorClass::Refused, "the receiver's network cannot be reached")
        }
        io::ErrorKind::TimedOut => (ErrorClass::Timeout, "the connection timed out"),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => (ErrorClass::Reset, "the connection broke"),
        _ => return None,
    };
    Some((class, words.to_owned()))
}

fn general(error: &reqwest::Error) -> (ErrorClass, String) {
    let (class, words) = if error.is_dns() {
        (ErrorClass::Dns, "the receiver's name does not resolve")
    } else if error.is_timeout() {
        (ErrorClass::Timeout, "the connection timed out")
    } else if error.is_connect() {
        (ErrorClass::Refused, "no connection could be made")
    } else {
        (ErrorClass::Reset, "the connection broke before a complete answer")
    };
    (class, words.to_owned())
}
