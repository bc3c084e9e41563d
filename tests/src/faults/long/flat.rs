//! What is flat: the last quarter of a run beside its second, after which nothing should grow any more.
//!
//! Something has grown if it is above its bound in both halves of the last quarter: a burst of the machine's other
//! work is not a leak, and what goes up and stays up is, whenever it began. The bound is what it was in the second
//! quarter, times a factor, and some room for what is small.

use std::time::Duration;

use crate::faults::evidence::Span;

/// How few values a stretch may have to say anything.
const FEWEST: usize = 3;

/// How much more something may be in the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Times what it was.
    pub factor: f64,
    /// And so much more, in its unit.
    pub room: f64,
}

/// The rules for everything that is looked at. A factor is below 13/6 everywhere: what has grown evenly since the
/// beginning is that much more in the first half of the last quarter than in the second, and would not be found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Memory, in MiB.
    pub memory: Rule,
    /// Open file handles.
    pub handles: Rule,
    /// Records that read models have to fold.
    pub lag: Rule,
    /// Events that were acknowledged and not delivered.
    pub undelivered: Rule,
    /// The middle of a latency, in milliseconds.
    pub median: Rule,
    /// What one of a hundred takes longer than, in milliseconds.
    pub slowest: Rule,
}

impl Rules {
    /// For a run of many minutes.
    pub const LONG: Self = Self {
        memory: rule(1.25, 32.0),
        handles: rule(1.25, 32.0),
        lag: rule(1.5, 500.0),
        undelivered: rule(1.5, 500.0),
        median: rule(1.5, 10.0),
        slowest: rule(2.0, 100.0),
    };
    /// For a run of little more than a minute, in which a process still warms up and a neighbour's burst lasts for all
    /// of a quarter.
    pub const SHORT: Self = Self {
        memory: rule(1.5, 64.0),
        handles: rule(1.5, 64.0),
        lag: rule(2.0, 1_000.0),
        undelivered: rule(2.0, 1_000.0),
        median: rule(2.0, 250.0),
        slowest: rule(2.0, 1_000.0),
    };
}

const fn rule(factor: f64, room: f64) -> Rule {
    Rule { factor, room }
}

/// Something that was measured over and over.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// What.
    pub name: &'static str,
    /// In which unit.
    pub unit: &'static str,
    /// Which quantile of a stretch's values stands for it: 0.5 is the median.
    pub quantile: f64,
    /// How much more it may become.
    pub rule: Rule,
    /// The values with their times, in no order.
    pub values: Vec<(Duration, f64)>,
}

/// What became of a measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What was measured.
    pub name: &'static str,
    /// In which unit.
    pub unit: &'static str,
    /// The run's quarters; none where too little was measured.
    pub quarters: [Option<f64>; 4],
    /// The halves of the last one.
    pub halves: [Option<f64>; 2],
    /// What it may be in the end.
    pub bound: Option<f64>,
}

impl Finding {
    /// Whether it was measured, and did not grow.
    pub fn is_flat(&self) -> bool {
        let (Some(bound), [Some(first), Some(second)]) = (self.bound, self.halves) else {
            return false;
        };
        first <= bound || second <= bound
    }

    /// What is wrong with it.
    pub fn complaint(&self) -> Option<String> {
        if self.is_flat() {
            return None;
        }
        let (name, unit) = (self.name, self.unit);
        let (Some(bound), [Some(first), Some(second)], Some(was)) =
            (self.bound, self.halves, self.quarters[1])
        else {
            return Some(format!("{name}: too little was measured to tell"));
        };
        Some(format!(
            "{name} grew from {was:.1} {unit} in the second quarter to {first:.1} and {second:.1} in the last one's \
             halves; {bound:.1} is the most"
        ))
    }
}

