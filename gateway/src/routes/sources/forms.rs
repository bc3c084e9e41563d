//! Bodies of requests and answers about sources.

use domain::api_key::RateLimit;
use domain::endpoint::Reason;
use domain::source::{EventTypeRule, SourceName, ToleranceSeconds, Verification};
use domain::{SourceAddress, SourceId, TenantId, Timestamp};
use projections::{SourceRow, SourceStatus};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

use crate::extract::{Limit, given};
use crate::problem::{Problem, ProblemType};
use crate::routes::api_keys::RateLimitForm;

/// The reason given where the caller names none.
const BY_REQUEST: &str = "by request";

/// A source to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSource {
    /// What people call it: 1 to 100 characters.
    #[schema(value_type = String, example = "GitHub")]
    pub(super) name: SourceName,
    /// How its requests prove themselves: `{"scheme":…}` with `standard_webhooks`, `github`, `stripe` or `slack`;
    /// `hmac` with `header`, `hash` (`sha256`, `sha512`) and, where the sender does otherwise, `prefix`, `encoding`
    /// (`hex`, `base64`), `key` (`text`, `hex`, `base64`: what the secret's text means) and `id` (a JSON pointer to what
    /// names a message); `ed25519` with `header` and `encoding`, `timestamp_header`, `id`.
    #[schema(value_type = Object, example = json!({ "scheme": "github" }))]
    pub(super) verification: Verification,
    /// What its requests are checked with, as its sender has it: a shared secret, or the sender's public key. Drawn
    /// unless given.
    #[serde(default, deserialize_with = "secret")]
    #[schema(value_type = Option<String>)]
    pub(super) secret: Option<Zeroizing<String>>,
    /// Of which type its events are: `{"from":"fixed","type":"invoice.paid"}`,
    /// `{"from":"header","header":"x-github-event","prefix":"github"}` or
    /// `{"from":"body","pointer":"/type","prefix":"stripe"}`; as the scheme's sender says it, unless given.
    #[schema(value_type = Option<Object>, example = json!({ "from": "fixed", "type": "invoice.paid" }))]
    pub(super) event_type: Option<EventTypeRule>,
    /// How many seconds the time of a request may be off, where the scheme has one: 1 to 43,200; 300 unless given.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 43_200)]
    pub(super) tolerance_seconds: Option<ToleranceSeconds>,
    /// How many requests are taken, by each process; as many as come, unless given.
    #[schema(value_type = Option<RateLimitForm>)]
    pub(super) rate_limit: Option<RateLimit>,
}

/// A secret, wiped from memory once it is sealed.
pub(super) fn secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Zeroizing<String>>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Zeroizing::new))
}

/// What shall change; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "a field left away differs from null")]
pub(super) struct SourceChange {
    /// The new name.
    #[schema(value_type = Option<String>)]
    pub(super) name: Option<SourceName>,
    /// Of which type its events are from now on.
    #[schema(value_type = Option<Object>)]
    pub(super) event_type: Option<EventTypeRule>,
    /// The new tolerance.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 43_200)]
    pub(super) tolerance_seconds: Option<ToleranceSeconds>,
    /// The new limit; null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<RateLimitForm>)]
    pub(super) rate_limit: Option<Option<RateLimit>>,
}

/// Why it is disabled.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = DisableSource)]
#[serde(deny_unknown_fields)]
pub(super) struct Disable {
    /// For the audit trail: at most 200 characters.
    #[schema(value_type = Option<String>)]
    reason: Option<Reason>,
}

impl Disable {
    /// The reason, or that somebody asked.
    pub(super) fn reason(self) -> Result<Reason, Problem> {
        match self.reason {
            Some(reason) => Ok(reason),
            None => {
                Reason::new(BY_REQUEST).map_err(|error| Problem::caused(ProblemType::Internal, "", &error))
            }
        }
    }
}

/// A source that has come into being.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CreatedSource)]
pub(super) struct Created {
    /// The source's id.
    #[schema(value_type = String, example = "src_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    pub(super) id: SourceId,
    /// Where the other system is to send, under this service's own address.
    #[schema(example = "/v1/in/in_01ARZ3NDEKTSV4RRFFQ69G5FAV01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    pub(super) address: String,
    /// The secret that was drawn, for the other system; it is shown here and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<String>,
}

/// A source.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Source)]
pub(super) struct SourceView {
    /// The source's id.
    #[schema(value_type = String)]
    id: SourceId,
    /// Where the other system is to send, under this service's own address.
    address: String,
    /// What people call it.
    #[schema(value_type = String)]
    name: SourceName,
    /// How its requests prove themselves.
    #[schema(value_type = Object)]
    verification: Verification,
    /// Of which type its events are.
    #[schema(value_type = Object)]
    event_type: EventTypeRule,
    /// How many seconds the time of a request may be off.
    #[schema(value_type = u32)]
    tolerance_seconds: ToleranceSeconds,
    /// How many requests are taken.
    #[schema(value_type = Option<RateLimitForm>)]
    rate_limit: Option<RateLimit>,
    /// `enabled` or `disabled`: whether what it sends is taken.
    #[schema(value_type = String, example = "enabled")]
    status: SourceStatus,
    /// Why it was disabled, while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<String>,
    /// Until when the secret before the present one counts too, once it was rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    previous_secret_valid_until: Option<Timestamp>,
    /// When it was created.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = "date-time")]
    updated_at: Timestamp,
}

impl SourceView {
    /// A tenant's source.
    pub(super) fn of(tenant: &TenantId, row: SourceRow) -> Self {
        Self {
            address: address(tenant, &row.id),
            id: row.id,
            name: row.settings.name,
            verification: row.settings.verification,
            event_type: row.settings.event_type,
            tolerance_seconds: row.settings.tolerance_seconds,
            rate_limit: row.settings.rate_limit,
            status: row.status,
            disabled_reason: row.disabled_reason,
            previous_secret_valid_until: row.previous_secret_valid_until,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Where a source's requests go.
pub(super) fn address(tenant: &TenantId, source: &SourceId) -> String {
    let address = SourceAddress {
        tenant: tenant.clone(),
        source: source.clone(),
    };
    format!("/v1/in/{address}")
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceQuery {
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    pub(super) limit: Option<Limit>,
    /// `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
}
