//! The benchmarks: `cargo run --release -p tests --bin bench -- <suite> [--quick] [--json FILE] [--strict]`.
//!
//! It starts its own servers, prints a table, and says which bars were met. `--help` tells the rest.

use clap::Parser;
use tests::bench::{self, Options};

/// As in the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    bench::run(Options::parse()).await
}
