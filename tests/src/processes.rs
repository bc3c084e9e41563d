//! What the kernel tells of processes: whose children they are, and whether they stand still.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// The process ids of a program's children.
pub fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    text.split_whitespace()
        .map(|child| child.parse().with_context(|| format!("{file} says {child}")))
        .collect()
}

/// Waits until a process is stopped (SIGSTOP), which a signal that was sent is not yet.
pub async fn stopped(pid: u32) -> anyhow::Result<()> {
    let file = format!("/proc/{pid}/stat");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        // The state comes after the program's name, which stands in brackets and may hold anything.
        let state = text.rsplit(')').next().unwrap_or_default().trim_start();
        if state.starts_with('T') {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{pid} does not stop: {text}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How many bytes of a process are in memory now.
pub fn resident(pid: u32) -> anyhow::Result<u64> {
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib
        .with_context(|| format!("{file} tells no VmRSS"))?
        .trim()
        .parse()?;
    Ok(kib * 1024)
}

/// How many files and connections a process has open.
pub fn open_files(pid: u32) -> anyhow::Result<usize> {
    let folder = format!("/proc/{pid}/fd");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    Ok(files.count())
}
