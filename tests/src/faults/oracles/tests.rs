//! What the oracles are worth: each finds the history that is broken in just its way, and none a sound one.

use super::*;
use crate::faults::evidence::{FIRST_NAME, Mentions, Span, User, Verified, Versions, Webhook};
use crate::faults::history::{Asked, Entry, Step};

const ACME: &str = "acme";

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn asked(kind: Kind, value: &str) -> Step {
    Step::Invoke(Asked {
        tenant: ACME.to_owned(),
        kind,
        value: value.to_owned(),
    })
}

fn stored(log: &str, sequence: u64, facts: &[(Kind, &str, &str)]) -> Stored {
    Stored {
        log: log.to_owned(),
        sequence,
        tenant: Some(ACME.to_owned()),
        commit: None,
        facts: facts
            .iter()
            .map(|(kind, id, value)| Fact {
                kind: *kind,
                id: (*id).to_owned(),
                value: (*value).to_owned(),
            })
            .collect(),
        mentions: vec![ACME.to_owned()],
    }
}

fn commit(mut stored: Stored, version: u64) -> Stored {
    stored.commit = Some(Versions {
        aggregate: "ev.acme.user.usr_1".to_owned(),
        first: version,
        last: version,
        hash: format!("hash {version}"),
        previous: (version > 1).then(|| format!("hash {}", version - 1)),
    });
    stored
}

fn webhook(at: u64) -> Webhook {
    Webhook {
        tenant: ACME.to_owned(),
        at: millis(at),
        id: "evt_1".to_owned(),
        value: "paid".to_owned(),
        genuine: true,
        mentions: vec![ACME.to_owned()],
    }
}

/// A user registered and renamed, an event published, a refusal, and something nobody answered for, around a fault
/// from 100 to 200 ms.
fn sound() -> Evidence {
    let steps = [
        (10, 1, asked(Kind::Register, "ada")),
        (20, 1, Step::Ok("usr_1".to_owned())),
        (30, 2, asked(Kind::Publish, "paid")),
        (40, 2, Step::Ok("evt_1".to_owned())),
        (110, 3, asked(Kind::Register, "bob")),
        (120, 3, Step::Fail("unavailable".to_owned())),
        (130, 4, asked(Kind::Rename, "maybe")),
        (210, 4, Step::Unknown("outcome_unknown".to_owned())),
        (220, 5, asked(Kind::Rename, "countess")),
        (230, 5, Step::Ok("usr_1".to_owned())),
    ];
    let history = steps
        .into_iter()
        .map(|(at, command, step)| Entry {
            at: millis(at),
            command,
            step,
        })
        .collect();
    Evidence {
        history,
        notes: vec!["half of it was cut off".to_owned()],
        noticed: Some(millis(40)),
        log: vec![
            commit(stored("EVENTS-0", 1, &[(Kind::Register, "usr_1", "ada")]), 1),
            commit(stored("EVENTS-0", 2, &[(Kind::Rename, "usr_1", "countess")]), 2),
            stored("MESSAGES-0", 1, &[(Kind::Publish, "evt_1", "paid")]),
        ],
        users: vec![User {
            tenant: ACME.to_owned(),
            id: "usr_1".to_owned(),
            email: "ada".to_owned(),
            name: "countess".to_owned(),
        }],
        events: vec![(ACME.to_owned(), "evt_1".to_owned())],
        read: vec![Mentions {
            tenant: ACME.to_owned(),
            what: "/v1/users".to_owned(),
            of: vec![ACME.to_owned()],
        }],
        verified: Verified {
            proved: true,
            said: String::new(),
        },
        received: vec![webhook(50), webhook(260)],
        away: vec![Span {
            from: millis(100),
            to: millis(200),
        }],
        ending: Vec::new(),
        healed: millis(200),
        within: None,
        queries_again: Some(millis(35)),
    }
}

