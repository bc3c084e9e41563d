//! `tidings replays`: the replays there are and were.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

use super::client::read;
use super::forms::Replay;
use super::{Remote, print, replay};
use crate::cli::Failure;

/// What is asked about replays.
#[derive(Debug, Args)]
pub(crate) struct ReplaysArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the replays, newest first (this is what happens without a subcommand)
    List,
    /// Watch a replay until it ends
    Watch {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Give a replay up, and drop what it has built
    Cancel {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Print rows of a copy made with --to, one JSON object a line
    Rows {
        /// The replay's id
        #[arg(value_name = "ID")]
        id: String,
        /// The table, as `users`
        #[arg(long, value_name = "TABLE")]
        table: String,
        /// Whose rows
        #[arg(long, value_name = "TENANT")]
        tenant: String,
    },
}

/// Runs the subcommand.
pub(crate) async fn run(args: ReplaysArgs, file: Option<&Path>) -> Result<ExitCode, Failure> {
    let client = args.remote.client(file)?;
    match args.action.unwrap_or(Action::List) {
        Action::List => {
            let rows = client.get("/v1/replays?limit=50").await?;
            if args.remote.json() {
                print::json(&rows);
            } else {
                list(&rows)?;
            }
        }
        Action::Watch { id } => return replay::follow(&client, &segment(&id), args.remote.json()).await,
        Action::Cancel { id, reason } => {
            let body = json!({ "reason": reason });
            client
                .post(&format!("/v1/replays/{}/cancel", segment(&id)), Some(&body))
                .await?;
            print::line(format_args!("{id} is being cancelled"));
        }
        Action::Rows { id, table, tenant } => {
            let path = format!(
                "/v1/replays/{}/rows?table={}&tenant={}&limit=200",
                segment(&id),
                segment(&table),
                segment(&tenant)
            );
            for row in client.all(&path).await? {
                print::line(row);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A text as one segment of an address.
pub(super) fn segment(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

fn list(rows: &Value) -> Result<(), Failure> {
    let rows: Vec<Replay> = read(rows.get("data").unwrap_or(&Value::Null))?;
    let cells: Vec<_> = rows
        .iter()
        .map(|replay| {
            let progress = match replay.total {
                0 => String::new(),
                total => format!("{}/{}", print::count(replay.done), print::count(total)),
            };
            let status = match &replay.phase {
                Some(phase) if !replay.is_over() => phase.replace('_', " "),
                _ => replay.status.clone(),
            };
            let note = replay.error.clone().unwrap_or_default();
            [
                replay.id.clone(),
                replay.requested_at.clone(),
                status,
                progress,
                print::what(replay),
                note,
            ]
        })
        .collect();
    print::table(["ID", "REQUESTED", "STATUS", "RECORDS", "WHAT", "ERROR"], &cells);
    Ok(())
}
