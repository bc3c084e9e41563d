//! A time of day for one process, which a test sets: what a machine does whose clock is put right, or wrong.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::shims;
use crate::tools::Folder;

/// The shim's source.
const SHIM: &str = include_str!("clock.c");

/// The clock of a process.
#[derive(Debug)]
pub struct Clock(Folder);

impl Clock {
    /// One that goes right.
    pub fn new() -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        shims::build(folder.path(), "clock", SHIM)?;
        let clock = Self(folder);
        fs::write(clock.file(), 0_i64.to_ne_bytes())?;
        Ok(clock)
    }

    /// What makes a process go by it, as environment variables.
    pub fn env(&self) -> [(String, String); 2] {
        let shim = shims::library(self.0.path(), "clock").display().to_string();
        [
            ("LD_PRELOAD".to_owned(), shim),
            ("TEST_CLOCK".to_owned(), self.file().display().to_string()),
        ]
    }

    /// From now on it is so many seconds ahead of the true time, or behind it.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        use std::os::unix::fs::FileExt as _;
        let microseconds = seconds.checked_mul(1_000_000).context("a time that far away")?;
        // In place: the process has the file mapped.
        let file = fs::OpenOptions::new().write(true).open(self.file())?;
        Ok(file.write_all_at(&microseconds.to_ne_bytes(), 0)?)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("ahead")
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_process_goes_by_it() -> anyhow::Result<()> {
        let clock = Clock::new()?;
        let seconds = || -> anyhow::Result<u64> {
            let output = Command::new("date").arg("+%s").envs(clock.env()).output()?;
            Ok(String::from_utf8(output.stdout)?.trim().parse()?)
        };
        let now = || anyhow::Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
        assert!(seconds()?.abs_diff(now()?) < 60);
        clock.set(3_600)?;
        assert!(seconds()?.abs_diff(now()? + 3_600) < 60);
        clock.set(-3_600)?;
        assert!(seconds()?.abs_diff(now()? - 3_600) < 60);
        Ok(())
    }
}
