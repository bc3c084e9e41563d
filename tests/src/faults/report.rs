//! What came of the runs, as a table, and how to repeat what went wrong.

use std::fmt::Write as _;
use std::time::Duration;

use super::cases::Case;
use super::engine_name;
use super::oracles::Verdict;
use super::run::Skipped;
use crate::service::Engine;

/// The figures of a case on an engine.
#[derive(Debug)]
struct Row {
    case: &'static Case,
    engine: Engine,
    seeds: Vec<u64>,
    verdicts: Vec<Verdict>,
    failed: u64,
}

/// What came of all runs.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    failures: Vec<String>,
    skipped: Vec<String>,
}

impl Report {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a run; an error is one that did not get to its end.
    pub fn add(&mut self, case: &'static Case, engine: Engine, seed: u64, run: anyhow::Result<Verdict>) {
        let name = case.name;
        let is_same = |row: &Row| row.case.name == name && row.engine == engine;
        if !self.rows.last().is_some_and(is_same) {
            self.rows.push(Row {
                case,
                engine,
                seeds: Vec::new(),
                verdicts: Vec::new(),
                failed: 0,
            });
        }
        let Some(row) = self.rows.last_mut() else { return };
        row.seeds.push(seed);
        let repeat = format!(
            "repeat it with: faults {name} --engine {} --seed {seed}",
            engine_name(engine)
        );
        match run {
            Ok(verdict) => {
                if !verdict.is_as_it_must(case.breaks) {
                    row.failed += 1;
                    let mut text = format!("{name} on the {} engine:\n", engine_name(engine));
                    for note in &verdict.notes {
                        writeln!(text, "  {note}").ok();
                    }
                    for violation in &verdict.violations {
                        writeln!(text, "  {violation}").ok();
                    }
                    for oracle in case.breaks {
                        writeln!(text, "  this must be found broken: {oracle}").ok();
                    }
                    self.failures.push(format!("{text}  {repeat}\n"));
                }
                row.verdicts.push(verdict);
            }
            Err(error) => {
                row.failed += 1;
                let engine = engine_name(engine);
                self.failures.push(format!(
                    "{name} on the {engine} engine did not get to its end: {error:#}\n  {repeat}\n"
                ));
            }
        }
    }

    /// Adds a case that cannot run here.
    pub fn skip(&mut self, case: &Case, engine: Engine, why: &Skipped) {
        let engine = engine_name(engine);
        self.skipped.push(format!(
            "{} on the {engine} engine was skipped: {why}\n",
            case.name
        ));
    }

    /// What could not run here, and why.
    pub fn skipped(&self) -> String {
        self.skipped.concat()
    }

