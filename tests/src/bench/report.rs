//! What was measured, as tables and as JSON, and which bars it meets.

use std::fmt::Write as _;

use serde::Serialize;

use super::load::Sample;

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Bar {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bar) => value >= bar,
            Self::AtMost(bar) => value <= bar,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bar) => format!(">= {bar}"),
            Self::AtMost(bar) => format!("<= {bar}"),
        }
    }
}

/// One measured value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    suite: String,
    #[serde(rename = "row")]
    name: String,
    value: f64,
    unit: String,
    /// As `>= 4`; none: it is only reported.
    bar: Option<String>,
    /// None without a bar.
    met: Option<bool>,
}

/// One line of the table of loads: what was measured at a number of operations in flight.
#[derive(Debug, Clone)]
struct Load {
    row: String,
    in_flight: usize,
    per_second: f64,
    p50: f64,
    p99: f64,
    peak: Option<f64>,
}

/// All that a suite found.
#[derive(Debug)]
pub struct Report {
    suite: String,
    loads: Vec<Load>,
    values: Vec<Row>,
    all: Vec<Row>,
}

impl Report {
    /// An empty one.
    pub fn new(suite: &str) -> Self {
        Self {
            suite: suite.to_owned(),
            loads: Vec::new(),
            values: Vec::new(),
            all: Vec::new(),
        }
    }

    /// Adds throughput, p50, p99 and peak memory of a row at a number of operations in flight.
    pub fn load(&mut self, row: &str, in_flight: usize, sample: &Sample) {
        let load = Load {
            row: row.to_owned(),
            in_flight,
            per_second: sample.per_second(),
            p50: sample.millis(0.5),
            p99: sample.millis(0.99),
            peak: sample.peak,
        };
        let name = |what: &str| format!("{row}, {in_flight} in flight, {what}");
        let throughput = self.row(name("throughput"), load.per_second, "1/s", None);
        let p50 = self.row(name("p50"), load.p50, "ms", None);
        let p99 = self.row(name("p99"), load.p99, "ms", None);
        let peak = load
            .peak
            .map(|peak| self.row(name("peak memory"), peak, "MiB", None));
        self.all.extend([throughput, p50, p99]);
        self.all.extend(peak);
        self.loads.push(load);
    }

    /// Adds a single value, with the bar it has to meet, if any.
    pub fn value(&mut self, row: &str, value: f64, unit: &str, bar: Option<Bar>) {
        let row = self.row(row.to_owned(), value, unit, bar);
        self.all.push(row.clone());
        self.values.push(row);
    }

    fn row(&self, name: String, value: f64, unit: &str, bar: Option<Bar>) -> Row {
        Row {
            suite: self.suite.clone(),
            name,
            value,
            unit: unit.to_owned(),
            bar: bar.map(Bar::text),
            met: bar.map(|bar| bar.is_met(value)),
        }
    }

    /// The rows whose bar is missed, in words.
    pub fn missed(&self) -> Vec<String> {
        let missed = self.all.iter().filter(|row| row.met == Some(false));
        missed
            .map(|row| {
                let (value, bar) = (figure(row.value), row.bar.as_deref().unwrap_or_default());
                format!("{}: {value} {} is not {bar}", row.name, row.unit)
            })
            .collect()
    }

    /// Every row as a line of JSON.
    pub fn json_lines(&self) -> serde_json::Result<String> {
        let mut lines = String::new();
        for row in &self.all {
            lines.push_str(&serde_json::to_string(row)?);
            lines.push('\n');
        }
        Ok(lines)
    }

    /// Both tables for a terminal.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for table in self.tables() {
            text.push_str(&aligned(&table));
            text.push('\n');
        }
        text
    }

    /// Both tables as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for table in self.tables() {
            for (index, line) in table.iter().enumerate() {
                writeln!(text, "| {} |", line.join(" | ")).ok();
                if index == 0 {
                    let rule: Vec<&str> = line
                        .iter()
                        .enumerate()
                        .map(|(column, _)| if column == 0 { "---" } else { "---:" })
                        .collect();
                    writeln!(text, "|{}|", rule.join("|")).ok();
                }
            }
            text.push('\n');
        }
        text
    }

    fn tables(&self) -> [Vec<Vec<String>>; 2] {
        let mut loads = vec![
            ["row", "in flight", "per second", "p50 ms", "p99 ms", "peak MiB"]
                .map(str::to_owned)
                .to_vec(),
        ];
        loads.extend(self.loads.iter().map(|load| {
            vec![
                load.row.clone(),
                load.in_flight.to_string(),
                figure(load.per_second),
                figure(load.p50),
                figure(load.p99),
                load.peak.map(figure).unwrap_or_default(),
            ]
        }));
        let mut values = vec![["value", "measured", "bar", "met"].map(str::to_owned).to_vec()];
        values.extend(self.values.iter().map(|row| {
            let met = match row.met {
                None => "",
                Some(true) => "yes",
                Some(false) => "**no**",
            };
            vec![
                row.name.clone(),
                format!("{} {}", figure(row.value), row.unit).trim().to_owned(),
                row.bar.clone().unwrap_or_default(),
                met.to_owned(),
            ]
        }));
        [loads, values]
    }
}

/// Three significant digits; whole numbers as they are.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn aligned(table: &[Vec<String>]) -> String {
    let columns = table.first().map_or(0, Vec::len);
    let width = |column: usize| {
        table
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in table {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            if column == 0 {
                write!(text, "{cell:<width$}").ok();
            } else {
                write!(text, "  {cell:>width$}").ok();
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_judged_and_said_in_every_form() {
        let mut report = Report::new("suite");
        report.value("fast", 4.2, "x", Some(Bar::AtLeast(4.0)));
        report.value("slow", 1.6, "x", Some(Bar::AtMost(1.5)));
        report.value("seen", 12_345.6, "MiB", None);
        assert_eq!(report.missed(), ["slow: 1.60 x is not <= 1.5"]);
        let lines = report.json_lines().unwrap_or_default();
        let second = lines.lines().nth(1).unwrap_or_default();
        assert_eq!(
            second,
            r#"{"suite":"suite","row":"slow","value":1.6,"unit":"x","bar":"<= 1.5","met":false}"#
        );
        assert!(lines.contains(r#""bar":null,"met":null"#));
        assert!(report.markdown().contains("| slow | 1.60 x | <= 1.5 | **no** |"));
        assert!(report.table().contains("12346 MiB"));
    }
}
