//! Subjects: the dotted addresses of records, and the filters that select them.
//!
//! The rules are those of NATS subjects, narrowed: a token is 1–128 of `A-Z a-z 0-9 _ -`, so that no subject
//! can contain a wildcard, white space or an empty token, whatever a client sent.

use std::fmt;

const MAX_TOKEN: usize = 128;
const MAX_SUBJECT: usize = 512;

/// A text that is not a token, subject or filter, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid subject: {reason}")]
pub struct InvalidSubject {
    text: String,
    reason: &'static str,
}

impl InvalidSubject {
    fn new(text: &str, reason: &'static str) -> Self {
        Self {
            text: text.chars().take(64).collect(),
            reason,
        }
    }
}

/// One part of a subject between dots.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(String);

impl Token {
    /// Checks the text against the rules above.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidSubject> {
        let text = text.into();
        check_token(&text, &text)?;
        Ok(Self(text))
    }

    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The full address of a record: tokens joined by dots, at most 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(String);

impl Subject {
    /// Checks every token.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidSubject> {
        let text = text.into();
        if text.len() > MAX_SUBJECT {
            return Err(InvalidSubject::new(&text, "it is longer than 512 bytes"));
        }
        for token in text.split('.') {
            check_token(token, &text)?;
        }
        Ok(Self(text))
    }

    /// The subject as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern over subjects: `*` stands for exactly one token, `>` at the end for one or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter(String);

impl Filter {
    /// Checks every token, wildcards allowed.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidSubject> {
        let text = text.into();
        if text.len() > MAX_SUBJECT {
            return Err(InvalidSubject::new(&text, "it is longer than 512 bytes"));
        }
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            match token {
                "*" => {}
                ">" if tokens.peek().is_none() => {}
                ">" => return Err(InvalidSubject::new(&text, "`>` stands only at the end")),
                token => check_token(token, &text)?,
            }
        }
        Ok(Self(text))
    }

    /// The filter that selects exactly one subject.
    pub fn exactly(subject: &Subject) -> Self {
        Self(subject.0.clone())
    }

    /// The filter as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The subject this filter names, where it holds no wildcard.
    pub fn literal(&self) -> Option<Subject> {
        (!self.0.contains(['*', '>'])).then(|| Subject(self.0.clone()))
    }

    /// Whether the subject is selected.
    pub fn matches(&self, subject: &Subject) -> bool {
        let mut subject = subject.0.split('.');
        let mut filter = self.0.split('.');
        loop {
            match (filter.next(), subject.next()) {
                (Some(">"), Some(_)) | (None, None) => return true,
                (Some("*"), Some(_)) => {}
                (Some(wanted), Some(found)) if wanted == found => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_token(token: &str, whole: &str) -> Result<(), InvalidSubject> {
    if token.is_empty() {
        return Err(InvalidSubject::new(whole, "it has an empty token"));
    }
    if token.len() > MAX_TOKEN {
        return Err(InvalidSubject::new(whole, "a token is longer than 128 bytes"));
    }
    if !token
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    {
        return Err(InvalidSubject::new(
            whole,
            "a token may hold only A-Z a-z 0-9 _ and -",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_spaces_and_empty_tokens_never_become_a_subject() {
        for text in ["", "a..b", "a.*", "a.>", "a b", "a.\n", ".a", "a.", "ä"] {
            assert!(Subject::new(text).is_err(), "{text:?} was accepted");
        }
        assert!(Subject::new("ev.ten_1.user.usr-2").is_ok());
    }

    #[test]
    fn a_filter_selects_as_nats_does() {
        let subject = |text: &str| Subject::new(text).unwrap();
        let filter = |text: &str| Filter::new(text).unwrap();
        assert!(filter("ev.*.user.>").matches(&subject("ev.t.user.u")));
        assert!(!filter("ev.*.user.>").matches(&subject("ev.t.user")));
        assert!(!filter("ev.*").matches(&subject("ev.t.user")));
        assert!(filter(">").matches(&subject("ev")));
        assert!(filter("ev.t").matches(&subject("ev.t")));
        assert!(!filter("ev.t").matches(&subject("ev.t2")));
        assert!(Filter::new("ev.>.t").is_err());
        assert_eq!(filter("ev.*").literal(), None);
        assert_eq!(filter("ev.t").literal(), Some(subject("ev.t")));
    }
}
