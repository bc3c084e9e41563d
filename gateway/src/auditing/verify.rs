//! `tidings audit verify`: an export, checkpoints and a key, all of them files; no server, no network.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use domain::proof::{Checkpoint, Unopened, Unverified, Verifier};

use super::examiner::Examiner;
use super::finding::{Finding, Kind};
use crate::cli::Failure;

/// The longest line read: a record of a mebibyte, its base64 and its readable form fit well.
const LONGEST_LINE: u64 = 32 << 20;
/// The longest checkpoint read.
const LONGEST_NOTE: u64 = 1 << 20;

const HELP: &str = "see `tidings audit verify --help`; docs/auditing.md shows how to fetch each of them";

/// What is verified, and with what.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The export: what GET /v1/audit/log answered
    #[arg(long, value_name = "FILE")]
    export: PathBuf,
    /// The checkpoint that the export must fulfil: what GET /v1/audit/checkpoint answered
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// A checkpoint of an earlier (or later) day, kept where the service cannot reach it; can be given many times
    #[arg(long, value_name = "FILE")]
    older: Vec<PathBuf>,
    /// The key that signs the log's checkpoints, or a file with it: what GET /v1/audit/checkpoint/key answered when
    /// you first trusted it
    #[arg(long, value_name = "KEY")]
    key: String,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand: exit code 0 where all is as it was signed, 1 where not.
pub(super) fn run(args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let key = key(&args.key)?;
    let mut forged = Vec::new();
    let mut checkpoints = Vec::new();
    for path in std::iter::once(&args.checkpoint).chain(&args.older) {
        match open(path, &key)? {
            Ok(checkpoint) => checkpoints.push((path.display().to_string(), checkpoint)),
            Err(finding) => forged.push(finding),
        }
    }
    let mut examiner = Examiner::new(key.name(), checkpoints);
    for finding in forged {
        examiner.note(finding);
    }
    examine(&args.export, &mut examiner)?;
    let report = examiner.finish();
    if args.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new(format!("the report cannot be written: {error}"), HELP))?;
        println!("{text}");
    } else {
        println!("{}", report.in_words());
    }
    Ok(if report.verified {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(vec![format!("{}: {error}", path.display())], HELP)
}

fn key(text: &str) -> Result<Verifier, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(vec![format!("--key: {error}")], HELP);
    let parsed: Result<Verifier, _> = text.trim().parse();
    parsed.or_else(|error| {
        let path = Path::new(text);
        if !path.is_file() {
            return Err(wrong(&error));
        }
        read(path)?.trim().parse().map_err(|error| wrong(&error))
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_NOTE).read_to_string(&mut text))
        .map_err(|error| unreadable(path, &error))?;
    Ok(text)
}

/// A checkpoint whose signature is true, or what is false about it. What is no checkpoint at all is a failure.
fn open(path: &Path, key: &Verifier) -> Result<Result<Checkpoint, Finding>, Failure> {
    let note = read(path)?;
    match Checkpoint::open(&note, key) {
        Ok(checkpoint) => Ok(Ok(checkpoint)),
        Err(Unopened::Note(Unverified::Malformed(error))) => Err(unreadable(path, &error)),
        Err(error) => Ok(Err(Finding::new(
            Kind::Forged,
            format!("{}: {error}", path.display()),
        ))),
    }
}

fn examine(path: &Path, examiner: &mut Examiner) -> Result<(), Failure> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        let read = read.map_err(|error| unreadable(path, &error))?;
        if read == 0 {
            return Ok(());
        }
        number += 1;
        if read as u64 == LONGEST_LINE && line.last() != Some(&b'\n') {
            let error = format!("line {number} is longer than {LONGEST_LINE} bytes");
            return Err(unreadable(path, &error));
        }
        let text = line.trim_ascii();
        if !text.is_empty() {
            examiner.feed(number, text);
        }
    }
}
