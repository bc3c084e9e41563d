//! What came of a long run, as tables.

use std::fmt::Write as _;
use std::time::Duration;

use super::flat::Finding;
use super::recovery::commands_again;
use super::{Outcome, Plan, repeat};
use crate::bench::machine;
use crate::faults::{engine_name, report};

/// Everything that is to be told.
pub fn text(plan: &Plan, outcome: &Outcome) -> String {
    let mut text = String::new();
    let course = &outcome.course;
    let (length, failures) = (
        course.span.to.saturating_sub(course.span.from),
        outcome.failures(),
    );
    writeln!(
        text,
        "{} of load on the {} engine, seed {}: {:.0} operations a second offered, {:.0} measured as the maximum, {} \
         due and not sent.",
        minutes(length),
        engine_name(plan.engine),
        plan.seed,
        course.offered,
        course.maximum,
        course.skipped
    )
    .ok();
    writeln!(
        text,
        "{}\n{}\n",
        machine::describe(),
        report::summary(&outcome.verdict)
    )
    .ok();
    text.push_str(&findings(&outcome.findings));
    text.push('\n');
    text.push_str(&harms(outcome));
    if failures.is_empty() {
        text.push_str("\nEvery promise was kept, and everything is flat.\n");
        return text;
    }
    text.push('\n');
    // A promise that is broken everywhere would fill more than anybody reads.
    for failure in failures.iter().take(50) {
        writeln!(text, "  {failure}").ok();
    }
    writeln!(text, "{} failures; {}", failures.len(), repeat(plan)).ok();
    text
}

/// A row for each measure, as Markdown.
fn findings(findings: &[Finding]) -> String {
    let mut text = String::from(
        "| measured while nothing is harmed | 1st quarter | 2nd | 3rd | 4th | its halves | at most | verdict |\n\
         |---|---:|---:|---:|---:|---:|---:|---|\n",
    );
    for finding in findings {
        let name = match finding.unit {
            "" => finding.name.to_owned(),
            unit => format!("{}, {unit}", finding.name),
        };
        let quarters: Vec<_> = finding.quarters.iter().map(|value| figure(*value)).collect();
        let halves: Vec<_> = finding.halves.iter().map(|value| figure(*value)).collect();
        let verdict = if finding.is_flat() { "flat" } else { "NOT FLAT" };
        writeln!(
            text,
            "| {name} | {} | {} | {} | {verdict} |",
            quarters.join(" | "),
            halves.join(" / "),
            figure(finding.bound)
        )
        .ok();
    }
    text
}

/// A row for each kind of fault.
fn harms(outcome: &Outcome) -> String {
    let mut text = String::from(
        "| fault | times | commands again at most, s | queries again at most, s |\n|---|---:|---:|---:|\n",
    );
    let harms = &outcome.course.harms;
    let mut names: Vec<&str> = harms.iter().map(|harm| harm.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let of: Vec<_> = harms.iter().filter(|harm| harm.name == name).collect();
        let commands = of
            .iter()
            .filter_map(|harm| commands_again(&outcome.evidence.history, harm));
        let queries = of.iter().filter_map(|harm| harm.queries_again);
        writeln!(
            text,
            "| {name} | {} | {} | {} |",
            of.len(),
            figure(commands.max().map(|time| time.as_secs_f64())),
            figure(queries.max().map(|time| time.as_secs_f64()))
        )
        .ok();
    }
    text
}

fn figure(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value < 10.0 => format!("{value:.2}"),
        Some(value) if value < 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

fn minutes(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}
