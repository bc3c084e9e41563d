//! Signed notes: a text, a blank line, and the signatures under it (<https://c2sp.org/signed-note>), with Ed25519.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// The algorithm byte of Ed25519 in the specification.
const ED25519: u8 = 1;
/// What begins a signature's line.
const DASH: &str = "\u{2014} ";
/// The most signatures read of one note.
const MAX_SIGNATURES: usize = 100;

/// A text that is no verifier key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a verifier key, such as name+1a2b3c4d+AR… (see https://c2sp.org/signed-note)")]
pub struct InvalidKey;

/// A text that is no signed note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a signed note: {0}")]
pub struct InvalidNote(&'static str);

/// Why a note is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// It does not have the form of one.
    #[error(transparent)]
    Malformed(#[from] InvalidNote),
    /// None of its signatures names the key.
    #[error("it is not signed by the key {0}")]
    NotSigned(String),
    /// The signature that names the key was not made with it, or over another text.
    #[error("its signature by {0} is false")]
    Forged(String),
}

/// The first four bytes of SHA-256 over name, line feed, algorithm and key.
fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let digest = Sha256::new()
        .chain_update(name)
        .chain_update(b"\n")
        .chain_update([ED25519])
        .chain_update(key.as_bytes())
        .finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// What signs notes under a name.
pub struct Signer {
    name: String,
    key: SigningKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.name)
    }
}

impl Signer {
    /// With the secret key that is these 32 bytes (RFC 8032 §5.1.5); the name must hold neither space nor plus.
    pub fn new(name: &str, secret: &[u8; 32]) -> Result<Self, InvalidKey> {
        if !is_name(name) {
            return Err(InvalidKey);
        }
        Ok(Self {
            name: name.to_owned(),
            key: SigningKey::from_bytes(secret),
        })
    }

    /// What checks its signatures.
    pub fn verifier(&self) -> Verifier {
        Verifier {
            name: self.name.clone(),
            key: self.key.verifying_key(),
        }
    }

    /// The note: the text, which must be whole lines without control characters, and its signature.
    pub fn sign(&self, text: &str) -> Result<String, InvalidNote> {
        check_text(text)?;
        let id = key_id(&self.name, &self.key.verifying_key());
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let signature = STANDARD.encode([id.as_slice(), &signature].concat());
        Ok(format!("{text}\n{DASH}{} {signature}\n", self.name))
    }
}

fn check_text(text: &str) -> Result<(), InvalidNote> {
    if !text.ends_with('\n') {
        return Err(InvalidNote("its text does not end with a line feed"));
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(InvalidNote("its text holds control characters"));
    }
    Ok(())
}

/// A verifier key: checks what was signed under a name. In text: `<name>+<key id>+<base64>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: VerifyingKey,
}

impl Verifier {
    /// Under which name it verifies.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of a note that this key has signed. Signatures of other keys are passed over.
    pub fn open<'n>(&self, note: &'n str) -> Result<&'n str, Unverified> {
        let (text, signatures) = split(note)?;
        let id = key_id(&self.name, &self.key);
        let mut lines = signatures.lines();
        for line in lines.by_ref().take(MAX_SIGNATURES) {
            let (name, bytes) = signature(line)?;
            if name != self.name || bytes[..4] != id {
                continue;
            }
            let forged = || Unverified::Forged(self.to_string());
            let signature = Signature::from_slice(&bytes[4..]).map_err(|_| forged())?;
            self.key
                .verify_strict(text.as_bytes(), &signature)
                .map_err(|_| forged())?;
            return Ok(text);
        }
        match lines.next() {
            Some(_) => Err(InvalidNote("it has too many signatures").into()),
            None => Err(Unverified::NotSigned(self.to_string())),
        }
    }
}

/// The text of a note, whoever signed it, and its signatures' lines.
fn split(note: &str) -> Result<(&str, &str), InvalidNote> {
    let end = note
        .rfind("\n\n")
        .ok_or(InvalidNote("no blank line stands before its signatures"))?;
    let (text, signatures) = (&note[..=end], &note[end + 2..]);
    check_text(text)?;
    if signatures.is_empty() || !signatures.ends_with('\n') {
        return Err(InvalidNote("it does not end with a signature's line"));
    }
    Ok((text, signatures))
}