    /// How long it took until damage was noticed, of each case that does some.
    pub fn noticed(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let times: Vec<_> = row
                .verdicts
                .iter()
                .filter_map(|verdict| verdict.noticed)
                .collect();
            if !times.is_empty() {
                let (name, engine) = (row.case.name, engine_name(row.engine));
                let (times, runs) = (median_and_max(times.clone()), times.len());
                writeln!(
                    text,
                    "{name} on the {engine} engine: noticed in {runs} runs, after {times} s (median / maximum)"
                )
                .ok();
            }
        }
        text
    }

    /// Whether every run kept every promise.
    pub fn is_sound(&self) -> bool {
        self.failures.is_empty()
    }

    /// What went wrong, each with how to repeat it.
    pub fn failures(&self) -> String {
        let lines = self.failures.iter();
        lines.flat_map(|failure| ["\n", failure]).collect()
    }

    /// The table for a terminal.
    pub fn table(&self) -> String {
        let lines = self.lines();
        let columns = lines.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = lines.iter().map(|line| line[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for line in &lines {
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                if column < 2 {
                    write!(text, "{cell:<width$}  ").ok();
                } else {
                    write!(text, "{cell:>width$}  ").ok();
                }
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// The table as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for (index, line) in self.lines().iter().enumerate() {
            writeln!(text, "| {} |", line.join(" | ")).ok();
            if index == 0 {
                let rule = (0..line.len()).map(|column| if column < 2 { "---" } else { "---:" });
                writeln!(text, "|{}|", rule.collect::<Vec<_>>().join("|")).ok();
            }
        }
        text
    }

    fn lines(&self) -> Vec<Vec<String>> {
        let head = [
            "case",
            "engine",
            "runs",
            "acknowledged",
            "unknown",
            "lost",
            "doubled",
            "duplicates delivered",
            "commands again, s",
            "queries again, s",
            "backlog delivered, s",
            "verdict",
        ];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        lines.extend(self.rows.iter().map(Row::line));
        lines
    }
}

impl Row {
    fn line(&self) -> Vec<String> {
        let sum = |of: fn(&Verdict) -> u64| self.verdicts.iter().map(of).sum::<u64>().to_string();
        let times = |of: fn(&Verdict) -> Option<Duration>| {
            let times = self.verdicts.iter().filter_map(of).collect();
            median_and_max(times)
        };
        let verdict = match (self.failed, self.case.breaks) {
            (0, []) => "kept".to_owned(),
            (0, _) => "found, as it must be".to_owned(),
            (failed, []) => format!("BROKEN in {failed}"),
            (failed, _) => format!("NOT FOUND in {failed}"),
        };
        vec![
            self.case.name.to_owned(),
            engine_name(self.engine).to_owned(),
            self.seeds.len().to_string(),
            sum(|verdict| verdict.acknowledged),
            sum(|verdict| verdict.unknown),
            sum(|verdict| verdict.lost),
            sum(|verdict| verdict.doubled),
            sum(|verdict| verdict.duplicates),
            times(|verdict| verdict.commands_again),
            times(|verdict| verdict.queries_again),
            times(|verdict| verdict.delivered_again),
            verdict,
        ]
    }
}

fn median_and_max(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let Some(max) = times.last() else {
        return "–".to_owned();
    };
    let median = times[times.len() / 2];
    format!("{:.2} / {:.2}", median.as_secs_f64(), max.as_secs_f64())
}

/// A verdict in a line.
pub fn summary(verdict: &Verdict) -> String {
    format!(
        "{} acknowledged, {} unknown, {} lost, {} doubled, {} duplicates, {} promises broken",
        verdict.acknowledged,
        verdict.unknown,
        verdict.lost,
        verdict.doubled,
        verdict.duplicates,
        verdict.violations.len()
    )
}

/// The cases with what they do.
pub fn list(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let engines: Vec<&str> = case.engines.iter().map(|engine| engine_name(*engine)).collect();
        writeln!(
            text,
            "{:<20} {:<18} {}",
            case.name,
            engines.join(", "),
            case.about
        )
        .ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::cases::find;
    use crate::faults::oracles::{Oracle, Violation};

    #[test]
    fn a_broken_promise_is_told_with_the_seed_to_repeat_it() {
        let case = find("service-kill").unwrap();
        let mut report = Report::new();
        let sound = Verdict {
            acknowledged: 7,
            commands_again: Some(Duration::from_millis(1_500)),
            ..Verdict::default()
        };
        report.add(case, Engine::Embedded, 1, Ok(sound.clone()));
        assert!(report.is_sound());
        assert!(report.table().ends_with("kept\n"), "{}", report.table());
        assert_eq!(report.noticed(), "");
        let broken = Verdict {
            violations: vec![Violation {
                oracle: Oracle::O1,
                what: "v is gone".to_owned(),
            }],
            lost: 1,
            notes: vec!["half of it was cut off".to_owned()],
            noticed: Some(Duration::from_millis(2_500)),
            ..sound
        };
        report.add(case, Engine::Embedded, 2, Ok(broken));
        report.add(case, Engine::Embedded, 3, Err(anyhow::anyhow!("stuck")));
        assert!(!report.is_sound());
        let row = "| service-kill | embedded | 3 | 14 | 0 | 1 | 0 | 0 | 1.50 / 1.50 | – | – | BROKEN in 2 |";
        assert!(report.markdown().contains(row), "{}", report.markdown());
        let failures = report.failures();
        assert!(failures.contains("v is gone"), "{failures}");
        assert!(failures.contains("half of it was cut off"), "{failures}");
        let noticed = report.noticed();
        assert!(noticed.contains("in 1 runs, after 2.50 / 2.50 s"), "{noticed}");
        assert!(
            failures.contains("faults service-kill --engine embedded --seed 2"),
            "{failures}"
        );
        assert!(failures.contains("stuck"), "{failures}");
    }

    #[test]
    fn a_control_that_finds_nothing_is_a_failure() {
        let case = find("control-tampered").unwrap();
        let mut report = Report::new();
        let found = Verdict {
            violations: vec![Violation {
                oracle: Oracle::O5,
                what: "Mallory".to_owned(),
            }],
            ..Verdict::default()
        };
        report.add(case, Engine::Cluster, 1, Ok(found));
        assert!(report.is_sound());
        report.add(case, Engine::Cluster, 2, Ok(Verdict::default()));
        assert!(!report.is_sound());
        assert!(report.table().ends_with("NOT FOUND in 1\n"), "{}", report.table());
    }
    #[test]
    fn what_cannot_run_here_is_told_and_no_failure() {
        let case = find("power-cut").unwrap();
        let mut report = Report::new();
        report.skip(case, Engine::Cluster, &Skipped("no loop devices".to_owned()));
        assert!(report.is_sound());
        assert_eq!(
            report.skipped(),
            "power-cut on the cluster engine was skipped: no loop devices\n"
        );
    }
}
