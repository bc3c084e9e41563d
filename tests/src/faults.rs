//! The fault harness: real processes and servers are harmed while clients write, and what is left is judged offline.
//!
//! [`cases`] does the harm, [`run`] leads a run from its start to the gathered [`evidence`], which [`oracles`] judge
//! without knowing how it came about, and [`report`] prints. The moment of a fault and what clients ask for are drawn
//! from a seed. In a run: [`world`] is the service with its servers, [`client`] writes and takes down the [`history`],
//! [`collect`] reads what is left. What the promises are, and what is not promised, is in `docs/reliability.md`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

pub mod cases;
mod client;
mod collect;
mod dice;
mod disk;
pub mod evidence;
pub mod history;
pub mod long;
mod long_command;
pub mod oracles;
pub mod report;
pub mod run;
mod syncs;
mod world;

use cases::{CASES, Case};
use evidence::Evidence;
use oracles::judge;
use report::Report;

use crate::service::Engine;

/// The command line.
#[derive(Debug, Parser)]
#[command(about = "Harms Tidings and its servers while clients write, and judges what is left")]
pub struct Options {
    /// The cases, as --list names them; all of them unless some are named.
    pub cases: Vec<String>,
    /// The seed of the first run, of which each further run takes the next; drawn and told unless given.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// How often each case runs on each engine.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub runs: u64,
    /// Only this engine.
    #[arg(long, value_name = "ENGINE", value_parser = engine)]
    pub engine: Option<Engine>,
    /// Runs none of the cases but the long run, for so long, as 60m: mixed load at half of the maximum, a fault each
    /// minute.
    #[arg(long, value_name = "TIME", value_parser = long_command::time, conflicts_with_all = ["cases", "runs"])]
    pub long: Option<std::time::Duration>,
    /// How often there is a fault in the long run, as 30s.
    #[arg(long, value_name = "TIME", value_parser = long_command::time, requires = "long")]
    pub every: Option<std::time::Duration>,
    /// Lists the cases.
    #[arg(long)]
    pub list: bool,
    /// Prints the table as Markdown.
    #[arg(long)]
    pub markdown: bool,
    /// Keeps what each run leaves behind in this folder, as JSON.
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
    /// Runs nothing: judges what an earlier run left behind (`--keep`); can be given several times.
    #[arg(long, value_name = "FILE")]
    pub judge: Vec<PathBuf>,
}

fn engine(name: &str) -> Result<Engine, String> {
    match name {
        "embedded" => Ok(Engine::Embedded),
        "cluster" => Ok(Engine::Cluster),
        _ => Err("there are `embedded` and `cluster`".to_owned()),
    }
}

/// The name of an engine.
pub fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Embedded => "embedded",
        Engine::Cluster => "cluster",
    }
}

/// Runs what the command line asks for; code 1 if a promise was broken.
pub async fn main(options: Options) -> anyhow::Result<ExitCode> {
    if options.list {
        print!("{}", report::list(CASES));
        return Ok(ExitCode::SUCCESS);
    }
    if !options.judge.is_empty() {
        return judge_kept(&options.judge);
    }
    if let Some(length) = options.long {
        return long_command::run(&options, length).await;
    }
    let cases = wanted(&options.cases)?;
    let first = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let mut report = Report::new();
    for case in cases {
        let engines = case.engines.iter().copied();
        for engine in engines.filter(|engine| options.engine.is_none_or(|only| only == *engine)) {
            for seed in first..first + options.runs {
                eprintln!("{} on the {} engine, seed {seed}", case.name, engine_name(engine));
                let outcome = Box::pin(run::run(case, engine, seed)).await;
                if let (Some(folder), Ok(outcome)) = (&options.keep, &outcome) {
                    let name = format!("{}-{}-{seed}.json", case.name, engine_name(engine));
                    keep(folder, &name, &outcome.evidence)?;
                }
                if let Some(why) = outcome.as_ref().err().and_then(|error| error.downcast_ref()) {
                    eprintln!("  skipped: {why}");
                    report.skip(case, engine, why);
                    break;
                }
                let verdict = outcome.map(|outcome| outcome.verdict);
                match &verdict {
                    Ok(verdict) => eprintln!("  {}", report::summary(verdict)),
                    Err(error) => eprintln!("  it did not get to its end: {error:#}"),
                }
                report.add(case, engine, seed, verdict);
            }
        }
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
    print!("{}{}{}", report.noticed(), report.skipped(), report.failures());
    Ok(if report.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn wanted(names: &[String]) -> anyhow::Result<Vec<&'static Case>> {
    if names.is_empty() {
        return Ok(CASES.iter().collect());
    }
    names
        .iter()
        .map(|name| cases::find(name).with_context(|| format!("there is no case `{name}`; see --list")))
        .collect()
}

fn keep(folder: &Path, name: &str, evidence: &Evidence) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join(name);
    std::fs::write(&file, serde_json::to_vec(evidence)?)
        .with_context(|| format!("cannot write {}", file.display()))
}

fn judge_kept(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut sound = true;
    for file in files {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let evidence: Evidence = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not what a run left behind", file.display()))?;
        let verdict = judge(&evidence);
        println!("{}: {}", file.display(), report::summary(&verdict));
        for violation in &verdict.violations {
            println!("  {violation}");
        }
        sound &= verdict.is_sound();
    }
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
