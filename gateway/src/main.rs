//! `tidings`: the HTTP API, the configuration and the subcommands of the service.
//!
//! In reading order: [`cli`] names the subcommands, [`config`] the settings, [`installation`] opens the engine and
//! the keys, [`serve`] starts the roles; [`router`] is the HTTP API on one screen, with one file per feature in
//! [`routes`]. Rules live in `domain`; a handler extracts, asks the write side or a read model, and answers.

mod access_log;
mod answer;
mod app;
mod auditing;
mod auth;
mod catalog;
mod cli;
mod config;
mod consistency;
mod credentials;
mod demo;
mod doctor;
mod draw;
mod endpoint_control;
mod extract;
mod gifts;
mod guard;
mod health;
mod idempotency;
mod inbound;
mod installation;
mod invitation_tokens;
mod keys;
mod layers;
mod listener;
mod metrics;
mod migrate;
mod openapi;
mod operations;
mod problem;
mod profile;
mod proofs;
mod quotas;
mod rate;
mod recoveries;
mod remote;
mod restore;
mod router;
mod routes;
mod schemas;
mod seal;
mod serve;
mod server;
mod settings;
mod shutdown;
mod source_secrets;
mod standstill;
mod strikes;
mod telemetry;
mod tenancy;

use std::process::ExitCode;

use clap::Parser;

/// Folds make and drop very many small texts: with the allocator of glibc a rebuild of all read models took twice the
/// processor time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}
