//! Slugs: tenants' short names in addresses.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that is not a slug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 3 to 40 characters of a-z, 0-9 and -, beginning and ending with a letter or digit")]
pub struct InvalidSlug;

/// A tenant's short name in addresses, as `acme`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slug(String);

impl Slug {
    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Slug {
    type Error = InvalidSlug;

    fn try_from(text: String) -> Result<Self, InvalidSlug> {
        let alphabet = text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let ends = !text.starts_with('-') && !text.ends_with('-');
        if alphabet && ends && (3..=40).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(InvalidSlug)
        }
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> Self {
        slug.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_lower_case_words() {
        for text in ["acme", "a-1", "abc-def-2"] {
            assert!(Slug::try_from(text.to_owned()).is_ok(), "{text:?} was refused");
        }
        for text in [
            "",
            "ab",
            "-abc",
            "abc-",
            "Acme",
            "a.b.c",
            "a_b",
            "äöü",
            &"a".repeat(41),
        ] {
            assert!(Slug::try_from(text.to_owned()).is_err(), "{text:?} was accepted");
        }
    }
}
