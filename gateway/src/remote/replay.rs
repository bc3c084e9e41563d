//! `tidings replay`: makes read models again from the log, and shows how far it is.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client::read;
use super::watch::{Watched, ended, goes_on, watch};
use super::{Client, Remote, print};
use crate::cli::Failure;

/// What is replayed.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The projections, as `tidings projections` lists them
    #[arg(
        value_name = "PROJECTION",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    projections: Vec<String>,
    /// All projections, in one pass over the logs
    #[arg(long)]
    all: bool,
    /// Only this tenant's rows
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Make a copy as of this position (e0-42) or time (2026-11-20T08:00:00Z), for inspection: queries do not read it
    #[arg(long, value_name = "POSITION|TIME")]
    to: Option<String>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not watch it: print its id and return
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Runs the subcommand: exit code 1 if the replay failed or was cancelled, 130 if it was left running.
pub(crate) async fn run(args: ReplayArgs, file: Option<&Path>) -> Result<ExitCode, Failure> {
    let client = args.remote.client(file)?;
    let mut body = json!({ "switch": args.to.is_none() });
    if args.all {
        body["all"] = json!(true);
    } else {
        body["projections"] = json!(args.projections);
    }
    body["tenant"] = json!(args.tenant);
    body["to"] = json!(args.to);
    body["reason"] = json!(args.reason);
    let id = request(&client, &body).await?;
    if args.detach {
        if args.remote.json() {
            print::json(&json!({ "id": id }));
        } else {
            print::line(&id);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !args.remote.json() {
        print::line(format_args!("replay {id}"));
    }
    follow(&client, &id, args.remote.json()).await
}

/// Asks for a replay and answers its id.
pub(super) async fn request(client: &Client, body: &Value) -> Result<String, Failure> {
    #[derive(serde::Deserialize)]
    struct Accepted {
        id: String,
    }
    let accepted: Accepted = read(&client.post("/v1/replays", Some(body)).await?)?;
    Ok(accepted.id)
}

/// Watches a replay and tells how it ended.
pub(super) async fn follow(client: &Client, id: &str, as_json: bool) -> Result<ExitCode, Failure> {
    match watch(client, id, as_json).await? {
        Watched::Left => Ok(goes_on(id)),
        Watched::Ended(replay) if as_json => {
            print::json(&client.get(&format!("/v1/replays/{id}")).await?);
            Ok(if replay.is_completed() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Watched::Ended(replay) => Ok(ended(&replay)),
    }
}
