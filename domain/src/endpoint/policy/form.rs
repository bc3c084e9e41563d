//! The form in which messages are sent.

use serde::{Deserialize, Serialize};

/// What a webhook's body and headers are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `{"type","timestamp","data"}`, as Standard Webhooks recommends.
    #[default]
    Standard,
    /// A `CloudEvents` 1.0 event as JSON.
    CloudeventsStructured,
    /// The data alone; the rest of a `CloudEvents` 1.0 event is in headers.
    CloudeventsBinary,
}

impl Format {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::CloudeventsStructured => "cloudevents_structured",
            Self::CloudeventsBinary => "cloudevents_binary",
        }
    }
}

/// The HTTP method of webhooks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// As Standard Webhooks has it.
    #[default]
    Post,
    /// For receivers that store what comes.
    Put,
    /// For receivers that change something by it.
    Patch,
}

impl Method {
    /// As HTTP writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }
}

/// How webhooks are signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigningScheme {
    /// HMAC-SHA256 with a secret that the receiver knows (`v1`).
    #[default]
    Hmac,
    /// ed25519 with a key whose public half is published (`v1a`).
    Ed25519,
}

impl SigningScheme {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hmac => "hmac",
            Self::Ed25519 => "ed25519",
        }
    }
}
