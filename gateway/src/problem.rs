//! Problems: every answer that is not a success, as RFC 9457 `application/problem+json`.
//!
//! [`ProblemType`] is the closed list; each has a page under `docs/problems/`, which the service shows at the
//! address in `type`. A problem of the server says nothing internal: its cause is logged once, in
//! [`crate::layers`], under the request id that the body carries.

use std::error::Error as StdError;

use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use broker::Distrust;
use serde::Serialize;
use utoipa::ToSchema;

use crate::installation::in_full;

/// The media type of problems.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// Where the pages of the problems are served.
pub(crate) const PAGES: &str = "/docs/problems/";

macro_rules! problem_types {
    ($($(#[$doc:meta])* $name:ident => $code:literal, $status:ident, $title:literal;)+) => {
        /// What kind of problem it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum ProblemType {
            $($(#[$doc])* $name),+
        }

        impl ProblemType {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable name programs go by.
            pub(crate) fn code(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }

            /// The status it is answered with.
            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),+ }
            }

            /// What it is in a few words, the same for every occurrence.
            pub(crate) fn title(self) -> &'static str {
                match self { $(Self::$name => $title),+ }
            }

            /// Its page: cause, and what to do.
            pub(crate) fn page(self) -> &'static str {
                match self { $(Self::$name => include_str!(concat!("../../docs/problems/", $code, ".md"))),+ }
            }
        }
    };
}

problem_types! {
    /// The body is not JSON.
    MalformedJson => "malformed_json", BAD_REQUEST, "The body is not JSON";
    /// A query parameter is unknown or wrong.
    InvalidQuery => "invalid_query", BAD_REQUEST, "A query parameter is wrong";
    /// A header is wrong.
    InvalidHeader => "invalid_header", BAD_REQUEST, "A header is wrong";
    /// No credential, or not a valid one.
    Unauthenticated => "unauthenticated", UNAUTHORIZED, "A valid credential is needed";
    /// The signature does not fit, or its time is too far off.
    SignatureRefused => "signature_refused", UNAUTHORIZED, "The request does not prove where it comes from";
    /// The credential is not for this.
    Forbidden => "forbidden", FORBIDDEN, "This credential does not allow it";
    /// Nothing is there.
    NotFound => "not_found", NOT_FOUND, "There is no such thing";
    /// The address is there, not for this method.
    MethodNotAllowed => "method_not_allowed", METHOD_NOT_ALLOWED, "This method is not offered here";
    /// Too many others change the same thing.
    Conflict => "conflict", CONFLICT, "Others are changing this at the same time";
    /// Another user of the tenant has the e-mail address.
    EmailTaken => "email_taken", CONFLICT, "This e-mail address is taken";
    /// Another tenant has the slug.
    SlugTaken => "slug_taken", CONFLICT, "This slug is taken";
    /// Another role of the tenant has the name.
    RoleNameTaken => "role_name_taken", CONFLICT, "This role name is taken";
    /// Another team under the same parent has the name.
    TeamNameTaken => "team_name_taken", CONFLICT, "This team name is taken";
    /// An invitation to this address is open.
    AlreadyInvited => "already_invited", CONFLICT, "This address is invited already";
    /// The thing is not in a state that allows it.
    NotPossible => "not_possible", CONFLICT, "This is not possible as things stand";
    /// Something else depends on it.
    InUse => "in_use", CONFLICT, "Something else depends on this";
    /// It would inherit from, or stand under, itself.
    Cycle => "cycle", CONFLICT, "This would make a circle";
    /// A quota or a bound is used up.
    LimitReached => "limit_reached", CONFLICT, "A limit is reached";
    /// The request under this key is still being worked on.
    RequestRunning => "request_running", CONFLICT, "The first request with this key is still running";
    /// The invitation was accepted, revoked, or is too old.
    InvitationGone => "invitation_gone", GONE, "This invitation can no longer be accepted";
    /// The tenant is suspended.
    TenantSuspended => "tenant_suspended", FORBIDDEN, "The tenant is suspended";
    /// The tenant was terminated.
    TenantTerminated => "tenant_terminated", FORBIDDEN, "The tenant was terminated";
    /// The key was used with another request.
    IdempotencyKeyReused => "idempotency_key_reused", UNPROCESSABLE_ENTITY, "This Idempotency-Key was used for another request";
    /// Data do not have the form that their event type asks for.
    SchemaViolation => "schema_violation", UNPROCESSABLE_ENTITY, "The data do not fit the event type";
    /// The caller sends more than it may.
    RateLimited => "rate_limited", TOO_MANY_REQUESTS, "Too many requests";
    /// More is waiting to be written than the service takes.
    Overloaded => "overloaded", SERVICE_UNAVAILABLE, "The service has more to do than it can";
    /// Another event was published under the id.
    EventIdReused => "event_id_reused", CONFLICT, "Another event was published under this id";
    /// What was signed was sent before, as another message.
    Replayed => "replayed", CONFLICT, "This was sent before as another message";
    /// The event was published, and retention has removed its data.
    EventExpired => "event_expired", GONE, "The data of this event is no longer kept";
    /// The read model has not reached the position asked for.
    Stale => "stale", PRECONDITION_FAILED, "The read model is behind the position asked for";
    /// The body, or an event in it, is too large.
    TooLarge => "too_large", PAYLOAD_TOO_LARGE, "This is too large";
    /// The body is not declared as JSON.
    UnsupportedMediaType => "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body is declared as what is not taken here";
    /// The body is JSON, but not what is asked for.
    InvalidBody => "invalid_body", UNPROCESSABLE_ENTITY, "The body is not what is asked for";
    /// The URL is at an address that receivers may not have.
    UrlRefused => "url_refused", UNPROCESSABLE_ENTITY, "Receivers may not be at this address";
    /// The log or its tree is not what was signed before.
    HistoryChanged => "history_changed", INTERNAL_SERVER_ERROR, "The history is not what it was";
    /// A fault of the service.
    Internal => "internal", INTERNAL_SERVER_ERROR, "The service failed";
    /// The log or a database is away, or the service is stopping.
    Unavailable => "unavailable", SERVICE_UNAVAILABLE, "The service cannot do this now";
    /// The log is not what it was.
    LogUntrusted => "log_untrusted", SERVICE_UNAVAILABLE, "The log is not what it was";
    /// The log did not say whether it stored the change.
    OutcomeUnknown => "outcome_unknown", SERVICE_UNAVAILABLE, "Whether this happened is unknown";
    /// It took longer than a request may.
    Timeout => "timeout", SERVICE_UNAVAILABLE, "This took too long";
}

