//! What is drawn: choices, names, ids, times, all from one seed.

use domain::{Actor, Meta, TenantId, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};
use ulid::Ulid;

/// When the log begins: 2026-01-01T00:00:00Z.
const BEGIN: u64 = 1_767_225_600_000;

/// A decision comes this many milliseconds after the one before, at most: 8.5 s on average.
const PACE: u64 = 17_000;

const FIRST: [&str; 24] = [
    "Ada",
    "Alan",
    "Barbara",
    "Edsger",
    "Frances",
    "Grace",
    "Hedy",
    "Ivan",
    "Jean",
    "Karen",
    "Katherine",
    "Ken",
    "Leslie",
    "Lynn",
    "Margaret",
    "Niklaus",
    "Radia",
    "Shafi",
    "Sophie",
    "Tony",
    "Ursula",
    "Vint",
    "Whitfield",
    "Yuki",
];
const LAST: [&str; 24] = [
    "Allen",
    "Dijkstra",
    "Goldwasser",
    "Hamilton",
    "Hoare",
    "Hopper",
    "Johnson",
    "Lamarr",
    "Lamport",
    "Liskov",
    "Lovelace",
    "Perlman",
    "Sammet",
    "Sutherland",
    "Thompson",
    "Turing",
    "Wilson",
    "Wirth",
    "Yamamoto",
    "Nakamura",
    "Müller",
    "García",
    "Okafor",
    "Szabó",
];
const WORDS: [&str; 16] = [
    "billing",
    "support",
    "platform",
    "growth",
    "finance",
    "legal",
    "design",
    "research",
    "security",
    "operations",
    "sales",
    "quality",
    "mobile",
    "payments",
    "identity",
    "storage",
];

/// A source of choices, and the log's clock.
#[derive(Debug)]
pub(super) struct Draw {
    rng: StdRng,
    now: u64,
}

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            now: BEGIN,
        }
    }

    /// Lets some time pass.
    pub(super) fn tick(&mut self) {
        self.now += self.rng.random_range(0..PACE);
    }

    /// Lets it be this time, in milliseconds since 1970.
    pub(super) fn forward_to(&mut self, clock: u64) {
        self.now = clock;
    }

    /// Milliseconds since 1970.
    pub(super) fn clock(&self) -> u64 {
        self.now
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.now).unwrap_or(i64::MAX))
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end.max(1))
    }

    /// True once in `times`.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of several; the caller has at least one.
    pub(super) fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    /// One of several, to be changed.
    pub(super) fn one_mut<'a, T>(&mut self, of: &'a mut [T]) -> Option<&'a mut T> {
        let place = self.below(of.len());
        of.get_mut(place)
    }

    /// A place in a list of shares that are summed up to 1.
    pub(super) fn by_share(&mut self, shares: &[f64]) -> usize {
        let point: f64 = self.rng.random();
        shares
            .partition_point(|share| *share < point)
            .min(shares.len() - 1)
    }

    /// One of several by their weights.
    pub(super) fn weighted<T: Copy, const N: usize>(&mut self, of: &[(u32, T); N], weights: u32) -> T {
        let mut point = self.rng.random_range(0..weights);
        for (weight, what) in of {
            if point < *weight {
                return *what;
            }
            point -= weight;
        }
        of[0].1
    }

    pub(super) fn ulid(&mut self) -> Ulid {
        Ulid::from_parts(self.now, self.rng.random())
    }

    pub(super) fn person(&mut self) -> String {
        format!(
            "{} {}",
            FIRST[self.below(FIRST.len())],
            LAST[self.below(LAST.len())]
        )
    }

    pub(super) fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len())]
    }

    /// Some of what a tenant may know of a user.
    pub(super) fn attributes(&mut self) -> Map<String, Value> {
        let mut map = Map::new();
        let all: [(&str, Value); 4] = [
            ("department", json!(self.word())),
            ("title", json!(format!("{} lead", self.word()))),
            ("employee", json!(self.below(100_000))),
            (
                "locale",
                json!(["de-CH", "en-GB", "fr-FR", "ja-JP"][self.below(4)]),
            ),
        ];
        for (key, value) in all {
            if self.once_in(2) {
                map.insert(key.to_owned(), value);
            }
        }
        map
    }

    /// Where a command comes from, as the gateway notes it.
    pub(super) fn meta(&mut self, tenant: &TenantId, command: &str, actor: Actor) -> Meta {
        let request = self.ulid().to_string();
        let system = matches!(actor, Actor::System(_));
        let trace: u128 = self.rng.random();
        let span: u64 = self.rng.random();
        let octet = tenant.as_str().bytes().map(usize::from).sum::<usize>() % 250 + 1;
        Meta {
            command_id: self.ulid().to_string(),
            command: command.to_owned(),
            actor,
            origin: (!system).then(|| format!("203.0.113.{octet}")),
            correlation_id: Some(request.clone()),
            request_id: (!system).then_some(request),
            causation_id: None,
            traceparent: self.once_in(4).then(|| format!("00-{trace:032x}-{span:016x}-01")),
            at: self.now(),
        }
    }
}
