//! The text of an API key.
//!
//! `tdk_` + 26 characters of the tenant's ULID + 26 of the key's ULID + 43 of base64url for 32 secret bytes. It names
//! the one aggregate that can vouch for it.

mod form;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::{CredentialId, KeyId, TenantId};
use zeroize::Zeroizing;

use crate::draw::Draw;

use form::PREFIX;
pub(crate) use form::named;

/// A new text of an API key, which its holder is shown once.
pub(crate) struct NewKey {
    /// The key's id.
    pub(crate) id: KeyId,
    /// The text's credential; none where it is the key's first, which goes by the key's id.
    pub(crate) credential: Option<CredentialId>,
    /// The text.
    pub(crate) text: Zeroizing<String>,
}

impl NewKey {
    /// Draws a key for a tenant.
    pub(crate) fn draw(tenant: &TenantId, draw: &Draw) -> Self {
        let id = KeyId::new(draw.ulid("api key"));
        Self {
            text: text(tenant, &id, draw),
            credential: None,
            id,
        }
    }

    /// Draws another text for a key.
    pub(crate) fn again(tenant: &TenantId, id: KeyId, credential: CredentialId, draw: &Draw) -> Self {
        Self {
            text: text(tenant, &id, draw),
            credential: Some(credential),
            id,
        }
    }
}

fn text(tenant: &TenantId, key: &KeyId, draw: &Draw) -> Zeroizing<String> {
    let secret = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(draw.secret("api key").as_slice()));
    let tenant = tenant.as_str().trim_start_matches(TenantId::PREFIX);
    let key = key.as_str().trim_start_matches(KeyId::PREFIX);
    Zeroizing::new(format!("{PREFIX}{tenant}{key}{}", secret.as_str()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;
    use ulid::Ulid;

    use super::form::{SECRET, ULID};
    use super::*;

    fn tenant() -> TenantId {
        TenantId::new(Ulid::generate())
    }

    #[test]
    fn a_key_names_its_tenant_and_itself() {
        let tenant = tenant();
        let key = NewKey::draw(&tenant, &Draw::fresh());
        assert_eq!(named(&key.text), Some((tenant.clone(), key.id.clone())));
        assert_eq!(key.text.len(), PREFIX.len() + 2 * ULID + SECRET);

        let credential = CredentialId::new(Ulid::generate());
        let again = NewKey::again(&tenant, key.id.clone(), credential, &Draw::fresh());
        assert_eq!(named(&again.text), Some((tenant, key.id.clone())));
        assert_ne!(again.text, key.text);
    }

    #[test]
    fn one_draw_gives_one_key() {
        let (tenant, draw) = (tenant(), Draw::fresh());
        let (one, same) = (NewKey::draw(&tenant, &draw), NewKey::draw(&tenant, &draw));
        assert_eq!((one.id, one.text), (same.id, same.text));
    }

    proptest! {
        /// Whatever stands where a key should, it names something in exactly the form that keys have, or nothing.
        #[test]
        fn any_text_is_a_key_or_names_nothing(
            any in any::<String>(),
            likely in "tdk_[0-9A-Za-z_-]{95}",
            place in any::<Index>(),
            by in any::<char>(),
        ) {
            let valid = NewKey::draw(&tenant(), &Draw::fresh()).text.to_string();
            let mut characters: Vec<char> = valid.chars().collect();
            characters[place.index(valid.len())] = by;
            let spoilt: String = characters.into_iter().collect();
            for text in [any, likely, spoilt] {
                if let Some((tenant, key)) = named(&text) {
                    let names = [tenant.as_str(), key.as_str()].map(|id| &id[4..]).concat();
                    prop_assert_eq!(&text[..PREFIX.len() + 2 * ULID], format!("{PREFIX}{names}"));
                }
            }
        }
    }

    #[test]
    fn what_has_not_the_form_of_a_key_names_nothing() {
        let good = NewKey::draw(&tenant(), &Draw::fresh()).text.to_string();
        let lower = good.to_lowercase();
        let (short, long) = (&good[..good.len() - 1], format!("{good}A"));
        let foreign = format!("tdk_{}", "ä".repeat(47));
        for text in ["", "tdk_", "Bearer", &good[4..], short, &long, &lower, &foreign] {
            assert_eq!(named(text), None, "{text:?}");
        }
    }
}