/// The name in a signature's line, and key id and signature.
fn signature(line: &str) -> Result<(&str, Vec<u8>), InvalidNote> {
    let malformed = InvalidNote("a signature's line is malformed");
    let (name, encoded) = line
        .strip_prefix(DASH)
        .and_then(|line| line.split_once(' '))
        .ok_or(malformed.clone())?;
    match STANDARD.decode(encoded) {
        Ok(bytes) if is_name(name) && bytes.len() > 4 => Ok((name, bytes)),
        _ => Err(malformed),
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(key_id(&self.name, &self.key));
        let key = STANDARD.encode([&[ED25519], self.key.as_bytes().as_slice()].concat());
        write!(f, "{}+{id:08x}+{key}", self.name)
    }
}

impl FromStr for Verifier {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(InvalidKey);
        };
        let bytes = STANDARD.decode(key).map_err(|_| InvalidKey)?;
        let Some((&ED25519, key)) = bytes.split_first() else {
            return Err(InvalidKey);
        };
        let key = key.try_into().map_err(|_| InvalidKey)?;
        let verifier = Self {
            name: name.to_owned(),
            key: VerifyingKey::from_bytes(key).map_err(|_| InvalidKey)?,
        };
        // Name, id and key belong together, or some part of the text is not what was given out.
        if is_name(name) && verifier.to_string() == text {
            Ok(verifier)
        } else {
            Err(InvalidKey)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's first implementation (golang.org/x/mod/sumdb/note).
    const NAME: &str = "PeterNeumann";
    const SECRET: &str = "gQoUAtUUbI2E8kQzMPVAgOv5juF9nHT2JS/F1ccoMXM=";
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\
        \n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn signer(secret: u8) -> Signer {
        Signer::new("tidings/ten_1/e0", &[secret; 32]).unwrap()
    }

    #[test]
    fn the_reference_note_is_believed() {
        let verifier: Verifier = KEY.parse().unwrap();
        assert_eq!((verifier.name(), verifier.to_string().as_str()), (NAME, KEY));
        let text = verifier.open(NOTE).unwrap();
        assert!(text.starts_with("If you") && text.ends_with("problem is.\n"));
        let secret = STANDARD.decode(SECRET).unwrap().try_into().unwrap();
        assert_eq!(Signer::new(NAME, &secret).unwrap().sign(text).unwrap(), NOTE);
    }

    #[test]
    fn a_note_is_opened_by_its_key_and_no_other() {
        let (mine, other) = (signer(1), signer(2));
        let note = mine.sign("a\n\nb\n").unwrap();
        assert_eq!(mine.verifier().open(&note), Ok("a\n\nb\n"));
        assert!(matches!(
            other.verifier().open(&note),
            Err(Unverified::NotSigned(_))
        ));
        let both = format!(
            "{note}{}",
            other.sign("a\n\nb\n").unwrap().lines().last().unwrap()
        ) + "\n";
        assert_eq!(mine.verifier().open(&both), Ok("a\n\nb\n"));
        assert_eq!(other.verifier().open(&both), Ok("a\n\nb\n"));
        assert!(matches!(
            mine.verifier().open(&note.replacen('a', "c", 1)),
            Err(Unverified::Forged(_))
        ));
    }

    #[test]
    fn what_is_no_note_is_told_apart() {
        let verifier = signer(1).verifier();
        let note = signer(1).sign("text\n").unwrap();
        for spoiled in [
            String::new(),
            "text\n".to_owned(),
            note.trim_end().to_owned(),
            note.replacen('t', "\r", 1),
            note.replacen(DASH, "- ", 1),
            format!("text\n\n{}", format!("{DASH}x AAAAAAA=\n").repeat(101)),
        ] {
            let opened = verifier.open(&spoiled);
            assert!(
                matches!(opened, Err(Unverified::Malformed(_))),
                "{spoiled:?}: {opened:?}"
            );
        }
        assert!(signer(1).sign("no line feed").is_err());
        assert!(signer(1).sign("a\tb\n").is_err());
    }

    #[test]
    fn a_key_of_parts_that_do_not_belong_together_is_refused() {
        let key = signer(1).verifier().to_string();
        assert_eq!(key.parse(), Ok(signer(1).verifier()));
        let spoiled = [
            String::new(),
            "a+b".to_owned(),
            key.replacen("ten_1", "ten_2", 1),
            key.replacen("+A", "+B", 1),
            format!("{key}A"),
        ];
        for text in spoiled {
            assert_eq!(text.parse::<Verifier>(), Err(InvalidKey), "{text}");
        }
        for name in ["", "a b", "a+b", "a\n"] {
            assert!(Signer::new(name, &[1; 32]).is_err());
        }
    }
}
