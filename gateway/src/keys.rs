//! The keys of an installation: the master key, what derives from it, and the platform administrator's key.
//!
//! Given keys come from the configuration. Otherwise they are drawn at the first start and kept in the data folder,
//! readable by its owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::cli::Failure;
use crate::config::{Config, EngineChoice, Profile, Role, Secret};

pub(crate) use delivery::MasterKey;

use crate::seal::Sealer;

/// The file of a generated master key, in the data folder.
pub(crate) const MASTER_FILE: &str = "master.key";
/// The file of a generated admin key, in the data folder.
pub(crate) const ADMIN_FILE: &str = "admin.key";

const CLAIMS: &str = "tidings/claims/v1";
const API_KEYS: &str = "tidings/api-keys/v1";
const REQUESTS: &str = "tidings/requests/v1";
const ANSWERS: &str = "tidings/answers/v1";
const INVITATIONS: &str = "tidings/invitations/v1";
const CHECKPOINTS: &str = "tidings/checkpoints/v1";

/// The keys of an installation.
pub(crate) struct Keys {
    /// What the others are derived from.
    pub(crate) master: MasterKey,
    /// The platform administrator's; none where the process has no API to use it on.
    pub(crate) admin: Option<Secret>,
    /// Where the admin key was kept just now, if it was drawn just now: the one time it is shown.
    pub(crate) new_admin_file: Option<PathBuf>,
}

impl Keys {
    /// Takes the given keys, and reads or draws the others.
    ///
    /// On the embedded engine this is called with the folder locked by the engine.
    pub(crate) fn open(config: &Config) -> Result<Self, Failure> {
        let folder = &config.storage.data;
        let cluster = matches!(config.storage.engine, EngineChoice::Cluster(_));
        let (master, _) = match &config.keys.master {
            Some(given) => (given.clone(), false),
            None if config.profile == Profile::Production && cluster => return Err(no_master_key()),
            None => kept(folder, MASTER_FILE, || MasterKey::generate().reveal())?,
        };
        let (admin, fresh) = match &config.keys.admin {
            // What delivers never sees credentials (design §9), and must not make one up.
            _ if !config.has(Role::Gateway) => (None, false),
            Some(given) => (Some(given.clone()), false),
            None => {
                let (admin, fresh) = kept(folder, ADMIN_FILE, draw_admin_key)?;
                (Some(admin), fresh)
            }
        };
        let master = master
            .expose()
            .parse()
            .map_err(|error| unusable(&folder.join(MASTER_FILE), &error))?;
        if cluster && config.keys.master.is_none() {
            tracing::warn!(
                file = %folder.join(MASTER_FILE).display(),
                "the master key is kept in a file: every process of this cluster must have the same"
            );
        }
        Ok(Self {
            master,
            admin,
            new_admin_file: fresh.then(|| folder.join(ADMIN_FILE)),
        })
    }

    /// The key of the hashes under which unique values stand in the log.
    pub(crate) fn claims(&self) -> commands::ClaimKey {
        commands::ClaimKey::new(*self.master.derive(CLAIMS))
    }

    /// What API keys are hashed with.
    pub(crate) fn hasher(&self) -> KeyHasher {
        KeyHasher(self.master.derive(API_KEYS))
    }

    /// What keyed requests are hashed with.
    pub(crate) fn request_hasher(&self) -> KeyHasher {
        KeyHasher(self.master.derive(REQUESTS))
    }

    /// Seals what keyed requests draw from and what they were answered.
    pub(crate) fn answer_sealer(&self) -> Sealer {
        Sealer::new(&self.master.derive(ANSWERS))
    }

    /// The secret key that signs checkpoints of tenants' logs.
    pub(crate) fn checkpoints(&self) -> Zeroizing<[u8; 32]> {
        self.master.derive(CHECKPOINTS)
    }

