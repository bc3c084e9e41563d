//! What is printed: tables of plain words, numbers with their thousands apart.

use std::fmt::Display;
use std::io::Write;

use indicatif::HumanCount;
use serde_json::Value;

use super::forms::{Difference, NotCompared, Replay};

/// Prints a line. That nobody reads it (a closed pipe) is no reason to fail: the service has done what was asked.
pub(super) fn line(text: impl Display) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").is_err() {
        tracing::debug!("nobody reads what is printed");
    }
}

/// Prints rows under their headings, each column as wide as it must be.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let show = |cells: Vec<&str>| {
        let cells: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        line(cells.join("  ").trim_end());
    };
    show(headings.to_vec());
    for row in rows {
        show(row.iter().map(String::as_str).collect());
    }
}

/// An answer as it came.
pub(super) fn json(answer: &Value) {
    line(format_args!("{answer:#}"));
}

/// A number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// A time to wait, in the two largest units.
pub(super) fn seconds(seconds: u64) -> String {
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// More projections than these are counted, not named.
pub(super) const NAMED: usize = 3;

/// What a replay is of, in a few words.
pub(super) fn what(replay: &Replay) -> String {
    let names = &replay.projections;
    let mut text = match replay.kind.as_str() {
        "rollback" => format!("rollback of {}", names.join(", ")),
        _ if names.len() > NAMED => format!("{} projections", names.len()),
        _ => names.join(", "),
    };
    if let Some(tenant) = &replay.tenant {
        text = format!("{text} of {tenant}");
    }
    if let Some(to) = &replay.to {
        text = format!("{text} as of {to}");
    }
    text
}

/// The live tables that said otherwise than the log, a line each.
pub(super) fn differences(found: &[Difference]) {
    for difference in found {
        let Difference {
            projection,
            table,
            live,
            rebuilt,
            tenants,
        } = difference;
        let rows = if live == rebuilt {
            format!("{} rows, some with other values", count(*live))
        } else {
            format!("{} rows, the log gives {}", count(*live), count(*rebuilt))
        };
        line(format_args!("✗ {projection}: the live table {table} has {rows}"));
        if !tenants.is_empty() {
            line(format_args!("  tenants: {}", tenants.join(", ")));
        }
    }
}

/// What was not compared, a line each.
pub(super) fn not_compared(left_out: &[NotCompared]) {
    for not in left_out {
        let what = match &not.table {
            Some(table) => format!("{}: rows of {table}", not.projection),
            None => not.projection.clone(),
        };
        let why = match not.reason.as_str() {
            "aged" => "the log no longer has the records that made them, and they were left as they are",
            "behind" => "what queries read stayed behind the copy",
            "no_live_model" => "there is no live read model yet",
            reason => reason,
        };
        line(format_args!("– {what} not compared: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_two_units() {
        assert_eq!(seconds(59), "59 s");
        assert_eq!(seconds(61), "1 min 1 s");
        assert_eq!(seconds(7_260), "2 h 1 min");
    }
}
