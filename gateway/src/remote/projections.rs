//! `tidings projections`: how read models do, and operators' decisions about them.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::read;
use super::forms::{Parked, Projection};
use super::replays::segment;
use super::{Client, Remote, print, replay};
use crate::cli::Failure;

/// What is asked about projections.
#[derive(Debug, Args)]
pub(crate) struct ProjectionsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the projections with their lag (this is what happens without a subcommand)
    List,
    /// Let a projection stand still, until it is resumed; its queries answer what they know
    Pause {
        /// Which
        #[arg(value_name = "PROJECTION")]
        name: String,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let a paused projection go on
    Resume {
        /// Which
        #[arg(value_name = "PROJECTION")]
        name: String,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Pass over the one record that a tenant is parked at; kept on the record, and not to be taken back
    Skip {
        /// Which projections
        #[arg(
            value_name = "PROJECTION",
            required_unless_present = "all",
            conflicts_with = "all"
        )]
        names: Vec<String>,
        /// All in which the tenant is parked at this record
        #[arg(long)]
        all: bool,
        /// Whose record
        #[arg(long, value_name = "TENANT")]
        tenant: String,
        /// Where it stands, as the list shows it: e0-42
        #[arg(long, value_name = "POSITION")]
        position: String,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Let queries read again what they read before the last switch, brought up to date
    Rollback {
        /// Which projection
        #[arg(value_name = "PROJECTION")]
        name: String,
        /// Do not watch it: print its id and return
        #[arg(long)]
        detach: bool,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Drop a generation that is not live
    Drop {
        /// Which projection
        #[arg(value_name = "PROJECTION")]
        name: String,
        /// The generation's number
        #[arg(value_name = "GENERATION")]
        generation: u64,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

/// Runs the subcommand.
pub(crate) async fn run(args: ProjectionsArgs, file: Option<&Path>) -> Result<ExitCode, Failure> {
    let client = args.remote.client(file)?;
    let path = |name: &str, action: &str| format!("/v1/projections/{}/{action}", segment(name));
    match args.action.unwrap_or(Action::List) {
        Action::List => {
            let rows = client.get("/v1/projections").await?;
            if args.remote.json() {
                print::json(&rows);
            } else {
                list(&rows)?;
            }
        }
        Action::Pause { name, reason } => {
            let body = json!({ "reason": reason });
            client.post(&path(&name, "pause"), Some(&body)).await?;
            print::line(format_args!(
                "{name} is paused; let it go on with `tidings projections resume {name}`"
            ));
        }
        Action::Resume { name, reason } => {
            let body = json!({ "reason": reason });
            client.post(&path(&name, "resume"), Some(&body)).await?;
            print::line(format_args!("{name} goes on"));
        }
        Action::Skip {
            mut names,
            all,
            tenant,
            position,
            reason,
        } => {
            if all {
                names = parked_at(&client, &tenant, &position).await?;
            }
            let body = json!({ "tenant": tenant, "position": position, "reason": reason });
            for name in names {
                client.post(&path(&name, "skip"), Some(&body)).await?;
                print::line(format_args!("{name} passes over {position} of {tenant}"));
            }
        }
        Action::Rollback { name, detach, reason } => {
            let body = json!({ "reason": reason });
            let accepted = client.post(&path(&name, "rollback"), Some(&body)).await?;
            let id = accepted.get("id").and_then(Value::as_str).unwrap_or_default();
            if !detach {
                return replay::follow(&client, id, args.remote.json()).await;
            }
            print::line(id);
        }
        Action::Drop {
            name,
            generation,
            reason,
        } => {
            let mut path = path(&name, &format!("generations/{generation}"));
            if let Some(reason) = reason {
                path = format!("{path}?reason={}", segment(&reason));
            }
            client.delete(&path).await?;
            print::line(format_args!("generation {generation} of {name} is being dropped"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The projections that have parked a tenant at a record.
async fn parked_at(client: &Client, tenant: &str, position: &str) -> Result<Vec<String>, Failure> {
    let rows = client.get("/v1/projections").await?;
    let all: Vec<Projection> = read(rows.get("data").unwrap_or(&Value::Null))?;
    let is_here = |parked: &Parked| parked.tenant == tenant && parked.position == position;
    let names: Vec<_> = all
        .into_iter()
        .filter(|known| known.parked.iter().any(is_here))
        .map(|known| known.name)
        .collect();
    if names.is_empty() {
        return Err(Failure::new(
            format!("no projection has parked {tenant} at {position}"),
            "`tidings projections` lists the tenants that are parked, and where",
        ));
    }
    Ok(names)
}

fn list(rows: &Value) -> Result<(), Failure> {
    let rows: Vec<Projection> = read(rows.get("data").unwrap_or(&Value::Null))?;
    let cells: Vec<_> = rows.iter().map(line).collect();
    print::table(
        [
            "PROJECTION",
            "VERSION",
            "LIVE",
            "POSITIONS",
            "LAG",
            "SECONDS",
            "STATE",
            "OTHER GENERATIONS",
        ],
        &cells,
    );
    for projection in &rows {
        details(projection);
    }
    Ok(())
}

fn line(projection: &Projection) -> [String; 8] {
    let state = if projection.stopped {
        "stopped"
    } else if projection.paused.is_some() {
        "paused"
    } else if projection.last_error.is_some() {
        "failing"
    } else if !projection.parked.is_empty() {
        "tenants parked"
    } else {
        "follows"
    };
    [
        projection.name.clone(),
        projection.version.to_string(),
        projection
            .generation
            .map(|number| format!("g{number}"))
            .unwrap_or_default(),
        projection.positions.join(" "),
        print::count(projection.lag_records),
        projection
            .lag_seconds
            .map(|seconds| format!("{seconds:.1}"))
            .unwrap_or_default(),
        state.to_owned(),
        others(projection),
    ]
}

/// The generations that queries do not read.
fn others(projection: &Projection) -> String {
    let others = projection.generations.iter();
    let others = others.filter(|other| other.standing != "live");
    let named: Vec<_> = others
        .map(|other| format!("g{} {}", other.generation, other.standing))
        .collect();
    named.join(", ")
}

/// What a line has no room for.
fn details(projection: &Projection) {
    let name = &projection.name;
    if let Some(paused) = &projection.paused {
        let reason = paused.reason.as_deref().unwrap_or("no reason given");
        print::line(format_args!("\n{name}: paused since {}: {reason}", paused.at));
    }
    if let Some(error) = &projection.last_error {
        print::line(format_args!("\n{name}: {error}"));
    }
    for parked in &projection.parked {
        let (tenant, position, error) = (&parked.tenant, &parked.position, &parked.error);
        print::line(format_args!(
            "\n{name}: {tenant} is parked at {position}: {error}"
        ));
        print::line(format_args!(
            "  skip the record: tidings projections skip {name} --tenant {tenant} --position {position} --reason …"
        ));
    }
    for skipped in &projection.skipped {
        print::line(format_args!(
            "\n{name}: {} of {} is skipped: {}",
            skipped.position, skipped.tenant, skipped.reason
        ));
    }
}
