//! With a clock of the tests' own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::lanes::{Rate, pace};
use crate::work::token;

const MS: Duration = Duration::from_millis(1);

/// A table, its clock, and who has entered.
struct Scene {
    table: Table,
    now: Instant,
    entered: Vec<(Ticket, Token, Grant)>,
    left: Vec<(Ticket, Away)>,
}

impl Scene {
    fn new(tries: u32, slow: u32, waiting: usize) -> Self {
        Self {
            table: Table::new(Limits { tries, slow, waiting }),
            now: Instant::now(),
            entered: Vec::new(),
            left: Vec::new(),
        }
    }

    fn arrive(&mut self, tenant: &str, lane: &str) -> Ticket {
        self.arrive_with(tenant, lane, LaneRules::default(), false)
    }

    fn arrive_with(&mut self, tenant: &str, lane: &str, rules: LaneRules, retry: bool) -> Ticket {
        let entrant = Entrant {
            tenant: &token(tenant),
            lane: &token(lane),
            rules,
            retry,
        };
        let ticket = self.table.arrive(entrant, self.now);
        self.hear();
        ticket
    }

    fn hear(&mut self) {
        for (ticket, word) in self.table.said() {
            match word {
                Word::Enter(lane, grant) => self.entered.push((ticket, lane, grant)),
                Word::Leave(away) => self.left.push((ticket, away)),
            }
        }
    }

    /// Ends the oldest try of a lane.
    fn end(&mut self, lane: &str, verdict: Verdict, took: Duration) {
        let at = self.entered.iter().position(|(_, name, _)| name.as_str() == lane);
        let (_, name, grant) = self.entered.remove(at.unwrap());
        self.table.end(&name, grant, verdict, Some(took), self.now);
        self.hear();
    }

    /// Makes a lane known as quick.
    fn prove(&mut self, tenant: &str, lane: &str) {
        self.arrive(tenant, lane);
        self.end(lane, Verdict::Arrived, 5 * MS);
    }

    fn age(&mut self, lane: &str) {
        for (_, name, grant) in &mut self.entered {
            if name.as_str() == lane {
                self.table.lasts(name, grant, self.now);
            }
        }
        self.hear();
    }

    fn in_flight(&self, lane: &str) -> usize {
        self.entered
            .iter()
            .filter(|(_, name, _)| name.as_str() == lane)
            .count()
    }
}

#[test]
fn however_many_unknown_lanes_there_are_half_of_the_tries_are_for_the_proved() {
    let mut scene = Scene::new(8, 4, 1_000);
    scene.prove("b", "quick");
    for number in 0..100 {
        scene.arrive("a", &format!("unknown-{number}"));
    }
    assert_eq!(scene.entered.len(), 4);
    for _ in 0..10 {
        scene.arrive("b", "quick");
    }
    assert_eq!(scene.in_flight("quick"), 4);
    scene.end("quick", Verdict::Arrived, MS);
    assert_eq!(scene.in_flight("quick"), 4, "the next of the proved had no turn");
}

