//! O8 of every fault of a run; the oracles know of one.

use std::time::Duration;

use super::{Course, Harm};
use crate::faults::evidence::Evidence;
use crate::faults::history::{Entry, Step};
use crate::faults::oracles::{Oracle, RECOVERS_WITHIN, Verdict, Violation};

/// How long after a fault a command was acknowledged again, in a history that is in order.
pub fn commands_again(history: &[Entry], harm: &Harm) -> Option<Duration> {
    let after = history.partition_point(|entry| entry.at < harm.healed);
    let mut later = history.iter().skip(after);
    let ok = later.find(|entry| matches!(entry.step, Step::Ok(_)))?;
    ok.at.checked_sub(harm.healed)
}

/// Judges every fault but the last, which the oracles have judged.
pub fn judge(verdict: &mut Verdict, evidence: &Evidence, course: &Course) {
    let Some((_, before)) = course.harms.split_last() else {
        return;
    };
    for harm in before {
        let measured = [
            ("commands", commands_again(&evidence.history, harm)),
            ("queries", harm.queries_again),
        ];
        for (what, again) in measured {
            if again.is_some_and(|again| again <= RECOVERS_WITHIN) {
                continue;
            }
            verdict.violations.push(Violation {
                oracle: Oracle::O8,
                what: format!("{what} after {} at {:?}: {again:?}", harm.name, harm.healed),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::evidence::Span;

    fn harm(healed: u64, queries_again: Option<u64>) -> Harm {
        let healed = Duration::from_secs(healed);
        Harm {
            name: "nats-kill".to_owned(),
            span: Span {
                from: healed,
                to: healed,
            },
            healed,
            queries_again: queries_again.map(Duration::from_secs),
        }
    }

    fn broken(harms: Vec<Harm>) -> usize {
        let ok = |at| Entry {
            at: Duration::from_secs(at),
            command: at,
            step: Step::Ok("usr".to_owned()),
        };
        let evidence = Evidence {
            history: vec![ok(5), ok(100), ok(400)],
            ..Evidence::default()
        };
        let course = Course {
            harms,
            ..Course::default()
        };
        let mut verdict = Verdict::default();
        judge(&mut verdict, &evidence, &course);
        verdict.violations.len()
    }

    #[test]
    fn each_fault_that_was_not_recovered_from_in_time_is_found() {
        let last = || harm(399, Some(1));
        assert_eq!(broken(vec![harm(90, Some(1)), last()]), 0);
        assert_eq!(broken(vec![harm(90, None), last()]), 1);
        assert_eq!(broken(vec![harm(90, Some(61)), last()]), 1);
        assert_eq!(broken(vec![harm(300, Some(1)), last()]), 1, "commands took 100 s");
        assert_eq!(broken(vec![harm(500, None), last()]), 2);
    }
}
