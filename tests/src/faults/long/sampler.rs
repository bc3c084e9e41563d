//! Looks at the service every few seconds: what its process has of the machine, and how far read models lag behind.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::faults::history::Recorder;
use crate::faults::world::World;
use crate::http::Api;
use crate::service::ADMIN_KEY;

/// How long an answer may take before there is none.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// What was seen at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Duration,
    /// Of which process.
    pub process: u32,
    /// Its resident memory, in MiB.
    pub memory: f64,
    /// Its open file handles.
    pub handles: u32,
    /// Records that the read model furthest behind has to fold; none if that was not told.
    pub lag: Option<u32>,
}

/// Looks until it is stopped.
#[derive(Debug)]
pub(super) struct Sampler {
    process: Arc<AtomicU32>,
    stop: CancellationToken,
    looking: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    pub(super) fn start(world: &World, every: Duration) -> anyhow::Result<Self> {
        let process = Arc::new(AtomicU32::new(world.service.pid()));
        let stop = CancellationToken::new();
        let looking = tokio::spawn(look(
            Arc::clone(&process),
            world.caller(0)?.address.clone(),
            Arc::clone(&world.recorder),
            every.max(Duration::from_millis(500)),
            stop.clone(),
        ));
        Ok(Self {
            process,
            stop,
            looking,
        })
    }

    /// Looks at this process from now on.
    pub(super) fn look_at(&self, process: u32) {
        self.process.store(process, Ordering::Relaxed);
    }

    pub(super) async fn stop(self) -> anyhow::Result<Vec<Sample>> {
        self.stop.cancel();
        Ok(self.looking.await?)
    }
}

async fn look(
    process: Arc<AtomicU32>,
    address: watch::Receiver<String>,
    recorder: Arc<Recorder>,
    every: Duration,
    stop: CancellationToken,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut next = tokio::time::interval(every);
    while stop.run_until_cancelled(next.tick()).await.is_some() {
        let (at, process) = (recorder.now(), process.load(Ordering::Relaxed));
        let url = address.borrow().clone();
        let lag = tokio::time::timeout(ANSWERED_WITHIN, lag(&url)).await;
        // A process that was killed has nothing, and its successor is named soon.
        if let (Ok(memory), Ok(handles)) = (resident_mebibytes(process), open_handles(process)) {
            samples.push(Sample {
                at,
                process,
                memory,
                handles,
                lag: lag.ok().and_then(Result::ok),
            });
        }
    }
    samples
}

/// What a process has resident, in MiB (`VmRSS`, see proc(5)).
fn resident_mebibytes(process: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = resident.and_then(|rest| rest.split_whitespace().next());
    let kibibytes: f64 = kibibytes.context("no VmRSS")?.parse()?;
    Ok(kibibytes / 1_024.0)
}

fn open_handles(process: u32) -> anyhow::Result<u32> {
    let handles = fs::read_dir(format!("/proc/{process}/fd"))?.count();
    Ok(u32::try_from(handles)?)
}

async fn lag(url: &str) -> anyhow::Result<u32> {
    let listed = Api::new(url)?.with_key(ADMIN_KEY).get("/v1/projections").await?;
    let listed = listed.expect(200)?;
    let rows = listed["data"].as_array().context("projections")?;
    let lags = rows.iter().filter_map(|row| row["lag_records"].as_u64());
    Ok(u32::try_from(lags.max().context("no read model")?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_handles() -> anyhow::Result<()> {
        let process = std::process::id();
        let (memory, handles) = (resident_mebibytes(process)?, open_handles(process)?);
        let more = vec![1_u8; 64 << 20];
        let file = fs::File::open("/proc/self/status")?;
        assert!(resident_mebibytes(process)? > memory + 32.0);
        assert!(handles > 0 && open_handles(process)? > 0);
        drop((std::hint::black_box(more), file));
        Ok(())
    }
}