/// The promises broken in a run that is changed like this; each is named once.
fn broken(change: impl FnOnce(&mut Evidence)) -> BTreeSet<Oracle> {
    let mut evidence = sound();
    change(&mut evidence);
    let verdict = judge(&evidence);
    verdict
        .violations
        .into_iter()
        .map(|violation| violation.oracle)
        .collect()
}

#[test]
fn a_sound_run_passes_and_is_counted() {
    let verdict = judge(&sound());
    let expected = Verdict {
        violations: Vec::new(),
        acknowledged: 3,
        unknown: 1,
        lost: 0,
        doubled: 0,
        duplicates: 1,
        commands_again: Some(millis(30)),
        queries_again: Some(millis(35)),
        delivered_again: Some(millis(0)),
        noticed: Some(millis(40)),
        notes: vec!["half of it was cut off".to_owned()],
    };
    assert_eq!(verdict, expected);
}

#[test]
fn an_unknown_command_may_have_happened() {
    let happened = |run: &mut Evidence| {
        let renamed = stored("EVENTS-0", 2, &[(Kind::Rename, "usr_1", "maybe")]);
        run.log.insert(1, commit(renamed, 2));
        run.log[2] = commit(stored("EVENTS-0", 3, &[(Kind::Rename, "usr_1", "countess")]), 3);
    };
    assert_eq!(broken(happened), BTreeSet::new());
}

#[test]
fn o1_finds_what_was_acknowledged_and_lost_or_doubled_or_mistaken() {
    let lost = broken(|run| run.log[1].facts.clear());
    assert_eq!(
        lost,
        [Oracle::O1, Oracle::O5].into(),
        "its read model shows it still"
    );
    let doubled = broken(|run| {
        let again = stored("EVENTS-0", 3, &[(Kind::Rename, "usr_1", "countess")]);
        run.log.insert(2, commit(again, 3));
    });
    assert_eq!(doubled, [Oracle::O1].into());
    let mistaken = broken(|run| {
        run.history[3].step = Step::Ok("evt_2".to_owned());
    });
    assert_eq!(mistaken, [Oracle::O1].into());
}

#[test]
fn o2_finds_what_was_refused_and_stored_or_refused_for_nothing() {
    let refused = broken(|run| {
        let bob = stored("EVENTS-0", 3, &[(Kind::Register, "usr_2", "bob")]);
        run.log.insert(2, bob);
        run.users.push(User {
            tenant: ACME.to_owned(),
            id: "usr_2".to_owned(),
            email: "bob".to_owned(),
            name: FIRST_NAME.to_owned(),
        });
    });
    assert_eq!(refused, [Oracle::O2].into());
    let unexplained = broken(|run| run.history[5].step = Step::Fail("not_found".to_owned()));
    assert_eq!(unexplained, [Oracle::O2].into());
}

#[test]
fn o3_finds_the_unknown_that_happened_twice_and_what_nobody_asked_for() {
    let twice = broken(|run| {
        for version in [2, 3] {
            let maybe = stored("EVENTS-0", version, &[(Kind::Rename, "usr_1", "maybe")]);
            run.log
                .insert(usize::try_from(version).unwrap() - 1, commit(maybe, version));
        }
        run.log[3] = commit(stored("EVENTS-0", 4, &[(Kind::Rename, "usr_1", "countess")]), 4);
    });
    assert_eq!(twice, [Oracle::O3].into());
    let unasked = broken(|run| {
        let mallory = stored("EVENTS-0", 3, &[(Kind::Rename, "usr_9", "mallory")]);
        run.log.insert(2, mallory);
    });
    assert_eq!(unasked, [Oracle::O3].into());
}

#[test]
fn o4_finds_gaps_in_logs_versions_and_hashes() {
    assert_eq!(broken(|run| run.log[1].sequence = 3), [Oracle::O4].into());
    let version = broken(|run| run.log[1] = commit(run.log[1].clone(), 3));
    assert_eq!(version, [Oracle::O4].into());
    let hash = broken(|run| {
        if let Some(commit) = &mut run.log[1].commit {
            commit.previous = Some("another".to_owned());
        }
    });
    assert_eq!(hash, [Oracle::O4].into());
}

