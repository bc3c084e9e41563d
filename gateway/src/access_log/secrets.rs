//! Marks answers that show secrets: handlers return [`Showing`], so that what is shown stands in their type.

use axum::response::{IntoResponse, Response};
use domain::access_log::SecretKind;
use domain::{EndpointId, InvitationId, KeyId, SourceId, TenantId};
use serde::{Deserialize, Serialize};

/// A secret in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// Its kind.
    pub(crate) kind: SecretKind,
    /// Whose it is: a key, an endpoint, an invitation, a source.
    pub(crate) id: String,
    /// In whose trail it is told, where that is not the caller's.
    pub(crate) tenant: Option<TenantId>,
}

impl Shown {
    fn new(kind: SecretKind, id: &str) -> Self {
        Self {
            kind,
            id: id.to_owned(),
            tenant: None,
        }
    }

    /// The text of a key.
    pub(crate) fn key(id: &KeyId) -> Self {
        Self::new(SecretKind::ApiKey, id.as_str())
    }

    /// What signs an endpoint's webhooks.
    pub(crate) fn endpoint_secret(id: &EndpointId) -> Self {
        Self::new(SecretKind::EndpointSecret, id.as_str())
    }

    /// The token of an invitation.
    pub(crate) fn invitation(id: &InvitationId) -> Self {
        Self::new(SecretKind::InvitationToken, id.as_str())
    }

    /// What a source's requests are checked with.
    pub(crate) fn source_secret(id: &SourceId) -> Self {
        Self::new(SecretKind::SourceSecret, id.as_str())
    }

    /// The same, told in the trail of the tenant it belongs to.
    pub(crate) fn of(self, tenant: &TenantId) -> Self {
        Self {
            tenant: Some(tenant.clone()),
            ..self
        }
    }
}

/// The secrets of a response, in its extensions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shows(pub(crate) Vec<Shown>);

impl Shows {
    /// Those that a response shows.
    pub(crate) fn of(response: &Response) -> Vec<Shown> {
        let shows = response.extensions().get::<Self>();
        shows.map(|shows| shows.0.clone()).unwrap_or_default()
    }

    /// Marks a response with what it shows.
    pub(crate) fn mark(response: &mut Response, secrets: Vec<Shown>) {
        if !secrets.is_empty() {
            response.extensions_mut().insert(Self(secrets));
        }
    }
}

/// An answer that shows a secret.
#[derive(Debug)]
pub(crate) struct Showing<T>(pub(crate) T, pub(crate) Shown);

/// An answer that may show a secret.
#[derive(Debug)]
pub(crate) struct MayShow<T>(pub(crate) T, pub(crate) Option<Shown>);

impl<T: IntoResponse> IntoResponse for MayShow<T> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        Shows::mark(&mut response, self.1.into_iter().collect());
        response
    }
}

impl<T: IntoResponse> IntoResponse for Showing<T> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        Shows::mark(&mut response, vec![self.1]);
        response
    }
}
