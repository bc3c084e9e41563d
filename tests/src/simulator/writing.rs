//! The command side under simulation: clients of several tenants, a few processes with the real dispatcher and the
//! real publisher, and everything between them and the storage that may go wrong.

use std::sync::Arc;
use std::time::Duration;

use broker::layout::{Layout, Log};
use domain::tenant::Slug;
use domain::user::Email;
use domain::{EventId, InvitationId, TenantId, TokenId, UserId};
use futures::future::join_all;
use tokio::time::sleep;
use ulid::Ulid;

use super::client::{Entry, Fault, Habits, insist, live};
use super::deed::{Deed, What};
use super::gateway::Gateway;
use super::judge::{self, Case};
use super::memory::{Breach, Manner};
use super::network::Weather;
use super::{Chance, Outcome, World};

/// The longest anything is under way: an append that is late, with its repetition.
const SETTLED: Duration = Duration::from_mins(2);

/// How many commits a long history has.
const AGE: usize = 270;

/// What of the world is broken on purpose.
#[derive(Debug, Clone, Copy)]
pub struct Breakage {
    /// Of the logs.
    pub breach: Breach,
    /// Of the callers.
    pub fault: Fault,
}

impl Breakage {
    /// Nothing.
    pub const NONE: Self = Self {
        breach: Breach::None,
        fault: Fault::None,
    };
}

/// What a seed decides before anything happens.
#[derive(Debug)]
struct Plan {
    gateways: usize,
    tenants: Vec<TenantId>,
    clients: usize,
    deeds: usize,
    /// Tenants have a quota of users.
    gated: bool,
    /// A user has a long history before anything goes wrong.
    aged: bool,
    /// The longest a process lives, in milliseconds; none crashes otherwise.
    life: Option<u64>,
    manner: Manner,
    habits: Habits,
    weather: Weather,
}

impl Plan {
    fn draw(chance: &mut Chance, breakage: Breakage) -> Self {
        let long = chance.below(4) == 0;
        let tenants = chance.between(1, 3);
        Self {
            gateways: chance.index(3) + 1,
            tenants: (1..=tenants)
                .map(|number| TenantId::new(Ulid(u128::from(number))))
                .collect(),
            clients: chance.index(3) + 1,
            deeds: chance.index(8) + 2,
            // Drawn apart, as whatever is added here later: seeds that are told of must stay what they are.
            aged: chance.apart(5).below(25) == 0,
            gated: chance.below(3) == 0,
            life: (chance.below(3) > 0).then(|| chance.between(100, 5_000)),
            manner: Manner {
                breach: breakage.breach,
                remembers: if long {
                    Duration::from_mins(2)
                } else {
                    Duration::MAX
                },
            },
            habits: Habits {
                pause: if chance.below(2) == 0 { 5 } else { 500 },
                patience: if long { 200_000 } else { 500 },
                doubles: if chance.below(3) == 0 { 200 } else { 0 },
                fault: breakage.fault,
            },
            weather: Weather::draw(chance),
        }
    }
}

/// Runs one seed to its end, and judges it.
pub async fn run(seed: u64, breakage: Breakage, aloud: bool) -> Outcome {
    let mut chance = Chance::of(seed);
    let plan = Plan::draw(&mut chance, breakage);
    let world = World::new(
        &chance,
        plan.weather.clone(),
        Layout::default(),
        plan.manner,
        aloud,
    );
    let world = Arc::new(world);
    world.network.trace.note("seed", format_args!("{seed}: {plan:?}"));
    let gateways = (1..=plan.gateways).map(|number| Gateway::start(&world, format!("gateway{number}")));
    let gateways = Arc::new(gateways.collect::<Vec<_>>());
    let mut entries = Vec::new();
    if plan.aged {
        world.network.turn(Weather::calm());
        entries = grow_old(&world, &gateways, &plan, chance.apart(6)).await;
        world.network.turn(plan.weather.clone());
    }
    let mut clients = Vec::new();
    for (number, tenant) in plan.tenants.iter().enumerate() {
        for client in 0..plan.clients {
            let own = chance.apart(1_000 + (number * 10 + client) as u64);
            let (name, deeds) = (
                format!("client{number}.{client}"),
                deeds(&world, &plan, tenant, own.clone()),
            );
            clients.push(live(&world, &gateways, name, deeds, plan.habits, own));
        }
    }
    let crashes = plan.life.map(|life| {
        let own = chance.apart(3);
        tokio::spawn(crash_now_and_then(Arc::clone(&gateways), life, own))
    });
    entries.extend(join_all(clients).await.into_iter().flatten());
    if let Some(crashes) = crashes {
        crashes.abort();
    }
    world.network.turn(Weather::calm());
    sleep(SETTLED).await;
    let probes = probe(&world, &gateways, plan.habits, chance.apart(4)).await;
    let case = Case {
        world: &world,
        tenants: &plan.tenants,
        gated: plan.gated,
        entries: &entries,
        probes: &probes,
    };
    let findings = judge::judge(&case).await;
    entries.extend(probes);
    Outcome::of(&world, &entries, findings)
}

