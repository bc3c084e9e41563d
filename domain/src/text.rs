//! Short texts people type: names and descriptions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// Nothing is left after trimming.
    #[error("must not be empty")]
    Empty,
    /// Too long.
    #[error("must be at most {max} characters long")]
    TooLong {
        /// The limit, in characters.
        max: usize,
    },
    /// Line breaks or other control characters.
    #[error("must not contain control characters")]
    ControlCharacter,
}

/// A text of 1 to `MAX` characters on one line, trimmed at both ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// Trims and checks.
    pub fn new(text: &str) -> Result<Self, InvalidText> {
        let text = text.trim();
        if text.is_empty() {
            return Err(InvalidText::Empty);
        }
        if text.chars().count() > MAX {
            return Err(InvalidText::TooLong { max: MAX });
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidText::ControlCharacter);
        }
        Ok(Self(text.to_owned()))
    }

    /// What of any text fits, such as of an error's: its first characters, on one line; `unknown` where nothing is left.
    pub fn fitting(text: &str) -> Self {
        let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        let line: String = line.take(MAX).collect();
        match line.trim() {
            "" => Self("unknown".chars().take(MAX).collect()),
            line => Self(line.to_owned()),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, InvalidText> {
        Self::new(&text)
    }
}

impl<const MAX: usize> From<Text<MAX>> for String {
    fn from(text: Text<MAX>) -> Self {
        text.0
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_characters_after_trimming() {
        assert_eq!(Text::<3>::new(" äöü ").unwrap().as_str(), "äöü");
        assert_eq!(Text::<3>::new("abcd"), Err(InvalidText::TooLong { max: 3 }));
        assert_eq!(Text::<3>::new(" \t "), Err(InvalidText::Empty));
        assert_eq!(Text::<3>::new("a\nb"), Err(InvalidText::ControlCharacter));
    }

    #[test]
    fn something_of_any_text_fits() {
        for (text, fitting) in [
            ("a\nbcd", "a bcd"),
            ("12345678901", "1234567890"),
            ("\n ", "unknown"),
        ] {
            let fitted = Text::<10>::fitting(text);
            assert_eq!(fitted.as_str(), fitting);
            assert_eq!(Text::<10>::new(fitted.as_str()), Ok(fitted.clone()));
        }
    }
}
