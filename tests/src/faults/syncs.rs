//! A disk that cannot keep what it is told to: every fsync and fdatasync of a process fails, by `strace`, which takes the
//! right to look into other processes. What was written stays in the memory of the file system, as it may on a real disk.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::run::Skipped;
use crate::tools::{Folder, Program, Running};

/// How long it may take to be in the way of all threads.
const ATTACHED: Duration = Duration::from_secs(10);

/// From now on until it is dropped.
#[derive(Debug)]
pub(crate) struct FailingSyncs {
    running: Running,
    _folder: Folder,
}

impl FailingSyncs {
    /// Stands in the way of a process, when this returns.
    ///
    /// # Errors
    /// [`Skipped`], where there is no `strace`.
    pub(crate) async fn of(pid: u32) -> anyhow::Result<Self> {
        if Command::new("strace").arg("--version").output().is_err() {
            return Err(Skipped("a disk that does not sync takes strace".to_owned()).into());
        }
        let folder = Folder::new()?;
        let mut strace = Program::new(Path::new("strace"), &folder.path().join("log"), "TERM");
        strace.command().args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=fsync,fdatasync",
            "-e",
            "inject=fsync,fdatasync:error=EIO",
            "-p",
            &pid.to_string(),
        ]);
        let running = strace.start()?;
        let deadline = Instant::now() + ATTACHED;
        while !traced(pid)? {
            ensure!(Instant::now() < deadline, "strace: {}", running.last_output());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Self {
            running,
            _folder: folder,
        })
    }

    /// Goes out of the way.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.running.signal("TERM")?;
        self.running.ended(ATTACHED).await.map(drop)
    }
}

/// Whether every thread of a process is traced.
fn traced(pid: u32) -> anyhow::Result<bool> {
    let folder = format!("/proc/{pid}/task");
    for thread in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        // A thread may end at any moment.
        let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        if status.lines().any(|line| line == "TracerPid:\t0") {
            return Ok(false);
        }
    }
    Ok(true)
}