#[test]
fn o5_finds_read_models_that_say_something_else() {
    let unproved = broken(|run| run.verified.proved = false);
    assert_eq!(unproved, [Oracle::O5].into());
    assert_eq!(
        broken(|run| run.users[0].name = "ada".to_owned()),
        [Oracle::O5].into()
    );
    assert_eq!(broken(|run| run.users.clear()), [Oracle::O5].into());
    assert_eq!(broken(|run| run.events.clear()), [Oracle::O5].into());
    let twice = broken(|run| run.events.push(run.events[0].clone()));
    assert_eq!(twice, [Oracle::O5].into());
    let invented = broken(|run| run.events.push((ACME.to_owned(), "evt_9".to_owned())));
    assert_eq!(invented, [Oracle::O5].into());
}

#[test]
fn o6_finds_another_tenants_value_in_log_queries_and_webhooks() {
    let other = || "zeta".to_owned();
    assert_eq!(
        broken(|run| run.log[0].mentions.push(other())),
        [Oracle::O6].into()
    );
    assert_eq!(broken(|run| run.read[0].of.push(other())), [Oracle::O6].into());
    assert_eq!(
        broken(|run| run.received[0].mentions.push(other())),
        [Oracle::O6].into()
    );
    let platform = broken(|run| run.log[0].mentions.clear());
    assert_eq!(platform, BTreeSet::new(), "nobody's value is no harm");
}

#[test]
fn o7_finds_what_was_acknowledged_without_a_log() {
    let away = broken(|run| {
        for (entry, at) in run.history[8..].iter_mut().zip([140, 150]) {
            entry.at = millis(at);
        }
        // Something is acknowledged after the fault too.
        run.healed = millis(140);
    });
    assert_eq!(away, [Oracle::O7].into());
}

#[test]
fn o8_finds_a_service_that_does_not_come_back_in_time() {
    let never = broken(|run| run.healed = millis(300));
    assert_eq!(never, [Oracle::O8].into());
    assert_eq!(broken(|run| run.queries_again = None), [Oracle::O8].into());
    let late = broken(|run| run.queries_again = Some(RECOVERS_WITHIN + millis(1)));
    assert_eq!(late, [Oracle::O8].into());
    let expected_sooner = broken(|run| run.within = Some(millis(29)));
    assert_eq!(expected_sooner, [Oracle::O8].into());
}

#[test]
fn o8_asks_for_both_logs() {
    // The event is sent while the log of commands is still missed.
    let verdict = |at: u64| {
        let mut run = sound();
        let event = [asked(Kind::Publish, "late"), Step::Ok("evt_2".to_owned())];
        for (step, at) in event.into_iter().zip([at, at + 5]) {
            let at = millis(at);
            run.history.push(Entry { at, command: 6, step });
        }
        judge(&run).commands_again
    };
    assert_eq!(verdict(201), Some(millis(30)));
    assert_eq!(verdict(240), Some(millis(45)));
}

#[test]
fn o9_finds_what_never_came_or_came_wrongly() {
    assert_eq!(broken(|run| run.received.clear()), [Oracle::O9].into());
    let forged = broken(|run| run.received[1].genuine = false);
    assert_eq!(forged, [Oracle::O9].into());
    let renamed = broken(|run| run.received[1].id = "evt_2".to_owned());
    assert_eq!(renamed, [Oracle::O9].into(), "the id changed on the way");
    let invented = broken(|run| run.received[1].value = "free".to_owned());
    assert_eq!(invented, [Oracle::O9].into());
}

#[test]
fn o10_finds_the_accepted_request_that_was_not_answered() {
    let ending = broken(|run| {
        run.ending.push(Span {
            from: millis(205),
            to: millis(215),
        });
    });
    assert_eq!(ending, [Oracle::O10].into());
}
