//! What is worth what is measured of a run: each kind of growth is found in just its measure, and none in a run without.

use super::*;
use crate::faults::evidence::Webhook;
use crate::faults::history::Asked;
use crate::faults::long::Harm;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// How something develops, by the share of the run that is over.
type Growth = fn(f64) -> f64;

/// What a run is like: constants, but for what a test changes.
#[derive(Clone, Copy)]
struct Run {
    memory: Growth,
    handles: Growth,
    lag: Growth,
    /// Seconds.
    command: Growth,
    query: Growth,
    delivery: Growth,
}

const SOUND: Run = Run {
    memory: |_| 100.0,
    handles: |_| 60.0,
    lag: |_| 20.0,
    command: |_| 0.004,
    query: |_| 0.002,
    delivery: |_| 0.05,
};

/// A run of 800 s with a fault each 100 s, an event and a query ten times a second, a sample each second. While a fault
/// lasts, everything is a hundred times as much.
fn grown(run: Run) -> Vec<&'static str> {
    let began = 30.0;
    let mut course = Course {
        span: Span {
            from: seconds(began),
            to: seconds(began + 800.0),
        },
        ..Course::default()
    };
    let mut evidence = Evidence::default();
    for fault in 0..8 {
        let from = began + f64::from(fault) * 100.0 + 50.0;
        course.harms.push(Harm {
            name: "nats-kill".to_owned(),
            span: Span {
                from: seconds(from),
                to: seconds(from + 5.0),
            },
            healed: seconds(from + 3.0),
            queries_again: Some(seconds(0.1)),
        });
    }
    for tick in 0..8_000_u32 {
        let share = f64::from(tick) / 8_000.0;
        let now = began + share * 800.0;
        let harmed = (50.0..55.0).contains(&((now - began) % 100.0));
        let worse = if harmed { 100.0 } else { 1.0 };
        let value = format!("acme-w{tick}");
        let asked = Asked {
            tenant: "acme".to_owned(),
            kind: Kind::Publish,
            value: value.clone(),
        };
        let acknowledged = now + (run.command)(share) * worse;
        for (at, step) in [
            (now, Step::Invoke(asked)),
            (acknowledged, Step::Ok(value.clone())),
        ] {
            evidence.history.push(Entry {
                at: seconds(at),
                command: tick.into(),
                step,
            });
        }
        evidence.received.push(Webhook {
            tenant: "acme".to_owned(),
            at: seconds(acknowledged + (run.delivery)(share)),
            id: value.clone(),
            value,
            genuine: true,
            mentions: Vec::new(),
        });
        course.queries.push(Query {
            at: seconds(now),
            took: Some(seconds((run.query)(share) * worse)),
        });
        if tick % 10 == 0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small and not negative"
            )]
            let whole = |value: f64| (value * worse) as u32;
            course.samples.push(Sample {
                at: seconds(now),
                process: 1,
                memory: (run.memory)(share) * worse,
                handles: whole((run.handles)(share)),
                lag: Some(whole((run.lag)(share))),
            });
        }
    }
    evidence.history.sort_by_key(|entry| entry.at);
    let findings = findings(&evidence, &course, &Rules::LONG);
    let grown = findings.iter().filter(|finding| !finding.is_flat());
    grown.map(|finding| finding.name).collect()
}

#[test]
fn a_run_that_only_its_faults_disturb_is_flat() {
    assert!(grown(SOUND).is_empty(), "{:?}", grown(SOUND));
}

#[test]
fn a_leak_of_memory_is_found() {
    let leak = Run {
        memory: |share| 100.0 + 200.0 * share,
        ..SOUND
    };
    assert_eq!(grown(leak), ["memory"]);
}

#[test]
fn a_leak_of_handles_is_found() {
    let leak = Run {
        handles: |share| 60.0 + 200.0 * share,
        ..SOUND
    };
    assert_eq!(grown(leak), ["file handles"]);
}

#[test]
fn read_models_that_fall_behind_are_found() {
    let behind = Run {
        lag: |share| 3_000.0 * share,
        ..SOUND
    };
    let slow = Run {
        lag: |share| 20.0 + 5_000.0 * (share - 0.5).max(0.0),
        ..SOUND
    };
    assert_eq!(grown(behind), ["lag of read models"]);
    assert_eq!(grown(slow), ["lag of read models"]);
}

#[test]
fn deliveries_that_fall_behind_are_found() {
    let behind = Run {
        delivery: |share| 0.05 + 400.0 * (share - 0.5).max(0.0),
        ..SOUND
    };
    assert_eq!(grown(behind), ["undelivered"]);
}

#[test]
fn commands_and_queries_that_become_slower_are_found() {
    let slower = Run {
        command: |share| 0.004 + 0.2 * (share - 0.4).max(0.0),
        ..SOUND
    };
    assert_eq!(grown(slower), ["commands, p50"]);
    let much = Run {
        command: |share| 0.004 + 2.0 * (share - 0.4).max(0.0),
        ..SOUND
    };
    assert_eq!(grown(much), ["commands, p50", "commands, p99"]);
    let queries = Run {
        query: |share| 0.002 + 2.0 * (share - 0.4).max(0.0),
        ..SOUND
    };
    assert_eq!(grown(queries), ["queries, p50", "queries, p99"]);
}

#[test]
fn time_without_calm_takes_none_away_from_any_quarter() {
    let calm = Calm(vec![
        Span {
            from: seconds(0.0),
            to: seconds(10.0),
        },
        Span {
            from: seconds(50.0),
            to: seconds(80.0),
        },
    ]);
    for (moment, before) in [(0.0, 0.0), (7.0, 7.0), (30.0, 10.0), (60.0, 20.0), (99.0, 40.0)] {
        assert_eq!(calm.before(seconds(moment)), seconds(before), "{moment}");
    }
}

#[test]
fn only_first_tries_that_were_acknowledged_are_latencies() {
    let steps = [
        (1, "invoke"),
        (1, "ok"),
        (2, "invoke"),
        (2, "unknown"),
        (2, "invoke"),
        (2, "ok"),
        (3, "invoke"),
        (3, "fail"),
    ];
    let history: Vec<_> = steps
        .into_iter()
        .zip(1..)
        .map(|((command, step), at)| Entry {
            at: Duration::from_millis(at),
            command,
            step: match step {
                "invoke" => Step::Invoke(Asked {
                    tenant: "acme".to_owned(),
                    kind: Kind::Register,
                    value: "v".to_owned(),
                }),
                "ok" => Step::Ok("usr".to_owned()),
                "fail" => Step::Fail("unavailable".to_owned()),
                _ => Step::Unknown("silence".to_owned()),
            },
        })
        .collect();
    let one = Duration::from_millis(1);
    assert_eq!(command_latencies(&history), [(one, one)]);
}
