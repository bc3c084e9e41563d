//! `tidings verify`: proves on a live system that read models are what a fold of the log gives.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::forms::{NotCompared, Replay};
use super::watch::{Watched, ended, goes_on, watch};
use super::{Remote, print, replay};
use crate::cli::Failure;

/// What is verified.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The projections, as `tidings projections` lists them [default: all]
    #[arg(value_name = "PROJECTION")]
    projections: Vec<String>,
    /// Only this tenant's rows
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Whether all is right, as far as the logs tell. Unless the read database says what was left out, nothing is proved.
fn proves(done: &Replay) -> bool {
    let same = done.differences.as_ref().is_some_and(Vec::is_empty);
    let left_out = done.not_compared.as_ref();
    let all = left_out.is_some_and(|left_out| left_out.iter().all(NotCompared::is_aged));
    done.is_completed() && same && all
}

/// Runs the subcommand: exit code 1 if a row differs, or if it could not be found out. What the logs no longer tell is
/// named, and nothing else can ever be said of it.
pub(crate) async fn run(args: VerifyArgs, file: Option<&Path>) -> Result<ExitCode, Failure> {
    let client = args.remote.client(file)?;
    let mut body = json!({ "switch": false, "tenant": args.tenant });
    if args.projections.is_empty() {
        body["all"] = json!(true);
    } else {
        body["projections"] = json!(args.projections);
    }
    let id = replay::request(&client, &body).await?;
    let done = match watch(&client, &id, args.remote.json()).await? {
        Watched::Left => return Ok(goes_on(&id)),
        Watched::Ended(done) => done,
    };
    let differences = done.differences.as_deref().unwrap_or_default();
    let left_out = done.not_compared.as_deref();
    let proved = proves(&done);
    let code = if proved {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    if args.remote.json() {
        print::json(&client.get(&format!("/v1/replays/{id}")).await?);
        return Ok(code);
    }
    if !done.is_completed() {
        return Ok(ended(&done));
    }
    let what = print::what(&done);
    print::not_compared(left_out.unwrap_or_default());
    if proved {
        let records = print::count(done.done);
        let rows = match left_out {
            Some([]) => "every row",
            _ => "every other row",
        };
        print::line(format_args!(
            "✓ {what}: {rows} is what the log gives ({records} records folded)"
        ));
    } else if differences.is_empty() {
        print::line(format_args!("✗ {what}: not everything was compared"));
    } else {
        print::differences(differences);
        print::line(
            "\nthe log is the truth: `tidings replay <projection>` makes the read model from it again",
        );
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn ended(differences: &Value, not_compared: &Value) -> Replay {
        let replay = json!({
            "id": "rpl_1", "kind": "rebuild", "projections": ["users"], "tenant": null, "to": null, "switch": false,
            "status": "completed", "phase": "done", "done": 9, "total": 9, "rate": 0, "seconds_left": null,
            "generations": {}, "differences": differences, "not_compared": not_compared, "error": null,
            "requested_at": "2026-11-20T08:00:00Z",
        });
        serde_json::from_value(replay).unwrap()
    }

    #[test]
    fn what_was_left_out_proves_nothing_unless_nobody_can_tell() {
        let left_out =
            |reason: &str| json!([{ "projection": "stats", "table": "stats_totals", "reason": reason }]);
        assert!(proves(&ended(&json!([]), &json!([]))));
        assert!(proves(&ended(&json!([]), &left_out("aged"))));
        for reason in ["behind", "no_live_model", "something new"] {
            assert!(!proves(&ended(&json!([]), &left_out(reason))), "{reason}");
        }
        let wrong =
            json!([{ "projection": "users", "table": "users", "live": 1, "rebuilt": 2, "tenants": [] }]);
        assert!(!proves(&ended(&wrong, &json!([]))));
        assert!(!proves(&ended(&Value::Null, &json!([]))));
        assert!(!proves(&ended(&json!([]), &Value::Null)));
    }
}
