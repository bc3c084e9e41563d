//! Clients: they want things done once, and ask until they know.

use std::time::Duration;

use domain::Timestamp;
use futures::future::join;
use tokio::time::sleep;

use super::deed::{Deed, Heard, Turn};
use super::gateway::Gateway;
use super::{Chance, World};

/// The most often a client asks for one thing.
const TRIES: u32 = 12;

/// How a client goes about it.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// The longest pause between two deeds, in milliseconds.
    pub pause: u64,
    /// The longest pause between two tries, in milliseconds.
    pub patience: u64,
    /// How often in a thousand tries it asks twice at once.
    pub doubles: u64,
    /// What it, or the service on its behalf, gets wrong.
    pub fault: Fault,
}

/// What callers of the dispatcher can be made to get wrong, so that the checks can show that they see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// A repetition is not said to be one.
    HidesRepetitions,
    /// Each try is a command of its own.
    DrawsAgain,
    /// What may have happened is taken for what did not.
    TakesUnknownForNo,
}

/// What became of a deed.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The deed.
    pub deed: Deed,
    /// Each try, in the order in which they ended.
    pub tries: Vec<Try>,
    /// Every message id that a record of it can have.
    pub message_ids: Vec<String>,
    /// Two tries were under way at once.
    pub doubled: bool,
}

/// A try and what was heard of it.
#[derive(Debug, Clone)]
pub struct Try {
    /// When it began.
    pub from: Duration,
    /// When it ended.
    pub to: Duration,
    /// What was heard.
    pub heard: Heard,
}

/// Does one thing after the other.
pub async fn live(
    world: &World,
    gateways: &[Gateway],
    name: String,
    deeds: Vec<Deed>,
    habits: Habits,
    mut chance: Chance,
) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(deeds.len());
    for deed in deeds {
        sleep(chance.millis(0, habits.pause)).await;
        entries.push(insist(world, gateways, &name, deed, habits, &mut chance).await);
    }
    entries
}

/// Asks until it knows, or has asked often enough.
pub async fn insist(
    world: &World,
    gateways: &[Gateway],
    name: &str,
    mut deed: Deed,
    habits: Habits,
    chance: &mut Chance,
) -> Entry {
    let now = || Timestamp::from(world.clock.now());
    let first = now();
    let mut entry = Entry {
        message_ids: deed.message_ids(),
        deed: deed.clone(),
        tries: Vec::new(),
        doubled: false,
    };
    for number in 0..TRIES {
        let doubles = chance.happens(habits.doubles);
        entry.doubled |= doubles;
        let turn = Turn {
            repeated: (number > 0 || habits.doubles > 0) && habits.fault != Fault::HidesRepetitions,
            now: now(),
            first,
        };
        if number > 0 && habits.fault == Fault::DrawsAgain {
            for command in &mut deed.commands {
                *command = world.ulid().to_string();
            }
            entry.message_ids.extend(deed.message_ids());
        }
        let (one, other) = (chance.index(gateways.len()), chance.index(gateways.len()));
        let later = chance.millis(0, 40);
        let once = attempt(world, &gateways[one], name, &deed, turn);
        if doubles {
            let again = async {
                sleep(later).await;
                attempt(world, &gateways[other], name, &deed, turn).await
            };
            let (once, again) = join(once, again).await;
            entry.tries.extend([again, once]);
        } else {
            entry.tries.push(once.await);
        }
        let Some(last) = entry.tries.last_mut() else {
            break;
        };
        if habits.fault == Fault::TakesUnknownForNo && matches!(last.heard, Heard::Unknown(_)) {
            last.heard = Heard::No("it takes it for no".to_owned());
        }
        let done = matches!(last.heard, Heard::Done(_));
        let open = matches!(last.heard, Heard::NotNow(_) | Heard::Unknown(_) | Heard::Silence);
        // Whoever has the answer may have lost it again, and asks once more.
        if !(open || done && chance.happens(250)) {
            break;
        }
        sleep(chance.millis(1, habits.patience)).await;
    }
    entry
}

async fn attempt(world: &World, gateway: &Gateway, name: &str, deed: &Deed, turn: Turn) -> Try {
    let from = world.clock.passed();
    let trace = &world.network.trace;
    trace.note(
        name,
        format_args!("asks {}, {}: {:?}", deed.tenant, turn.repeated, deed.what),
    );
    let heard = gateway.serve(deed, turn).await;
    trace.note(name, format_args!("hears {heard:?}"));
    Try {
        from,
        to: world.clock.passed(),
        heard,
    }
}