/// Gives a user a history that is longer than a page of reading, and worth a snapshot.
async fn grow_old(world: &World, gateways: &[Gateway], plan: &Plan, mut chance: Chance) -> Vec<Entry> {
    let tenant = &plan.tenants[0];
    let habits = Habits {
        doubles: 0,
        ..plan.habits
    };
    let mut entries = Vec::with_capacity(AGE);
    for number in 0..AGE {
        let name = format!("{tenant} {}", world.ulid());
        let what = match number {
            0 => What::Register {
                user: user(0),
                email: email(&mut chance),
                name,
                gated: plan.gated,
            },
            _ => What::Change {
                user: user(0),
                email: None,
                name,
            },
        };
        let deed = Deed {
            tenant: tenant.clone(),
            what,
            commands: vec![world.ulid().to_string()],
        };
        entries.push(insist(world, gateways, "before", deed, habits, &mut chance).await);
    }
    entries
}

/// Crashes processes in the middle of their work, and starts them again after a while.
async fn crash_now_and_then(gateways: Arc<Vec<Gateway>>, life: u64, mut chance: Chance) {
    loop {
        sleep(chance.millis(1, life)).await;
        let gateway = &gateways[chance.index(gateways.len())];
        if chance.below(2) == 0 {
            gateway.crash();
            sleep(chance.millis(0, 300)).await;
        }
        gateway.restart();
    }
}

/// What one client will ask for. All clients of all tenants speak of the same few users and addresses: what is unique
/// is so within its tenant, and what is another's must never be seen.
fn deeds(world: &World, plan: &Plan, tenant: &TenantId, mut chance: Chance) -> Vec<Deed> {
    (0..plan.deeds)
        .map(|_| {
            let what = what(world, plan, tenant, &mut chance);
            let tenant = match what {
                What::Provision { .. } => TenantId::platform(),
                _ => tenant.clone(),
            };
            let commands = if matches!(what, What::Accept { .. }) { 2 } else { 1 };
            Deed {
                tenant,
                what,
                commands: (0..commands).map(|_| world.ulid().to_string()).collect(),
            }
        })
        .collect()
}

fn what(world: &World, plan: &Plan, tenant: &TenantId, chance: &mut Chance) -> What {
    // A name tells whose it is, and is another each time.
    let name = format!("{tenant} {}", world.ulid());
    let user = user(chance.below(4));
    let invitation = InvitationId::new(Ulid(u128::from(200 + chance.below(2))));
    let token = TokenId::new(Ulid(300));
    match chance.below(16) {
        0..4 => What::Register {
            user,
            email: email(chance),
            name,
            gated: plan.gated,
        },
        4..8 => What::Change {
            user,
            email: (chance.below(2) == 0).then(|| email(chance)),
            name,
        },
        8 => What::Remove { user },
        9 => What::Invite {
            invitation,
            email: email(chance),
            token,
        },
        // Users that come of invitations pass no gate here: the quota would be another's to keep.
        10 | 11 if !plan.gated => What::Accept {
            invitation,
            token,
            user: UserId::new(world.ulid()),
            email: email(chance),
            name,
        },
        12 => What::Provision {
            id: TenantId::new(world.ulid()),
            slug: Slug::try_from(format!("slug-{}", chance.below(3))).expect("a valid slug"),
        },
        13 | 14 => What::Publish {
            ids: (0..chance.between(1, 3))
                .map(|_| (EventId::new(world.ulid()), chance.below(2) == 0))
                .collect(),
            data: format!("{{\"of\": \"{name}\"}}"),
        },
        _ => What::Look { user },
    }
}

/// One of the few users every tenant has, of the same ids everywhere.
pub(super) fn user(number: u64) -> UserId {
    UserId::new(Ulid(u128::from(100 + number)))
}

/// One of the few addresses there are, written as people write them.
pub(super) const ADDRESSES: [&str; 5] = [
    "ada@example.org",
    "ADA@example.org",
    "grace@example.org",
    "alan@example.org",
    "Alan@Example.org",
];

fn email(chance: &mut Chance) -> Email {
    let address = ADDRESSES[chance.index(ADDRESSES.len())];
    Email::try_from(address.to_owned()).expect("a valid address")
}

/// When nothing goes wrong any more, everything that is there can be changed, by every process that is left and by a
/// new one.
async fn probe(world: &Arc<World>, gateways: &[Gateway], habits: Habits, mut chance: Chance) -> Vec<Entry> {
    let fresh = [Gateway::start(world, "afterwards".to_owned())];
    for gateway in gateways {
        // Those that a crash left lying are started; the others keep what they remember.
        gateway.start_again();
    }
    let users = judge::living_users(&world.ledger(Log::Events(0)).records());
    let habits = Habits { doubles: 0, ..habits };
    let mut entries = Vec::new();
    for (tenant, user) in users {
        for gateway in gateways.iter().chain(&fresh) {
            let deed = Deed {
                what: What::Change {
                    user: user.clone(),
                    email: None,
                    name: format!("{tenant} {}", world.ulid()),
                },
                tenant: tenant.clone(),
                commands: vec![world.ulid().to_string()],
            };
            let gateway = std::slice::from_ref(gateway);
            entries.push(insist(world, gateway, "afterwards", deed, habits, &mut chance).await);
        }
    }
    entries
}
