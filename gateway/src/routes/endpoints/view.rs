//! An endpoint as the API shows it: without anything secret.

use domain::endpoint::policy::{
    Authentication, BreakerPolicy, Format, Header, HeaderValue, Method, OrderingPolicy, RateLimit,
    RetrySchedule, SigningScheme,
};
use domain::endpoint::{ContentFilter, Policy};
use domain::{EndpointId, Timestamp};
use projections::{EndpointRow, EndpointStatus};
use serde::Serialize;
use utoipa::ToSchema;

/// An endpoint. What is null in its policy is as the installation has it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub(super) struct EndpointView {
    /// The endpoint's id.
    #[schema(value_type = String)]
    id: EndpointId,
    /// Where events are posted.
    url: String,
    /// Which events it wants.
    event_types: Vec<String>,
    /// What people call it.
    description: Option<String>,
    /// `enabled` or `disabled`: whether it gets new events.
    #[schema(value_type = String, example = "enabled")]
    status: EndpointStatus,
    /// Why it was disabled, while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<String>,
    /// Until when the secret before the present one signs too, once it was rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    previous_secret_valid_until: Option<Timestamp>,
    /// What must be so of an event's data for the endpoint to get it.
    #[schema(value_type = Option<Object>)]
    filter: Option<ContentFilter>,
    /// The waits between attempts.
    #[schema(value_type = Option<Vec<String>>, example = json!(["5s", "5m", "2h"]))]
    retry_schedule: Option<RetrySchedule>,
    /// How far waits may lie from the schedule to either side, in per cent.
    retry_jitter: Option<u32>,
    /// How long one attempt may take, in milliseconds.
    timeout_ms: Option<u32>,
    /// How many attempts may be under way at once.
    max_in_flight: Option<u32>,
    /// How many attempts may begin in a second.
    #[schema(value_type = Option<Object>, example = json!({ "per_second": 10, "burst": 50 }))]
    rate_limit: Option<RateLimit>,
    /// When it is left alone for a while; false: never.
    #[schema(schema_with = super::forms::breaker)]
    breaker: Option<BreakerPolicy>,
    /// After how many hours of failure it is disabled; 0: never.
    disable_after_hours: Option<u32>,
    /// Headers sent with each webhook.
    headers: Vec<HeaderView>,
    /// `standard`, `cloudevents_structured` or `cloudevents_binary`.
    #[schema(value_type = String, example = "standard")]
    format: Format,
    /// `POST`, `PUT` or `PATCH`.
    #[schema(value_type = String, example = "POST")]
    method: Method,
    /// How Tidings proves to the receiver who it is, without what proves it.
    authentication: Option<AuthenticationView>,
    /// `hmac` or `ed25519`.
    #[schema(value_type = String, example = "hmac")]
    signature: SigningScheme,
    /// What must arrive in order.
    #[schema(value_type = Option<Object>, example = json!({ "key": "/customer/id", "on_failure": "block" }))]
    ordering: Option<OrderingPolicy>,
    /// When it was created.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = "date-time")]
    updated_at: Timestamp,
}

/// A header sent with each webhook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EndpointHeader)]
struct HeaderView {
    /// Its name, in lower case.
    #[schema(example = "x-api-key")]
    name: String,
    /// What it says, unless that is secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// Whether what it says is kept sealed and never shown.
    secret: bool,
}

/// How Tidings proves to the receiver who it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = EndpointAuthentication)]
enum AuthenticationView {
    /// User name and password.
    Basic {
        /// The user name.
        username: String,
    },
    /// A token that does not change.
    Bearer {},
    /// A token that is asked for with client credentials.
    Oauth2 {
        /// Where tokens are given out.
        token_url: String,
        /// What Tidings is called there.
        client_id: String,
        /// What the token shall be good for.
        scope: Option<String>,
    },
    /// A client certificate.
    Mtls {
        /// The certificate and those that lead to its authority, in PEM form.
        certificate: String,
    },
}

impl From<EndpointRow> for EndpointView {
    fn from(row: EndpointRow) -> Self {
        let Policy {
            filter,
            retry,
            timeout_ms,
            lane,
            breaker,
            disable_after_hours,
            headers,
            format,
            method,
            authentication,
            signature,
            ordering,
        } = row.policy;
        Self {
            id: row.id,
            url: row.url,
            event_types: row.event_types,
            description: row.description,
            status: row.status,
            disabled_reason: row.disabled_reason,
            previous_secret_valid_until: row.previous_secret_valid_until,
            filter,
            retry_schedule: retry.schedule,
            retry_jitter: retry.jitter.map(u32::from),
            timeout_ms: timeout_ms.map(u32::from),
            max_in_flight: lane.max_in_flight.map(u32::from),
            rate_limit: lane.rate_limit,
            breaker,
            disable_after_hours: disable_after_hours.map(u32::from),
            headers: headers.into_iter().map(HeaderView::from).collect(),
            format,
            method,
            authentication: authentication.map(AuthenticationView::from),
            signature,
            ordering,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl From<Header> for HeaderView {
    fn from(header: Header) -> Self {
        let (value, secret) = match header.value {
            HeaderValue::Plain(text) => (Some(text.into()), false),
            HeaderValue::Secret(_) => (None, true),
        };
        Self {
            name: header.name.into(),
            value,
            secret,
        }
    }
}

impl From<Authentication> for AuthenticationView {
    fn from(authentication: Authentication) -> Self {
        match authentication {
            Authentication::Basic { username, .. } => Self::Basic {
                username: username.as_str().to_owned(),
            },
            Authentication::Bearer { .. } => Self::Bearer {},
            Authentication::Oauth2 {
                token_url,
                client_id,
                scope,
                ..
            } => Self::Oauth2 {
                token_url: token_url.as_str().to_owned(),
                client_id: client_id.into(),
                scope: scope.map(String::from),
            },
            Authentication::Mtls { certificate, .. } => Self::Mtls {
                certificate: certificate.into(),
            },
        }
    }
}