/// One thing wrong in a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// Where, as `events[3].type`; `.` is the whole.
    #[schema(example = "email")]
    pub(crate) path: String,
    /// What is wrong.
    #[schema(example = "must not be empty")]
    pub(crate) message: String,
}

/// The body of every answer that is not a success (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// The address of a page about this type of problem.
    #[serde(rename = "type")]
    #[schema(example = "/docs/problems/not_found")]
    pub(crate) page: String,
    /// The type in words.
    #[schema(example = "There is no such thing")]
    pub(crate) title: &'static str,
    /// The HTTP status again.
    #[schema(example = 404)]
    pub(crate) status: u16,
    /// The type as a stable name for programs.
    #[schema(example = "not_found")]
    pub(crate) code: &'static str,
    /// This occurrence in words.
    pub(crate) detail: String,
    /// What to name when asking the operator.
    #[schema(example = "req_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    pub(crate) request_id: String,
    /// What is wrong in the body, where a body is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<FieldError>,
}

/// A problem on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    kind: ProblemType,
    detail: String,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<String>,
}

impl Problem {
    /// Of a type, with this occurrence in words.
    pub(crate) fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        let headers = match kind {
            ProblemType::Unavailable
            | ProblemType::OutcomeUnknown
            | ProblemType::Timeout
            | ProblemType::Overloaded
            | ProblemType::RequestRunning
            | ProblemType::RateLimited => {
                vec![(RETRY_AFTER, HeaderValue::from_static("1"))]
            }
            ProblemType::Unauthenticated => {
                vec![(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"tidings\""),
                )]
            }
            // RFC 9110 wants a scheme named with every 401; there is none for signatures of webhooks.
            ProblemType::SignatureRefused => {
                vec![(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static("Signature realm=\"tidings\""),
                )]
            }
            _ => Vec::new(),
        };
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            headers,
            cause: None,
        }
    }

    /// A problem of the server: the cause goes to the log only.
    pub(crate) fn caused(kind: ProblemType, detail: &str, cause: &(dyn StdError + 'static)) -> Self {
        Self {
            cause: Some(in_full(cause)),
            ..Self::new(kind, detail)
        }
    }

    /// There is no such thing; the same words whatever the reason.
    pub(crate) fn not_found() -> Self {
        Self::new(ProblemType::NotFound, "There is nothing under this address.")
    }

    /// Something is wrong at one place of the body.
    pub(crate) fn invalid_body(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(
            ProblemType::InvalidBody,
            "The body does not have the form asked for.",
        )
        .at(path, message)
    }

    /// The log is not what it was, so nothing is done on top of it.
    pub(crate) fn log_untrusted(why: &Distrust) -> Self {
        Self::caused(
            ProblemType::LogUntrusted,
            "The service has found that its log lost records or was changed, and does nothing that depends on it until \
             its operator has settled that; nothing was changed. What was known before can still be queried.",
            why,
        )
    }

    /// The log or a database is away, or the log is not what it was.
    pub(crate) fn unavailable(cause: &(dyn StdError + 'static)) -> Self {
        if let Some(why) = Distrust::behind(cause) {
            return Self::log_untrusted(why);
        }
        Self::caused(
            ProblemType::Unavailable,
            "The service cannot do this now; nothing was changed.",
            cause,
        )
    }

    /// Names a place in the body.
    #[must_use]
    pub(crate) fn at(mut self, path: impl Into<String>, message: impl Into<String>) -> Self {
        self.errors.push(FieldError {
            path: path.into(),
            message: message.into(),
        });
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Which type it is.
    pub(crate) fn kind(&self) -> ProblemType {
        self.kind
    }

    /// This occurrence in words.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// What is wrong in the body, and where.
    pub(crate) fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// What is behind it, for the log.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// The same of a body that stands at a place of a larger one.
    #[must_use]
    pub(crate) fn within(mut self, place: &str) -> Self {
        for error in &mut self.errors {
            error.path = match error.path.as_str() {
                "." => place.to_owned(),
                path => format!("{place}.{path}"),
            };
        }
        self
    }

    /// The body, once the request id is known.
    pub(crate) fn body(&self, request_id: &str) -> ProblemBody {
        ProblemBody {
            page: format!("{PAGES}{}", self.kind.code()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            code: self.kind.code(),
            detail: self.detail.clone(),
            request_id: request_id.to_owned(),
            errors: self.errors.clone(),
        }
    }

    /// The answer, once the request id is known.
    pub(crate) fn render(&self, request_id: &str) -> Response {
        let mut response = (self.kind.status(), axum::Json(self.body(request_id))).into_response();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        for (name, value) in &self.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response
    }
}

impl IntoResponse for Problem {
    /// The body waits for the outermost layer, which knows the request id.
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn every_problem_has_a_page_and_every_page_a_problem() {
        for kind in ProblemType::ALL {
            let (code, page) = (kind.code(), kind.page());
            assert!(
                page.starts_with(&format!("# {}\n", kind.title())),
                "{code}: another title"
            );
            assert!(
                page.contains(&format!("`{code}`, status {}", kind.status().as_u16())),
                "{code}: no status"
            );
            for part in ["\n## Cause\n", "\n## What to do\n"] {
                assert!(page.contains(part), "{code}: {part:?} is missing");
            }
        }
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/problems");
        let pages: BTreeSet<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .trim_end_matches(".md")
                    .to_owned()
            })
            .collect();
        let codes: BTreeSet<_> = ProblemType::ALL
            .iter()
            .map(|kind| kind.code().to_owned())
            .collect();
        assert_eq!(pages, codes);
    }

    #[test]
    fn a_cause_stays_out_of_the_body() {
        let cause = std::io::Error::other("disk on fire");
        let problem = Problem::unavailable(&cause);
        assert_eq!(problem.cause(), Some("disk on fire"));
        assert!(!problem.detail().contains("fire"));
        assert_eq!(problem.render("r").headers()[RETRY_AFTER], "1");
    }
}
