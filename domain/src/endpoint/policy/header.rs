//! Headers that an endpoint wants with each webhook.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::SecretId;

/// A header sent with each webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// What it says.
    #[serde(flatten)]
    pub value: HeaderValue,
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderValue {
    /// This, which everybody may see who sees the endpoint.
    #[serde(rename = "value")]
    Plain(HeaderText),
    /// What is kept sealed under this name.
    Secret(SecretId),
}

impl HeaderValue {
    /// The name of its secret, if it is one.
    pub fn secret(&self) -> Option<&SecretId> {
        match self {
            Self::Plain(_) => None,
            Self::Secret(name) => Some(name),
        }
    }
}

/// A text that is no header's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {} letters, digits and -", HeaderName::MAX)]
pub struct InvalidHeaderName;

/// The name of a header, in lower case. Of the names that HTTP allows only those of letters, digits and `-`, which
/// every server takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderName(String);

impl HeaderName {
    /// The most characters.
    pub const MAX: usize = 64;

    /// The name as text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HeaderName {
    type Error = InvalidHeaderName;

    fn try_from(text: String) -> Result<Self, InvalidHeaderName> {
        let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if fits && (1..=Self::MAX).contains(&text.len()) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(InvalidHeaderName)
        }
    }
}

impl From<HeaderName> for String {
    fn from(name: HeaderName) -> Self {
        name.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that no header can say. It is not repeated: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 1 to {} printable ASCII characters, with no space at either end",
    HeaderText::MAX
)]
pub struct InvalidHeaderText;

/// What a header can say: printable ASCII (RFC 9110 §5.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderText(String);

impl HeaderText {
    /// The most characters.
    pub const MAX: usize = 4_096;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a header can say this.
    pub fn fits(text: &str) -> bool {
        (1..=Self::MAX).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b' '..=b'~'))
            && text.trim_ascii() == text
    }
}

impl TryFrom<String> for HeaderText {
    type Error = InvalidHeaderText;

    fn try_from(text: String) -> Result<Self, InvalidHeaderText> {
        if Self::fits(&text) {
            Ok(Self(text))
        } else {
            Err(InvalidHeaderText)
        }
    }
}

impl From<HeaderText> for String {
    fn from(text: HeaderText) -> Self {
        text.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_words_and_texts_are_printable() {
        let name = |text: &str| HeaderName::try_from(text.to_owned());
        assert_eq!(name("X-Api-Key").unwrap().as_str(), "x-api-key");
        for bad in ["", "x key", "x:y", "x_y", "ä", &"x".repeat(65), "a\r\nb"] {
            assert_eq!(name(bad), Err(InvalidHeaderName), "{bad:?}");
        }
        let text = |text: &str| HeaderText::try_from(text.to_owned());
        assert_eq!(text("a b").unwrap().as_str(), "a b");
        for bad in ["", " a", "a ", "a\r\nhost: b", "ä", "\u{7f}", &"x".repeat(4_097)] {
            assert_eq!(text(bad), Err(InvalidHeaderText), "{bad:?}");
        }
    }
}