/// Holds the quarters of a run against each other.
pub fn judge(measure: &Measure, run: Span) -> Finding {
    let length = run.to.saturating_sub(run.from);
    let stretch = |from: u32, to: u32| {
        let (from, to) = (run.from + length * from / 8, run.from + length * to / 8);
        let within = measure.values.iter().filter(|(at, _)| (from..to).contains(at));
        quantile(within.map(|(_, value)| *value).collect(), measure.quantile)
    };
    let quarters = [stretch(0, 2), stretch(2, 4), stretch(4, 6), stretch(6, 8)];
    let rule = measure.rule;
    Finding {
        name: measure.name,
        unit: measure.unit,
        quarters,
        halves: [stretch(6, 7), stretch(7, 8)],
        bound: quarters[1].map(|before| before * rule.factor + rule.room),
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a list: small and not negative"
)]
fn quantile(mut values: Vec<f64>, quantile: f64) -> Option<f64> {
    if values.len() < FEWEST {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    let index = ((values.len() - 1) as f64 * quantile).round() as usize;
    values.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Span = Span {
        from: Duration::from_secs(1_000),
        to: Duration::from_mins(30),
    };

    /// A value each second, by the share of the run that is over.
    fn measured(rule: Rule, quantile: f64, value: impl Fn(f64) -> f64) -> Finding {
        let values = (0..800).map(|second| {
            let at = RUN.from + Duration::from_secs(second);
            (at, value(f64::from(u32::try_from(second).unwrap()) / 800.0))
        });
        let measure = Measure {
            name: "it",
            unit: "MiB",
            quantile,
            rule,
            values: values.collect(),
        };
        judge(&measure, RUN)
    }

    #[test]
    fn what_grows_for_good_is_found_whenever_it_begins() {
        for rules in [Rules::LONG, Rules::SHORT] {
            for (rule, usual) in [
                (rules.memory, 120.0),
                (rules.handles, 90.0),
                (rules.lag, 40.0),
                (rules.undelivered, 40.0),
                (rules.median, 4.0),
                (rules.slowest, 30.0),
            ] {
                let much = usual * rule.factor + 2.0 * rule.room;
                let leak = measured(rule, 0.5, |share| usual + much * 20.0 * share);
                assert!(!leak.is_flat(), "{leak:?}");
                assert!(leak.complaint().unwrap().contains("grew"), "{leak:?}");
                let step = measured(rule, 0.5, |share| if share < 0.76 { usual } else { usual + much });
                assert!(!step.is_flat(), "{step:?}");
                assert!(measured(rule, 0.5, |_| usual).is_flat());
            }
        }
    }

    #[test]
    fn what_warms_up_jumps_about_or_is_disturbed_for_a_while_is_flat() {
        let rule = Rules::LONG.memory;
        let warm = measured(rule, 0.5, |share| 400.0 * (share * 4.0).min(1.0));
        assert!(warm.is_flat(), "{warm:?}");
        let jumpy = measured(rule, 0.5, |share| 100.0 + 90.0 * (share * 9_000.0).sin());
        assert!(jumpy.is_flat(), "{jumpy:?}");
        let burst = |share: f64| {
            if (0.9..1.0).contains(&share) {
                9_000.0
            } else {
                100.0
            }
        };
        let burst = measured(rule, 0.5, burst);
        assert!(burst.is_flat() && burst.complaint().is_none(), "{burst:?}");
        assert!(measured(rule, 0.5, |share| 500.0 - 400.0 * share).is_flat());
    }

    #[test]
    fn a_hundredth_that_becomes_slow_is_found_where_the_median_is_not() {
        let slow = |share: f64| {
            let second = (share * 800.0).round();
            if share > 0.5 && second % 20.0 == 0.0 {
                2_000.0
            } else {
                5.0
            }
        };
        assert!(measured(Rules::LONG.median, 0.5, slow).is_flat());
        assert!(!measured(Rules::LONG.slowest, 0.99, slow).is_flat());
    }

    #[test]
    fn what_was_not_measured_is_not_flat() {
        let mut measure = Measure {
            name: "it",
            unit: "MiB",
            quantile: 0.5,
            rule: Rules::LONG.memory,
            values: Vec::new(),
        };
        assert!(judge(&measure, RUN).complaint().unwrap().contains("too little"));
        // Nothing of the last quarter.
        measure.values = (0..500)
            .map(|second| (RUN.from + Duration::from_secs(second), 1.0))
            .collect();
        assert!(!judge(&measure, RUN).is_flat());
    }
}
