//! `tidings audit`: what an auditor runs, on any machine, against nobody's word.
//!
//! [`line`](Line) is the form of an exported record, in which the API writes and this reads; `readable` its decoding;
//! `examiner` follows an export record by record and finds what is wrong with it; `fetch` and `verify` are subcommands.

mod chains;
mod examiner;
mod fetch;
mod finding;
mod line;
mod readable;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::Failure;

pub(crate) use fetch::FetchArgs;
pub(crate) use line::Line;
pub(crate) use verify::VerifyArgs;

/// The subcommands of `tidings audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check an export of the log with a checkpoint, offline: exit code 0 if it is proved, 1 if anything was changed,
    /// removed, added or reordered, 2 if it cannot be told
    Verify(VerifyArgs),
    /// Fetch the key, a checkpoint and the log up to it from a running service, and keep them as files
    Fetch(FetchArgs),
}

/// Runs one.
pub(crate) async fn run(command: AuditCommand) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::Verify(args) => verify::run(&args),
        AuditCommand::Fetch(args) => fetch::run(&args).await,
    }
}
