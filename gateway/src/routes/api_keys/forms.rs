//! What `/v1/api-keys` takes and answers.

use domain::api_key::{KeyName, Overlap, RateLimit, Scopes};
use domain::{KeyId, Timestamp};
use projections::{ApiKeyRow, ApiKeyStatus};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::NewKey;
use crate::extract::{Limit, given, object};

/// An API key to issue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewApiKey {
    /// What people call it: 1 to 100 characters.
    #[schema(value_type = String, example = "reports")]
    pub(super) name: KeyName,
    /// What it may be used for: at most 64 of `*` or `resource.action.scope`, each part of which may be `*`. None:
    /// nothing.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 64, example = json!(["users.read.tenant", "stats.*.tenant"]))]
    pub(super) scopes: Scopes,
    /// From when on it is worth nothing. Not given: it does not expire, or as late as the tenant's settings allow.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub(super) expires_at: Option<Timestamp>,
    /// How many requests it may make to one process of the service. Not given: as many as it likes.
    #[schema(value_type = Option<RateLimitForm>)]
    pub(super) rate_limit: Option<Limited>,
}

/// What shall change; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "a field left away differs from null")]
pub(super) struct ApiKeyChange {
    /// The new name.
    #[schema(value_type = Option<String>)]
    pub(super) name: Option<KeyName>,
    /// All its scopes from now on.
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    pub(super) scopes: Option<Scopes>,
    /// The new expiry; null takes it away, where the tenant's settings allow that.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub(super) expires_at: Option<Option<Timestamp>>,
    /// The new limit; null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<RateLimitForm>)]
    pub(super) rate_limit: Option<Option<Limited>>,
}

impl ApiKeyChange {
    /// Whether it names nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.name.is_none() && self.scopes.is_none() && self.expires_at.is_none() && self.rate_limit.is_none()
    }
}

/// A limit: an object, whatever else serde would take for one.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Limited(#[serde(deserialize_with = "object")] RateLimit);

impl From<Limited> for RateLimit {
    fn from(limit: Limited) -> Self {
        limit.0
    }
}

/// How many requests a key may make.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RateLimit)]
pub(in crate::routes) struct RateLimitForm {
    /// At once, and in that time.
    #[schema(minimum = 1, maximum = 1_000_000, example = 100)]
    requests: u32,
    /// The time, in seconds, in which that many more may follow.
    #[schema(minimum = 1, maximum = 86_400, example = 60)]
    per_seconds: u32,
}

/// How a key shall be rotated.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// For how many seconds the text before stays good: 0 to 604,800, which are seven days. Not given: as the
    /// tenant's settings say.
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 604_800)]
    pub(super) overlap_seconds: Option<Overlap>,
}

/// An owner's key to issue.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnerKey {
    /// What people call it: 1 to 100 characters; `owner` unless given.
    #[schema(value_type = Option<String>)]
    pub(super) name: Option<KeyName>,
}

/// An API key with its text.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IssuedApiKey)]
pub(super) struct Issued {
    /// The key's id; not secret.
    #[schema(value_type = String, example = "key_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: KeyId,
    /// The key itself. It is shown here and never again.
    api_key: String,
}

impl From<NewKey> for Issued {
    fn from(key: NewKey) -> Self {
        Self {
            api_key: key.text.to_string(),
            id: key.id,
        }
    }
}

/// An API key with its new text.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RotatedApiKey)]
pub(super) struct Rotated {
    /// The key with its new text.
    #[serde(flatten)]
    pub(super) issued: Issued,
    /// Until when the text before is good; null where the key has been rotated once more meanwhile.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub(super) previous_valid_until: Option<Timestamp>,
}

/// An API key, without its text.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(super) struct ApiKeyView {
    /// The key's id.
    #[schema(value_type = String)]
    id: KeyId,
    /// What people call it.
    name: String,
    /// What it may be used for.
    scopes: Vec<String>,
    /// `active`, `expired` or `revoked`.
    #[schema(value_type = String, example = "active")]
    status: ApiKeyStatus,
    /// From when on it is worth nothing.
    #[schema(value_type = Option<String>, format = "date-time")]
    expires_at: Option<Timestamp>,
    /// How many requests it may make.
    rate_limit: Option<RateLimitForm>,
    /// When it got its present text, if that is not its first.
    #[schema(value_type = Option<String>, format = "date-time")]
    rotated_at: Option<Timestamp>,
    /// Until when the text before is good, as long as it is.
    #[schema(value_type = Option<String>, format = "date-time")]
    previous_valid_until: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = "date-time")]
    revoked_at: Option<Timestamp>,
    /// When it was issued.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = "date-time")]
    updated_at: Timestamp,
}

impl ApiKeyView {
    /// The key as it is at this time.
    pub(super) fn of(row: ApiKeyRow, now: Timestamp) -> Self {
        Self {
            status: row.status(now),
            id: row.id,
            name: row.name,
            scopes: row.scopes.into_iter().map(String::from).collect(),
            expires_at: row.expires_at,
            rate_limit: row.rate_limit.map(|limit| RateLimitForm {
                requests: limit.requests.get(),
                per_seconds: limit.per_seconds.get(),
            }),
            rotated_at: row.rotated_at,
            previous_valid_until: row.previous_until.filter(|until| now < *until),
            revoked_at: row.revoked_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ApiKeyQuery {
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    pub(super) limit: Option<Limit>,
    /// `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
}
