//! What `/v1/endpoints` takes.

use std::fmt;

use delivery::SecretText;
use domain::Edit;
use domain::endpoint::policy::{
    BreakerPolicy, CertificateChain, ClientId, DisableAfterHours, Format, HeaderName, HeaderText, Jitter,
    MaxInFlight, Method, OrderingPolicy, RateLimit, RetrySchedule, Scopes, SigningScheme, TimeoutMs,
    Username,
};
use domain::endpoint::{ContentFilter, Description, EventTypeFilter, TargetUrl};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};

use crate::extract::{Strict, given};

/// When an endpoint is left alone for a while: a rule, `false`, or null for what the operator chose.
pub(super) fn breaker() -> Schema {
    let rule = ObjectBuilder::new()
        .schema_type(Type::Object)
        .examples([json!({ "failure_percent": 50, "minimum": 10 })]);
    let never = ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .enum_values(Some([false]));
    OneOfBuilder::new()
        .description(Some(
            "When the endpoint is left alone for a while: if of at least `minimum` attempts within `window_seconds` \
             `failure_percent` per cent failed, for `open_seconds`; what is not given is 50, 10, 60 and 30. False: never.",
        ))
        .item(rule)
        .item(never)
        .item(ObjectBuilder::new().schema_type(Type::Null))
        .build()
        .into()
}

