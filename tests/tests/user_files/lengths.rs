//! Long files: memory must not grow with them.
//!
//! `TIDINGS_TEST_LONG=1` sends 100,000 rows; otherwise it is a tenth, which shows the same in the time a test has.

use std::time::Instant;

use anyhow::{Context, ensure};
use futures::stream;
use reqwest::Body;
use tests::service::{Engine, Tidings};

use crate::world::{export, import, tenant};

/// The rows of the long file, and the characters that each has to say.
fn size() -> (usize, usize) {
    match std::env::var_os("TIDINGS_TEST_LONG") {
        Some(_) => (100_000, 3_000),
        None => (10_000, 14_000),
    }
}

/// What a file of ten times the length may add to the peak, in KiB: the log's page cache of 64 MiB, which the short
/// file does not fill, and some more, but less than the file itself has.
const SLACK: u64 = 112 * 1024;

/// A file that is made while it is sent; every tenth row is refused.
fn file(label: &'static str, rows: usize, note: usize) -> Body {
    let note = "x".repeat(note);
    let header = stream::iter([Ok::<_, std::io::Error>("email,name,attributes.note\n".to_owned())]);
    let pieces = (0..rows).step_by(100).map(move |first| {
        let piece = (first..rows.min(first + 100)).map(|number| match number % 10 {
            9 => format!("nobody {number},Nobody,{note}\n"),
            _ => format!("{label}{number}@example.org,User {number},{note}\n"),
        });
        Ok(piece.collect::<String>())
    });
    Body::wrap_stream(futures::StreamExt::chain(header, stream::iter(pieces)))
}

/// The most memory a process has had at once since it started or since [`forget_peak`], in KiB.
fn peak(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(number.context("VmHWM")?.trim().parse()?)
}

/// Lets the peak begin anew from what the process has now (proc(5), `clear_refs`).
fn forget_peak(pid: u32) -> anyhow::Result<()> {
    Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_the_file() -> anyhow::Result<()> {
    // What the service keeps of aggregates is bounded by this setting; at its default it would hold every user here.
    let service = Tidings::start_with(Engine::Embedded, &[("TIDINGS_CACHED_AGGREGATES", "1000")]).await?;
    let api = tenant(&service, "acme").await?;
    let (long, note) = size();
    let short = long / 10;
    let report = import(&api, "", "text/csv", file("short", short, note)).await?;
    ensure!(report.counts()[1] == (short / 10 * 9) as u64, "{:?}", report.last);
    export(&api, "csv", &report).await?;
    let before = peak(service.pid())?;

    forget_peak(service.pid())?;
    let started = Instant::now();
    let report = import(&api, "", "text/csv", file("long", long, note)).await?;
    let took = started.elapsed();
    let [all, registered, refused, _] = report.counts();
    ensure!(
        (all, registered, refused) == (long as u64, (long / 10 * 9) as u64, (long / 10) as u64),
        "{:?}",
        report.last
    );
    ensure!(report.refused.len() == long / 10, "{}", report.refused.len());
    let after = peak(service.pid())?;
    println!("{long} rows in {took:.1?}; peak {before} KiB after {short} rows, {after} KiB after {long}");
    ensure!(
        after < before + SLACK,
        "{short} rows took {before} KiB, {long} rows {after} KiB"
    );

    forget_peak(service.pid())?;
    let lines = export(&api, "csv", &report).await?.lines().count();
    ensure!(lines == 1 + short / 10 * 9 + long / 10 * 9, "{lines} lines");
    let exporting = peak(service.pid())?;
    ensure!(exporting < after + SLACK, "the export took {exporting} KiB");
    Ok(())
}
