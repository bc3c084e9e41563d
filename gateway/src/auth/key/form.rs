//! What an API key's text names, as anybody may write it.

use domain::{KeyId, TenantId};

/// How every key begins.
pub(crate) const PREFIX: &str = "tdk_";
/// Characters of an id without its prefix.
pub(super) const ULID: usize = 26;
/// Characters of the secret.
pub(super) const SECRET: usize = 43;

/// The tenant and the key that an API key's text names; none if it has not the form.
pub(crate) fn named(text: &str) -> Option<(TenantId, KeyId)> {
    let rest = text.strip_prefix(PREFIX)?;
    if rest.len() != 2 * ULID + SECRET || !rest.is_ascii() {
        return None;
    }
    let tenant = format!("{}{}", TenantId::PREFIX, &rest[..ULID]).parse().ok()?;
    let key = format!("{}{}", KeyId::PREFIX, &rest[ULID..2 * ULID])
        .parse()
        .ok()?;
    Some((tenant, key))
}
