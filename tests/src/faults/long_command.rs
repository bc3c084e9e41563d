//! The long run as the command line asks for it.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::long::{self, Plan, report};
use super::{Options, engine_name};
use crate::service::Engine;

/// Reads a time, as `60m`, `90s` or `1h`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err("a time ends with s, m or h".to_owned()),
    };
    let number: u32 = number.parse().map_err(|_| "a time is a whole number, as 60m")?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// Runs it, prints what came of it, and keeps it where that is wanted; code 1 if something is wrong.
pub(super) async fn run(options: &Options, length: Duration) -> anyhow::Result<ExitCode> {
    let engine = options.engine.unwrap_or(Engine::Cluster);
    let seed = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let mut plan = Plan::new(engine, seed, length);
    plan.every = options.every.unwrap_or(plan.every);
    eprintln!(
        "the long run on the {} engine, {} s, seed {seed}",
        engine_name(engine),
        length.as_secs()
    );
    let outcome = long::run(&plan).await?;
    if let Some(folder) = &options.keep {
        let name = format!("long-{}-{seed}", engine_name(engine));
        keep(folder, &format!("{name}.json"), &outcome.evidence)?;
        keep(folder, &format!("{name}-course.json"), &outcome.course)?;
    }
    print!("{}", report::text(&plan, &outcome));
    Ok(if outcome.failures().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Writes as it goes, since an hour's history should not be in memory once more.
fn keep(folder: &Path, name: &str, what: &impl Serialize) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join(name);
    let told = || format!("cannot write {}", file.display());
    let mut writer = BufWriter::new(File::create(&file).with_context(told)?);
    serde_json::to_writer(&mut writer, what).with_context(told)?;
    writer.flush().with_context(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_numbers_with_a_unit() {
        assert_eq!(time("60m"), Ok(Duration::from_hours(1)));
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("1h"), Ok(Duration::from_hours(1)));
        for wrong in ["", "60", "m", "1.5m", "-1m", "5d", "60 m"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