/// Defines a body with the fields of a policy beside its own: `deny_unknown_fields` and places of errors allow no
/// struct of them within.
macro_rules! with_policy {
    (
        $(#[$meta:meta])*
        struct $name:ident $fields:ident {
            $($(#[$own_meta:meta])* $own:ident: $type:ty,)*
        }
    ) => {
        $(#[$meta])*
        pub(super) struct $name {
            $(pub(super) $own: $type,)*
            /// Its policy.
            pub(super) policy: PolicyForm,
        }

        $(#[$meta])*
        #[derive(Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        #[schema(as = $name)]
        pub(super) struct $fields {
            $($(#[$own_meta])* $own: $type,)*
            /// What must be so of an event's data for the endpoint to get it: `all` or `any` of several conditions,
            /// `not` one, or a `path` (JSON Pointer) with a test (`equals`, `not_equals`, `in`, `exists`,
            /// `starts_with`, `ends_with`, `contains`, `greater_than`, `at_least`, `less_than`, `at_most`).
            #[serde(default)]
            #[schema(value_type = Option<Object>, example = json!({ "path": "/amount", "at_least": 100 }))]
            filter: Edit<ContentFilter>,
            /// The waits between attempts, at most 50; none: a single attempt.
            #[serde(default)]
            #[schema(value_type = Option<Vec<String>>, max_items = 50, example = json!(["5s", "5m", "2h"]))]
            retry_schedule: Edit<RetrySchedule>,
            /// How far waits may lie from the schedule to either side, in per cent: 0 to 50.
            #[serde(default)]
            #[schema(value_type = Option<u32>, maximum = 50)]
            retry_jitter: Edit<Jitter>,
            /// How long one attempt may take, in milliseconds: 100 to 30,000.
            #[serde(default)]
            #[schema(value_type = Option<u32>, minimum = 100, maximum = 30_000)]
            timeout_ms: Edit<TimeoutMs>,
            /// How many attempts may be under way at once: 1 to 1,000.
            #[serde(default)]
            #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000)]
            max_in_flight: Edit<MaxInFlight>,
            /// How many attempts may begin in a second, and at once after a quiet time (`burst`; those of a second
            /// unless given): 1 to 10,000 each.
            #[serde(default)]
            #[schema(value_type = Option<Object>, example = json!({ "per_second": 10, "burst": 50 }))]
            rate_limit: Edit<Strict<RateLimit>>,
            /// When the endpoint is left alone for a while: if of at least `minimum` attempts within `window_seconds`
            /// `failure_percent` per cent failed, for `open_seconds`; what is not given is 50, 10, 60 and 30. False:
            /// never.
            #[serde(default)]
            #[schema(schema_with = breaker)]
            breaker: Edit<BreakerPolicy>,
            /// After how many hours in which nothing arrived and attempts failed the endpoint is disabled: 1 to 720;
            /// 0: never.
            #[serde(default)]
            #[schema(value_type = Option<u32>, maximum = 720)]
            disable_after_hours: Edit<DisableAfterHours>,
            /// Headers sent with each webhook, at most 16. Those that HTTP itself, signatures or CloudEvents need are not
            /// to be had.
            #[serde(default)]
            #[schema(value_type = Option<Vec<HeaderForm>>, max_items = 16)]
            headers: Edit<Vec<Strict<HeaderForm>>>,
            /// What the body is: `standard` (`{"type","timestamp","data"}`; the default), `cloudevents_structured` or
            /// `cloudevents_binary`.
            #[serde(default)]
            #[schema(value_type = Option<String>, example = "standard")]
            format: Edit<Format>,
            /// `POST` (the default), `PUT` or `PATCH`.
            #[serde(default)]
            #[schema(value_type = Option<String>, example = "POST")]
            method: Edit<Method>,
            /// How Tidings proves to the receiver who it is, besides the signature.
            #[serde(default)]
            #[schema(value_type = Option<AuthenticationForm>)]
            authentication: Edit<Strict<AuthenticationForm>>,
            /// `hmac` (the default), or `ed25519`.
            #[serde(default)]
            #[schema(value_type = Option<String>, example = "hmac")]
            signature: Edit<SigningScheme>,
            /// What must arrive in order: events with the same value at `key` (a JSON Pointer into their data), or all of
            /// them (any other text as `key`). `on_failure`: what happens to those behind one that does not arrive:
            /// `block` (the default), `park` or `skip`.
            #[serde(default)]
            #[schema(value_type = Option<Object>, example = json!({ "key": "/customer/id", "on_failure": "block" }))]
            ordering: Edit<Strict<OrderingPolicy>>,
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let fields = $fields::deserialize(deserializer)?;
                Ok(Self {
                    $($own: fields.$own,)*
                    policy: PolicyForm {
                        filter: fields.filter,
                        retry_schedule: fields.retry_schedule,
                        retry_jitter: fields.retry_jitter,
                        timeout_ms: fields.timeout_ms,
                        max_in_flight: fields.max_in_flight,
                        rate_limit: fields.rate_limit,
                        breaker: fields.breaker,
                        disable_after_hours: fields.disable_after_hours,
                        headers: fields.headers,
                        format: fields.format,
                        method: fields.method,
                        authentication: fields.authentication,
                        signature: fields.signature,
                        ordering: fields.ordering,
                    },
                })
            }
        }
    };
}

with_policy! {
    /// An endpoint to create. What of its policy is not given, or null, is as the installation has it.
    #[derive(Debug)]
    struct NewEndpoint NewEndpointFields {
        /// Where events are posted: http or https, without credentials or fragment.
        #[schema(value_type = String, format = "uri", example = "https://example.org/webhooks")]
        url: TargetUrl,
        /// Which events it wants: types, groups such as `invoice.*` or `invoice.*.paid`, or `*` for all.
        #[schema(value_type = Vec<String>, min_items = 1, max_items = 1000, example = json!(["*"]))]
        event_types: Vec<EventTypeFilter>,
        /// What people call it: at most 500 characters.
        #[schema(value_type = Option<String>)]
        description: Option<Description>,
    }
}

with_policy! {
    /// What shall change; what is not given stays. Null sets a part of the policy back to what the installation has.
    #[derive(Debug)]
    struct EndpointChange EndpointChangeFields {
        /// The new URL.
        #[schema(value_type = Option<String>, format = "uri")]
        url: Option<TargetUrl>,
        /// All event types it wants from now on.
        #[schema(value_type = Option<Vec<String>>)]
        event_types: Option<Vec<EventTypeFilter>>,
        /// The new description; null takes it away.
        #[serde(default, deserialize_with = "given")]
        #[schema(value_type = Option<String>)]
        description: Option<Option<Description>>,
    }
}

/// A policy as it is asked for, with its secrets.
#[derive(Debug)]
pub(super) struct PolicyForm {
    pub(super) filter: Edit<ContentFilter>,
    pub(super) retry_schedule: Edit<RetrySchedule>,
    pub(super) retry_jitter: Edit<Jitter>,
    pub(super) timeout_ms: Edit<TimeoutMs>,
    pub(super) max_in_flight: Edit<MaxInFlight>,
    pub(super) rate_limit: Edit<Strict<RateLimit>>,
    pub(super) breaker: Edit<BreakerPolicy>,
    pub(super) disable_after_hours: Edit<DisableAfterHours>,
    pub(super) headers: Edit<Vec<Strict<HeaderForm>>>,
    pub(super) format: Edit<Format>,
    pub(super) method: Edit<Method>,
    pub(super) authentication: Edit<Strict<AuthenticationForm>>,
    pub(super) signature: Edit<SigningScheme>,
    pub(super) ordering: Edit<Strict<OrderingPolicy>>,
}

impl PolicyForm {
    /// How a new endpoint signs that asks for this.
    pub(super) fn scheme(&self) -> SigningScheme {
        self.signature.of(None).unwrap_or_default()
    }

    /// Whether it changes parts that may have secrets.
    pub(super) fn seals(&self) -> bool {
        !self.headers.is_keep() || !self.authentication.is_keep()
    }
}

/// A header to send with each webhook.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewEndpointHeader)]
pub(super) struct HeaderForm {
    /// Its name: letters, digits and `-`, at most 64.
    #[schema(value_type = String, example = "x-api-key")]
    pub(super) name: HeaderName,
    /// What it says: printable ASCII, at most 4,096 characters.
    #[schema(value_type = String)]
    pub(super) value: Hidden<HeaderText>,
    /// Whether what it says is kept sealed and never shown.
    #[serde(default)]
    pub(super) secret: bool,
}

/// How Tidings shall prove to the receiver who it is. Passwords, tokens and keys are kept sealed and never shown.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = NewEndpointAuthentication)]
pub(super) enum AuthenticationForm {
    /// User name and password.
    Basic {
        /// The user name: at most 200 characters, no colon.
        #[schema(value_type = String)]
        username: Username,
        /// The password: at most 1,000 characters.
        #[schema(value_type = String, format = "password")]
        password: Hidden<Password>,
    },
    /// A token that does not change.
    Bearer {
        /// The token: printable ASCII.
        #[schema(value_type = String, format = "password")]
        token: Hidden<HeaderText>,
    },
    /// A token that is asked for with client credentials (OAuth 2.0), kept as long as it is good.
    Oauth2 {
        /// Where tokens are given out. The address is bound by the rules for receivers.
        #[schema(value_type = String, format = "uri")]
        token_url: TargetUrl,
        /// What Tidings is called there.
        #[schema(value_type = String)]
        client_id: ClientId,
        /// What it proves that with.
        #[schema(value_type = String, format = "password")]
        client_secret: Hidden<Password>,
        /// What the token shall be good for: words with spaces between.
        #[schema(value_type = Option<String>)]
        scope: Option<Scopes>,
    },
    /// A client certificate, shown in the TLS handshake.
    Mtls {
        /// The certificate and those that lead to its authority, in PEM form.
        #[schema(value_type = String)]
        certificate: CertificateChain,
        /// Its private key in PEM form, not encrypted.
        #[schema(value_type = String, format = "password")]
        key: Hidden<KeyText>,
    },
}

/// What is taken and never printed.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Hidden<T>(T);

impl<T> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<T> Hidden<T> {
    /// What was taken.
    pub(super) fn reveal(self) -> T {
        self.0
    }

    /// As what is kept sealed.
    pub(super) fn seal(self) -> SecretText
    where
        T: Into<String>,
    {
        SecretText::new(self.0.into())
    }
}

/// A password: 1 to 1,000 characters, none of them a control character (RFC 7617 §2).
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Password(String);

impl TryFrom<String> for Password {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if (1..=1_000).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
            Ok(Self(text))
        } else {
            Err("must be 1 to 1,000 characters without control characters")
        }
    }
}

impl From<Password> for String {
    fn from(password: Password) -> Self {
        password.0
    }
}

/// A private key in PEM form, whose content is checked together with its certificate.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct KeyText(String);

impl TryFrom<String> for KeyText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() <= 16_384 && text.contains("PRIVATE KEY-----") {
            Ok(Self(text))
        } else {
            Err("must be a private key in PEM form (-----BEGIN PRIVATE KEY-----), 16,384 bytes at most")
        }
    }
}

impl From<KeyText> for String {
    fn from(key: KeyText) -> Self {
        key.0
    }
}