#[test]
fn a_try_that_lasts_makes_room_for_a_quick_one_and_its_lane_gets_few_places() {
    let mut scene = Scene::new(8, 8, 1_000);
    scene.prove("a", "hangs");
    for _ in 0..4 {
        scene.arrive("a", "hangs");
    }
    assert_eq!(scene.in_flight("hangs"), 4);
    scene.now += pace::SLOW;
    scene.age("hangs");
    assert_eq!(scene.table.figures().1, 4, "all of them last");
    for _ in 0..8 {
        scene.arrive("a", "hangs");
    }
    // Nobody who is slow waits, and beside four of eight it may not have another.
    assert_eq!(scene.in_flight("hangs"), 4);
    assert!(scene.left.iter().all(|(_, away)| away.why == Why::Full));
    for number in 0..8 {
        scene.arrive("b", &format!("new-{number}"));
    }
    assert_eq!(
        scene.entered.len(),
        8,
        "new lanes have half of the quick tries again"
    );
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn tenants_take_turns_however_many_endpoints_they_have() {
    let mut scene = Scene::new(2, 1, 1_000);
    scene.arrive("a", "first");
    for number in 0..50 {
        scene.arrive("a", &format!("a-{number}"));
    }
    scene.arrive("b", "b-0");
    scene.end("first", Verdict::Arrived, MS);
    scene.end("a-0", Verdict::Arrived, MS);
    assert_eq!(scene.in_flight("b-0"), 1, "{:?}", scene.entered);
}

#[test]
fn one_tenant_leaves_room_for_others_to_wait() {
    let mut scene = Scene::new(1, 1, 100);
    for number in 0..500 {
        scene.arrive("a", &format!("a-{}", number % 50));
    }
    assert_eq!(scene.table.figures().0, 50);
    let ticket = scene.arrive("b", "b");
    assert!(
        scene.left.iter().all(|(left, _)| *left != ticket),
        "no room for another tenant"
    );
}

#[test]
fn first_attempts_go_before_retries_which_still_have_their_turn() {
    let mut scene = Scene::new(10, 1, 1_000);
    scene.prove("a", "lane");
    let rules = LaneRules {
        in_flight: 1,
        ..LaneRules::default()
    };
    scene.arrive_with("a", "lane", rules, false);
    let retry = scene.arrive_with("a", "lane", rules, true);
    let firsts: Vec<_> = (0..8)
        .map(|_| scene.arrive_with("a", "lane", rules, false))
        .collect();
    let mut turns = Vec::new();
    for _ in 0..9 {
        scene.end("lane", Verdict::Arrived, MS);
        turns.push(scene.entered[0].0);
    }
    let at = turns.iter().position(|ticket| *ticket == retry).unwrap();
    assert!((1..6).contains(&at), "{turns:?}");
    turns.retain(|ticket| *ticket != retry);
    assert_eq!(turns, firsts);
}

#[test]
fn a_retry_gives_its_place_before_a_full_lane_to_a_first_attempt() {
    let mut scene = Scene::new(10, 1, 4);
    scene.prove("a", "lane");
    let rules = LaneRules {
        in_flight: 1,
        ..LaneRules::default()
    };
    scene.arrive_with("a", "lane", rules, false);
    let retries = [
        scene.arrive_with("a", "lane", rules, true),
        scene.arrive_with("a", "lane", rules, true),
    ];
    assert!(scene.left.is_empty());
    scene.arrive_with("a", "lane", rules, false);
    assert_eq!(
        scene.left.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(),
        [retries[1]]
    );
}

#[test]
fn an_open_lane_sends_everybody_away_until_it_lets_one_through() {
    let mut scene = Scene::new(100, 1, 1_000);
    for _ in 0..10 {
        scene.arrive("a", "lane");
        scene.end("lane", Verdict::Failed, MS);
    }
    assert_eq!(scene.table.figures().2, 1);
    scene.arrive("a", "lane");
    let away = scene.left.pop().unwrap().1;
    assert_eq!((away.why, away.wait), (Why::Open, Duration::from_secs(30)));
    scene.now += away.wait;
    scene.arrive("a", "lane");
    scene.arrive("a", "lane");
    assert_eq!(scene.in_flight("lane"), 1, "one probe at a time");
    assert_eq!(scene.left.pop().unwrap().1.why, Why::Open);
    scene.end("lane", Verdict::Arrived, MS);
    scene.arrive("a", "lane");
    scene.end("lane", Verdict::Arrived, MS);
    assert_eq!(scene.table.figures().2, 0);
}

#[test]
fn a_receiver_that_is_too_busy_gets_fewer_at_once_and_the_rest_it_asks_for() {
    let mut scene = Scene::new(100, 1, 0);
    scene.prove("a", "lane");
    scene.arrive("a", "lane");
    let asked = Some(Duration::from_secs(20));
    scene.end("lane", Verdict::TooMuch { asked }, MS);
    scene.arrive("a", "lane");
    let away = scene.left.pop().unwrap().1;
    assert_eq!((away.why, away.wait), (Why::Resting, Duration::from_secs(20)));
    scene.now += away.wait;
    for _ in 0..8 {
        scene.arrive("a", "lane");
    }
    assert_eq!(scene.in_flight("lane"), 4);
}

#[test]
fn a_lane_keeps_to_its_rate_and_sends_away_at_that_pace() {
    let mut scene = Scene::new(100, 1, 1_000);
    let rules = LaneRules {
        rate: Some(Rate {
            per_second: 1.0,
            burst: 2.0,
        }),
        ..LaneRules::default()
    };
    scene.prove("a", "lane");
    for _ in 0..6 {
        scene.arrive_with("a", "lane", rules, false);
    }
    assert_eq!(scene.entered.len(), 2);
    let waits: Vec<u128> = scene.left.iter().map(|(_, away)| away.wait.as_millis()).collect();
    assert_eq!(waits, [50, 800, 1_550, 2_300]);
    assert!(scene.left.iter().all(|(_, away)| away.why == Why::Rate));
}

/// Twenty receivers hang for 15 s each, twenty answer in 5 ms; there are eight tries. Nothing is known of any of them at
/// first: after five seconds everything is.
#[test]
fn receivers_that_hang_hold_nobody_up() {
    let mut scene = Scene::new(8, 32, 64);
    let (hang, quick) = (15 * SECOND, 5 * MS);
    let start = scene.now;
    // What happens next: when, in what order, to whom, and what. 0: arrives; 1: has lasted; 2: ends; 3: gives up.
    let mut events = BinaryHeap::new();
    let mut order = 0_u64;
    let mut at = |events: &mut BinaryHeap<_>, time: Instant, lane: String, what: u8, ticket: Ticket| {
        order += 1;
        events.push(Reverse((time, order, lane, what, ticket)));
    };
    for round in 0..300 {
        for number in 0..20_u32 {
            let time = start + 100 * MS * round + MS * number;
            at(&mut events, time, format!("hangs-{number}"), 0, 0);
            at(&mut events, time, format!("quick-{number}"), 0, 0);
        }
    }
    let mut came = HashMap::new();
    let mut waited = Vec::new();
    let mut sent_away = 0;
    while let Some(Reverse((time, _, lane, what, ticket))) = events.pop() {
        scene.now = time;
        let known = time > start + 5 * SECOND;
        match what {
            0 => {
                let ticket = scene.arrive(&lane[..5], &lane);
                came.insert(ticket, time);
                at(&mut events, time + PATIENCE, lane.clone(), 3, ticket);
            }
            3 => {
                scene.table.give_up(&token(&lane), ticket, time);
                scene.hear();
            }
            1 => {
                if let Some((_, name, grant)) = scene.entered.iter_mut().find(|(found, ..)| *found == ticket)
                {
                    scene.table.lasts(name, grant, time);
                    scene.hear();
                }
            }
            _ => {
                let found = scene
                    .entered
                    .iter()
                    .position(|(found, ..)| *found == ticket)
                    .unwrap();
                let (_, name, grant) = scene.entered.remove(found);
                let (verdict, took) = if lane.starts_with("hangs") {
                    (Verdict::TooMuch { asked: None }, hang)
                } else {
                    (Verdict::Arrived, quick)
                };
                scene.table.end(&name, grant, verdict, Some(took), time);
                scene.hear();
            }
        }
        for (ticket, name, _) in &scene.entered {
            let Some(arrived) = came.remove(ticket) else {
                continue;
            };
            if name.as_str().starts_with("hangs") {
                at(&mut events, time + pace::SLOW, name.to_string(), 1, *ticket);
                at(&mut events, time + hang, name.to_string(), 2, *ticket);
            } else {
                if known {
                    waited.push(time - arrived);
                }
                at(&mut events, time + quick, name.to_string(), 2, *ticket);
            }
        }
        for (ticket, _) in scene.left.drain(..) {
            came.remove(&ticket);
            sent_away += usize::from(lane.starts_with("quick") && known && (what == 0 || what == 3));
        }
    }
    waited.sort();
    assert_eq!(sent_away, 0, "of {} of the quick", waited.len());
    assert!(waited.len() > 4_000, "{}", waited.len());
    let p99 = waited[waited.len() * 99 / 100];
    assert!(p99 <= 10 * MS, "one in a hundred of the quick waited for {p99:?}");
}

#[test]
fn memory_is_bounded_with_many_endpoints_and_a_million_jobs() {
    let mut scene = Scene::new(64, 256, 512);
    for number in 0..1_000_000_u32 {
        scene.arrive(
            &format!("t-{}", number % 100),
            &format!("lane-{}", number % 100_000),
        );
        scene.left.clear();
    }
    assert!(scene.entered.len() <= 64, "{}", scene.entered.len());
    assert!(scene.table.figures().0 <= 512);
    assert!(scene.table.lanes.len() <= 100_000);
    assert!(size_of::<Lane>() <= 512, "{}", size_of::<Lane>());
    // Once the jobs are gone, so are the lanes.
    scene.now += Duration::from_hours(2);
    scene.table.sweep_at = 0;
    scene.arrive("t", "other");
    assert!(
        scene.table.lanes.len() <= 64 + 512 + 1,
        "{}",
        scene.table.lanes.len()
    );
}
