//! Where it was measured, and how much memory a process took at most.

use std::fs;

use anyhow::Context;

/// Lets [`peak_mebibytes`] of a process begin anew. Where the system does not allow it, the peak stays that of its
/// whole life.
pub fn forget_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").ok();
}

/// The most memory a process has had resident since [`forget_peak`], in MiB (`VmHWM`, see proc(5)).
pub fn peak_mebibytes(pid: u32) -> anyhow::Result<f64> {
    let file = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let kibibytes: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("{file} has no VmHWM"))?
        .parse()?;
    Ok(kibibytes / 1_024.0)
}

/// Processor, memory, system, and the file system of temporary folders: one line.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{processor}, {cores} cores, memory {memory}, Linux {}, servers' data on {}",
        kernel.trim(),
        file_system().unwrap_or_else(|| "an unknown file system".to_owned())
    )
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the file system that temporary folders are on.
fn file_system() -> Option<String> {
    let folder = std::env::temp_dir().canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let longest = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
            folder.starts_with(place).then_some((place.len(), kind))
        })
        .max_by_key(|(length, _)| *length)?;
    Some(longest.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_a_peak_and_this_machine_a_description() -> anyhow::Result<()> {
        let pid = std::process::id();
        drop(std::hint::black_box(vec![1_u8; 64 << 20]));
        let peak = peak_mebibytes(pid)?;
        assert!(peak > 64.0);
        forget_peak(pid);
        assert!((1.0..=peak).contains(&peak_mebibytes(pid)?));
        assert!(describe().contains("cores"));
        Ok(())
    }
}
