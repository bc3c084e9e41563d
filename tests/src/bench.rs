//! The benchmark program: suites of rows measured side by side, on servers of their own.
//!
//! A suite is a function that measures and reports; [`SUITES`] is the one place where suites register. What they
//! share: [`load`] keeps a number of workers busy and measures them, [`report`] prints and judges what came of it,
//! [`machine`] says where, [`wire`] is an HTTP client that leaves the processors to the service.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use futures::future::LocalBoxFuture;

pub mod commands;
pub mod delivery;
pub mod load;
pub mod machine;
pub mod projections;
pub mod report;
pub mod wire;

use report::Report;

/// Measures a suite's rows into a report.
pub type Suite = for<'a> fn(&'a Plan, &'a mut Report) -> LocalBoxFuture<'a, anyhow::Result<()>>;

/// Every suite under its name.
pub const SUITES: &[(&str, Suite)] = &[
    ("commands", commands::suite),
    ("delivery", delivery::suite),
    ("projections", projections::suite),
];

/// The command line.
#[derive(Debug, Parser)]
#[command(about = "Measures Tidings beside what it is compared with")]
pub struct Options {
    /// The suite, as `commands`.
    pub suite: String,
    /// Short runs: figures to see that all works, not to publish.
    #[arg(long)]
    pub quick: bool,
    /// How often all rows take turns, instead of three times, or once with `--quick`.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Writes every row as a line of JSON: `{"suite","row","value","unit","bar","met"}`.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Prints the table as Markdown.
    #[arg(long)]
    pub markdown: bool,
    /// Ends with code 1 when a bar is missed.
    #[arg(long)]
    pub strict: bool,
    /// Only measures rows whose name contains this; can be given several times.
    #[arg(long, value_name = "TEXT")]
    pub only: Vec<String>,
    /// Only measures with so many operations in flight; can be given several times.
    #[arg(long, value_name = "COUNT")]
    pub in_flight: Vec<usize>,
    /// The NATS server of a suite's own child process.
    #[arg(long, hide = true)]
    pub nats: Option<String>,
    /// The data folder of a suite's own child process.
    #[arg(long, hide = true)]
    pub data: Option<PathBuf>,
    /// How many aggregates the log of a suite's own child process holds, where it is to use those.
    #[arg(long, hide = true)]
    pub stored: Option<u64>,
    /// The prefix of the installation that a suite's own child process works on.
    #[arg(long, hide = true)]
    pub prefix: Option<String>,
    /// The PostgreSQL database of a suite's own child process.
    #[arg(long, hide = true)]
    pub database: Option<String>,
    /// The folder of read models of a suite's own child process.
    #[arg(long, hide = true)]
    pub read_models: Option<PathBuf>,
}

/// How long and how much a suite measures.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Short runs.
    pub quick: bool,
    /// How often all rows take turns, so that drift hits them alike.
    pub rounds: u32,
    /// What a measurement runs before it counts.
    pub settle: Duration,
    /// What it counts.
    pub time: Duration,
    only: Vec<String>,
    in_flight: Vec<usize>,
}

impl Plan {
    fn new(options: &Options) -> Self {
        let quick = options.quick;
        let (rounds, settle, time) = if quick { (1, 200, 800) } else { (3, 500, 4_000) };
        Self {
            quick,
            rounds: options.rounds.unwrap_or(rounds),
            settle: Duration::from_millis(settle),
            time: Duration::from_millis(time),
            only: options.only.clone(),
            in_flight: options.in_flight.clone(),
        }
    }

    /// Of the levels of a suite those that are asked for.
    pub fn levels(&self, all: &[usize]) -> Vec<usize> {
        let asked = |level: &usize| self.in_flight.is_empty() || self.in_flight.contains(level);
        all.iter().copied().filter(asked).collect()
    }

    /// Whether a row is asked for.
    pub fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| row.contains(only))
    }
}

/// Runs what the command line asks for.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    if options.suite == commands::BARE {
        let nats = options.nats.context("--nats is missing")?;
        commands::serve_bare(&nats).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.suite == commands::HISTORY {
        commands::measure_history(&options, &Plan::new(&options)).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.suite == projections::REPLAY {
        projections::measure_replay(&options).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let (name, suite) = SUITES
        .iter()
        .find(|(name, _)| *name == options.suite)
        .with_context(|| format!("there is no suite `{}`; there are: {}", options.suite, names()))?;
    if cfg!(debug_assertions) {
        eprintln!("This is a debug build: its figures say nothing. Use `cargo run --release`.");
    }
    let mut report = Report::new(name);
    suite(&Plan::new(&options), &mut report).await?;
    println!("{}", machine::describe());
    if options.quick {
        println!("Short runs (--quick): not for publication.");
    }
    println!();
    print!(
        "{}",
        if options.markdown {
            report.markdown()
        } else {
            report.table()
        }
    );
    if let Some(file) = &options.json {
        std::fs::write(file, report.json_lines()?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let missed = report.missed();
    for row in &missed {
        println!("missed: {row}");
    }
    Ok(if options.strict && !missed.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn names() -> String {
    let names: Vec<&str> = SUITES.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}