    /// What the tokens of invitations are hashed with.
    pub(crate) fn token_hasher(&self) -> KeyHasher {
        KeyHasher(self.master.derive(INVITATIONS))
    }
}

fn no_master_key() -> Failure {
    Failure::new(
        "no master key is set, and a cluster in production must not make up its own",
        "set TIDINGS_MASTER_KEY to 64 hexadecimal digits (`openssl rand -hex 32`), the same for every process, and keep a copy: what it encrypts cannot be read without it",
    )
}

/// Hashes under a key of the installation: HMAC-SHA-256.
pub(crate) struct KeyHasher(Zeroizing<[u8; 32]>);

impl KeyHasher {
    /// Under 32 secret bytes.
    #[cfg(test)]
    pub(crate) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// The keyed hash of a text.
    pub(crate) fn hash(&self, text: &str) -> [u8; 32] {
        let mut mac = self.mac();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The keyed hash of several things in their order, each apart from the next.
    pub(crate) fn hash_all(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.mac();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    fn mac(&self) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        Hmac::new_from_slice(self.0.as_slice()).expect("any key fits")
    }
}

/// The text of a key from 32 random bytes.
pub(crate) fn draw() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(bytes.as_mut_slice());
    Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(bytes.as_slice()))
}

fn draw_admin_key() -> Zeroizing<String> {
    Zeroizing::new(format!("tdk_{}", draw().as_str()))
}

/// The key in a file of the folder, drawn and kept now if there is none; and whether it was.
fn kept(folder: &Path, name: &str, draw: fn() -> Zeroizing<String>) -> Result<(Secret, bool), Failure> {
    let path = folder.join(name);
    if let Some(text) = read(&path)? {
        return Ok((text, false));
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| unusable(folder, &error))?;
    let text = draw();
    match keep(&path, &text) {
        Ok(()) => Ok((Secret::new(text.as_str()), true)),
        // Another process was quicker: its key is the one.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match read(&path)? {
            Some(text) => Ok((text, false)),
            None => Err(unusable(&path, &error)),
        },
        Err(error) => Err(unusable(&path, &error)),
    }
}

fn read(path: &Path) -> Result<Option<Secret>, Failure> {
    match fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) if text.trim().is_empty() => Err(unusable(path, &"it is empty")),
        Ok(text) => Ok(Some(Secret::new(text.trim()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, &error)),
    }
}

/// Writes beside and links into place, so that no half-written key can ever be read, and none is overwritten.
fn keep(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension(format!("key.{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::hard_link(&draft, path)?;
        path.parent()
            .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    })();
    fs::remove_file(&draft)?;
    written
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        format!("{} cannot be used: {error}", path.display()),
        "check that the data folder belongs to the user who runs this and has free space, or restore the file from a backup",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_drawn_key_is_kept_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a/b");
        let (first, fresh) = kept(&data, ADMIN_FILE, draw_admin_key).unwrap();
        assert!(fresh && first.expose().starts_with("tdk_") && first.expose().len() == 47);
        let (second, fresh) = kept(&data, ADMIN_FILE, draw_admin_key).unwrap();
        assert_eq!((second.expose(), fresh), (first.expose(), false));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&data), mode(&data.join(ADMIN_FILE))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "a draft was left behind");
    }

    #[test]
    fn an_empty_key_file_is_an_error_not_a_new_key() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MASTER_FILE), "\n").unwrap();
        let failure = kept(folder.path(), MASTER_FILE, draw).map(|_| ()).unwrap_err();
        assert!(failure.to_string().contains("it is empty"), "{failure}");
    }

    #[test]
    fn hashes_depend_on_the_text() {
        let hasher = KeyHasher(Zeroizing::new([7; 32]));
        assert_eq!(hasher.hash("a"), hasher.hash("a"));
        assert_ne!(hasher.hash("a"), hasher.hash("b"));
        assert_ne!(hasher.hash_all(&[b"a", b"bc"]), hasher.hash_all(&[b"ab", b"c"]));
    }
}
