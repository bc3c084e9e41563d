//! Names that lead where a test says, for one process and no longer than the test wants: what a receiver does who
//! rebinds its name.

use crate::shims;
use crate::tools::Folder;

/// The shim's source.
const SHIM: &str = include_str!("hosts.c");

/// The names of a process.
#[derive(Debug)]
pub struct Hosts(Folder);

impl Hosts {
    /// None yet.
    pub fn new() -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        shims::build(folder.path(), "hosts", SHIM)?;
        let hosts = Self(folder);
        std::fs::write(hosts.file(), "")?;
        Ok(hosts)
    }

    /// What makes a process use them, as environment variables.
    pub fn env(&self) -> [(String, String); 2] {
        let shim = shims::library(self.0.path(), "hosts").display().to_string();
        [
            ("LD_PRELOAD".to_owned(), shim),
            ("TEST_HOSTS".to_owned(), self.file().display().to_string()),
        ]
    }

    /// From now on this name leads there, and no other anywhere.
    pub fn lead(&self, name: &str, address: &str) -> anyhow::Result<()> {
        // In one step: it may be read at any moment.
        let new = self.0.path().join("new");
        std::fs::write(&new, format!("{address} {name}\n"))?;
        Ok(std::fs::rename(new, self.file())?)
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("hosts")
    }
}
