//! The tokens of invitations: what whoever accepts one shows, and what it is checked against.
//!
//! A token is `tdi_` + 26 characters of the tenant's ULID + 26 of the invitation's + 43 of base64url for 32 bytes. It
//! therefore names the one aggregate that tells whether it is still good; that somebody holds it is proved against a
//! keyed hash in the bucket of credentials, which stands under the [`TokenId`] that the invitation names: sending an
//! invitation again names another, and every token before is worthless at that moment.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use broker::{Expect, KeyValue, KvError, Subject};
use domain::{InvitationId, TenantId, TokenId};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::draw::Draw;
use crate::keys::KeyHasher;

const PREFIX: &str = "tdi_";
const ULID: usize = 26;
const SECRET: usize = 43;

/// How much longer than its invitation a hash is kept, so that a token which comes too late is told so.
const AFTERWARDS: Duration = Duration::from_hours(30 * 24);

/// A new token; its text is shown once, to whoever invites.
pub(crate) struct NewToken {
    /// What the invitation calls it.
    pub(crate) id: TokenId,
    /// The token itself.
    pub(crate) text: Zeroizing<String>,
}

impl NewToken {
    /// Draws a token for an invitation.
    pub(crate) fn draw(tenant: &TenantId, invitation: &InvitationId, draw: &Draw) -> Self {
        let bytes = draw.secret("invitation token");
        let secret = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(bytes.as_slice()));
        let (tenant, invitation) = (
            tenant.as_str().trim_start_matches(TenantId::PREFIX),
            invitation.as_str().trim_start_matches(InvitationId::PREFIX),
        );
        Self {
            id: TokenId::new(draw.ulid("invitation token")),
            text: Zeroizing::new(format!("{PREFIX}{tenant}{invitation}{}", secret.as_str())),
        }
    }
}

/// The tenant and the invitation that a token names; none if it has not the form.
pub(crate) fn named(text: &str) -> Option<(TenantId, InvitationId)> {
    let rest = text.strip_prefix(PREFIX)?;
    if rest.len() != 2 * ULID + SECRET || !rest.is_ascii() {
        return None;
    }
    let tenant = format!("{}{}", TenantId::PREFIX, &rest[..ULID]).parse().ok()?;
    let invitation = format!("{}{}", InvitationId::PREFIX, &rest[ULID..2 * ULID]);
    Some((tenant, invitation.parse().ok()?))
}

/// What tokens are checked against.
pub(crate) struct InvitationTokens {
    bucket: Arc<dyn KeyValue>,
    hasher: KeyHasher,
}

impl InvitationTokens {
    /// Over the bucket of credentials.
    pub(crate) fn new(bucket: Arc<dyn KeyValue>, hasher: KeyHasher) -> Self {
        Self { bucket, hasher }
    }

    /// Keeps what a new token will be checked against, for as long as it is good and some time after. It is worth
    /// nothing before its invitation names it.
    pub(crate) async fn keep(
        &self,
        (tenant, invitation): (&TenantId, &InvitationId),
        token: &NewToken,
        lifetime: Duration,
    ) -> Result<(), KvError> {
        let hash = self.hasher.hash(&token.text).to_vec();
        let place = place(tenant, invitation, &token.id)?;
        let kept = Some(lifetime + AFTERWARDS);
        // Only this request draws this place: a request that is repeated puts the same there again.
        self.bucket
            .put(&place, hash.into(), Expect::Anything, kept)
            .await?;
        Ok(())
    }

    /// Whether the text is the token of this name; compared in constant time.
    pub(crate) async fn matches(
        &self,
        (tenant, invitation): (&TenantId, &InvitationId),
        token: &TokenId,
        text: &str,
    ) -> Result<bool, KvError> {
        let kept = self.bucket.get(&place(tenant, invitation, token)?).await?;
        let hash = self.hasher.hash(text);
        Ok(kept.is_some_and(|entry| entry.value.as_ref().ct_eq(&hash).into()))
    }
}

fn place(tenant: &TenantId, invitation: &InvitationId, token: &TokenId) -> Result<Subject, KvError> {
    Subject::new(format!("{tenant}.{invitation}.{token}"))
        .map_err(|error| KvError::Unavailable(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    #[test]
    fn a_token_names_its_tenant_and_its_invitation() {
        let (tenant, invitation) = (TenantId::new(Ulid(7)), InvitationId::new(Ulid(8)));
        let draw = Draw::fresh();
        let token = NewToken::draw(&tenant, &invitation, &draw);
        assert_eq!(named(&token.text), Some((tenant.clone(), invitation.clone())));
        let again = NewToken::draw(&tenant, &invitation, &draw.clone());
        assert_eq!((again.id, again.text), (token.id, token.text.clone()));
        for text in [
            "",
            "tdi_",
            &token.text[1..],
            &token.text[..token.text.len() - 1],
            "tdk_x",
        ] {
            assert_eq!(named(text), None, "{text:?}");
        }
    }
}
