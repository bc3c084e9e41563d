//! The fault harness: `cargo run --release -p tests --bin faults -- [case…] [--seed N] [--runs N] [--list]`.
//!
//! It starts its own servers, harms them and the service, prints a table, and ends with code 1 when a promise was
//! broken. `--help` tells the rest.

use clap::Parser;
use tests::faults::{self, Options};

#[tokio::main]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    faults::main(Options::parse()).await
}
