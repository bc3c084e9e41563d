//! Keeps a number of workers busy, each with one operation at a time, and measures them.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

/// One client: it starts its next operation when the last one is answered.
#[async_trait]
pub trait Worker: Send {
    /// Does one operation; answers how many units (events, commands) it was.
    async fn turn(&mut self) -> anyhow::Result<u64>;
}

/// A worker that can be kept in a list.
pub type BoxedWorker = Box<dyn Worker>;

/// What was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sample {
    units: u64,
    time: Duration,
    /// Of each operation that ended in the time counted.
    latencies: Vec<Duration>,
    /// The most memory, in MiB, of the process that did it.
    pub peak: Option<f64>,
}

impl Sample {
    /// Adds another measurement of the same.
    pub fn merge(&mut self, other: Self) {
        self.units += other.units;
        self.time += other.time;
        self.latencies.extend(other.latencies);
        self.peak = [self.peak, other.peak].into_iter().flatten().reduce(f64::max);
    }

    /// Adds so many units that each took so long.
    pub fn add_many(&mut self, latency: Duration, units: u64) {
        self.units += units;
        self.latencies.extend((0..units).map(|_| latency));
    }

    /// Units per second.
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    pub fn per_second(&self) -> f64 {
        self.units as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// A quantile of the latencies in milliseconds: 0.5 is the median.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index into a list: small and not negative"
    )]
    pub fn millis(&self, quantile: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let index = (sorted.len().saturating_sub(1) as f64 * quantile).round() as usize;
        sorted
            .get(index)
            .map_or(0.0, |latency| latency.as_secs_f64() * 1_000.0)
    }
}

/// Runs the workers for `settle`, then counts for `time`; gives the workers back for the next measurement.
pub async fn measure(
    workers: Vec<BoxedWorker>,
    settle: Duration,
    time: Duration,
) -> anyhow::Result<(Vec<BoxedWorker>, Sample)> {
    let begin = Instant::now() + settle;
    let end = begin + time;
    let mut tasks = JoinSet::new();
    for worker in workers {
        tasks.spawn(work(worker, begin, end));
    }
    let mut back = Vec::new();
    let mut sample = Sample {
        time,
        ..Sample::default()
    };
    while let Some(ended) = tasks.join_next().await {
        let (worker, units, latencies) = ended??;
        back.push(worker);
        sample.units += units;
        sample.latencies.extend(latencies);
    }
    Ok((back, sample))
}

async fn work(
    mut worker: BoxedWorker,
    begin: Instant,
    end: Instant,
) -> anyhow::Result<(BoxedWorker, u64, Vec<Duration>)> {
    let mut units = 0;
    let mut latencies = Vec::new();
    let mut started = Instant::now();
    while started < end {
        let done = worker.turn().await?;
        let now = Instant::now();
        if (begin..end).contains(&now) {
            units += done;
            latencies.push(now - started);
        }
        started = now;
    }
    Ok((worker, units, latencies))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sleeper(Duration);

    #[async_trait]
    impl Worker for Sleeper {
        async fn turn(&mut self) -> anyhow::Result<u64> {
            tokio::time::sleep(self.0).await;
            Ok(10)
        }
    }

    #[tokio::test]
    async fn units_and_latencies_of_all_workers_are_counted() -> anyhow::Result<()> {
        let pause = Duration::from_millis(20);
        let workers = (0..3).map(|_| Box::new(Sleeper(pause)) as BoxedWorker).collect();
        let (workers, sample) = measure(workers, Duration::ZERO, Duration::from_millis(400)).await?;
        assert_eq!(workers.len(), 3);
        assert_eq!(sample.units, sample.latencies.len() as u64 * 10);
        assert!(sample.latencies.len() > 3 && sample.per_second() <= 1_500.0);
        assert!(sample.millis(0.5) >= 20.0 && sample.millis(0.99) >= sample.millis(0.5));
        Ok(())
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_list() {
        let sample = Sample {
            units: 100,
            time: Duration::from_secs(2),
            latencies: (1..=100).rev().map(Duration::from_millis).collect(),
            peak: None,
        };
        assert!((sample.millis(0.99) - 99.0).abs() < 0.001);
        assert!((sample.per_second() - 50.0).abs() < 0.001);
    }
}
