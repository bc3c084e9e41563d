//! A realistic log for measurements: what tenants of different sizes would have written, the same from the same seed.
//!
//! Every record comes from a command that the real aggregate decided: its commits have contiguous versions, carry the
//! hash of the record before and stand behind the claims they need, as the dispatcher appends them. Which command
//! comes next is drawn by the weights of [`MIX`], for a tenant drawn by its size: of [`TENANTS`] tenants the n-th has
//! a share that falls with 1/n (Zipf). The clock of the log runs so that a million events take about ninety days.

mod draw;
mod live;
mod synthetic;
mod tenancy;
mod things;
mod traffic;
mod users;

use std::collections::VecDeque;

use anyhow::Context as _;
use broker::{EventLog, NewRecord};

pub(super) use synthetic::{Named, Synthetic};
pub(super) use traffic::Traffic;

use draw::Draw;
use live::Out;
use tenancy::Tenancy;

/// How many tenants there are in a long log; a short one has only those that were drawn.
pub(super) const TENANTS: usize = 1_000;

/// The seed of every published figure.
pub(super) const SEED: u64 = 4;

/// Records of one append, at most.
const APPEND: usize = broker::MAX_APPEND;

/// What may come next in a tenant.
type Action = fn(&mut Tenancy, &mut Draw, &mut Out) -> anyhow::Result<()>;

/// How often each kind of command comes, of [`WEIGHTS`] in all.
const MIX: [(u32, Action); 27] = [
    (160, users::register),
    (100, users::rename),
    (160, users::change_attributes),
    (150, users::edit_profile),
    (60, users::change_email),
    (70, users::grant_role),
    (30, users::revoke_role),
    (90, users::set_preferences),
    (40, users::set_permission),
    (20, users::deactivate),
    (20, users::reactivate),
    (10, users::remove),
    (30, things::invite),
    (10, things::resend_invitation),
    (20, things::accept_invitation),
    (10, things::end_invitation),
    (10, things::create_team),
    (10, things::rename_team),
    (40, things::add_team_members),
    (20, things::remove_team_member),
    (10, things::define_role),
    (10, things::change_role),
    (25, things::change_api_key),
    (10, things::register_event_type),
    (60, things::change_endpoint),
    (15, things::change_settings),
    (10, things::change_tenant),
];

/// All weights of [`MIX`] together.
const WEIGHTS: u32 = 1_200;

/// The events' log of an installation, record after record, without end.
#[derive(Debug)]
pub(super) struct Generator {
    draw: Draw,
    /// By size, the largest first; none where it has not been drawn yet.
    tenants: Vec<Option<Tenancy>>,
    /// The tenants' shares, summed up.
    shares: Vec<f64>,
    ready: VecDeque<NewRecord>,
    records: u64,
    events: u64,
}

impl Generator {
    /// Begins a log.
    pub(super) fn new(seed: u64) -> Self {
        Self::of(seed, TENANTS)
    }

    /// Begins a log of so many tenants.
    fn of(seed: u64, tenants: usize) -> Self {
        Self {
            draw: Draw::new(seed),
            tenants: (0..tenants).map(|_| None).collect(),
            shares: shares(tenants),
            ready: VecDeque::new(),
            records: 0,
            events: 0,
        }
    }

    /// How many events the records given so far hold.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// How many records were given so far.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// When the last record was decided, in milliseconds since 1970.
    pub(super) fn clock(&self) -> u64 {
        self.draw.clock()
    }

    /// The next record.
    pub(super) fn next(&mut self) -> anyhow::Result<NewRecord> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                self.records += 1;
                return Ok(record);
            }
            self.decide()?;
        }
    }

    /// Lets one tenant do one thing; it may come to nothing.
    fn decide(&mut self) -> anyhow::Result<()> {
        let rank = self.draw.by_share(&self.shares);
        let mut out = Out::default();
        self.draw.tick();
        let place = self.tenants.get_mut(rank).context("a tenant")?;
        if let Some(tenant) = place {
            let action = self.draw.weighted(&MIX, WEIGHTS);
            action(tenant, &mut self.draw, &mut out)?;
        } else {
            *place = Some(Tenancy::provision(rank, &mut self.draw, &mut out)?);
        }
        self.events += out.events;
        self.ready.extend(out.records);
        Ok(())
    }

    /// The records of one append on the way to so many events in all; none when there are as many.
    pub(super) fn batch(&mut self, enough: u64) -> anyhow::Result<Vec<NewRecord>> {
        let mut batch = Vec::new();
        while batch.len() < APPEND && (self.events < enough || !self.ready.is_empty()) {
            batch.push(self.next()?);
        }
        Ok(batch)
    }

    /// Appends to a log until it holds so many events more; what is under way then is finished.
    pub(super) async fn fill(&mut self, log: &dyn EventLog, events: u64) -> anyhow::Result<()> {
        let enough = self.events + events;
        loop {
            let batch = self.batch(enough)?;
            if batch.is_empty() {
                return Ok(());
            }
            log.append(batch).await?;
        }
    }
}

/// The first n shares of Zipf's law, each with those before it, the last being 1.
fn shares(count: usize) -> Vec<f64> {
    let mut sum = 0.0;
    let mut shares: Vec<f64> = (1..=u32::try_from(count).unwrap_or(u32::MAX))
        .map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        })
        .collect();
    for share in &mut shares {
        *share /= sum;
    }
    shares
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::{ClaimRecord, Commit};

    use super::*;

    #[test]
    fn the_weights_are_what_they_are_said_to_be() {
        assert_eq!(MIX.iter().map(|(weight, _)| weight).sum::<u32>(), WEIGHTS);
    }

    /// What makes a log valid, looked at from outside: versions without gaps, hashes that chain, ids that are new.
    #[test]
    fn the_same_seed_gives_the_same_valid_log() -> anyhow::Result<()> {
        let (mut log, mut again) = (Generator::new(7), Generator::new(7));
        let mut last: BTreeMap<String, (u64, Vec<u8>)> = BTreeMap::new();
        let mut ids = std::collections::BTreeSet::new();
        let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
        let (mut commits, mut events, mut bytes) = (0, 0, 0);
        for _ in 0..20_000 {
            let record = log.next()?;
            assert_eq!(record, again.next()?);
            assert!(
                ids.insert(record.message_id.clone()),
                "{} again",
                record.message_id
            );
            if record.subject.as_str().starts_with("uq.") {
                ClaimRecord::decode(&record.payload)?;
                continue;
            }
            let commit = Commit::decode(&record.payload)?;
            let (version, prev) = last
                .get(record.subject.as_str())
                .map_or((0, None), |(version, hash)| (*version, Some(hash.clone())));
            assert_eq!((commit.first_version, &commit.prev), (version + 1, &prev));
            last.insert(
                record.subject.to_string(),
                (commit.last_version(), Commit::hash(&record.payload)),
            );
            commits += 1;
            events += commit.events.len();
            bytes += record.payload.len();
            for event in commit.events {
                *kinds.entry(event.event_type).or_default() += 1;
            }
        }
        assert_eq!(log.records(), 20_000);
        assert!(kinds.len() > 35, "only {kinds:?}");
        let per_commit = f64::from(u32::try_from(events)?) / f64::from(u32::try_from(commits)?);
        assert!((1.1..1.3).contains(&per_commit), "{per_commit}");
        assert!((400..900).contains(&(bytes / commits)), "{}", bytes / commits);
        Ok(())
    }
}
