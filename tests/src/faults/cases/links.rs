//! What happens to the links between the service and its servers.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::process::AFTERWARDS;
use crate::faults::world::World;
use crate::proxy::{Fault, Proxy};

/// Which of the links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Nats,
    Postgres,
}

impl Link {
    fn of(self, world: &World) -> anyhow::Result<&Proxy> {
        match self {
            Self::Nats => world.nats_link(),
            Self::Postgres => world.postgres_link(),
        }
    }
}

/// Lets a fault that nothing gets through last: the log is away if it is NATS that cannot be reached.
async fn blocked(
    world: &mut World,
    link: Link,
    fault: Fault,
    millis: std::ops::Range<u64>,
) -> anyhow::Result<()> {
    world.moment().await?;
    link.of(world)?.set(fault);
    match link {
        Link::Nats => world.without_log(millis).await,
        Link::Postgres => world.lasting(millis).await,
    }
    world.heal();
    Ok(())
}

/// What is stored is not acknowledged; then every connection is cut.
async fn lost_answers(world: &mut World, link: Link) -> anyhow::Result<()> {
    for _ in 0..world.dice.number(1..4) {
        blocked(world, link, Fault::LoseAnswers, 300..1_500).await?;
        link.of(world)?.cut_and_heal();
    }
    world.acknowledged(AFTERWARDS).await
}

/// Each piece is held back, either way.
async fn slow(world: &mut World, link: Link) -> anyhow::Result<()> {
    world.moment().await?;
    let delay = world.dice.millis(20..120);
    link.of(world)?.set(Fault::Delay(delay));
    world.lasting(1_000..3_000).await;
    world.heal();
    link.of(world)?.set(Fault::None);
    world.acknowledged(AFTERWARDS).await
}

/// Nothing passes and nothing is closed; then all that was held back arrives.
async fn half_open(world: &mut World, link: Link) -> anyhow::Result<()> {
    blocked(world, link, Fault::HalfOpen, 1_000..12_000).await?;
    link.of(world)?.set(Fault::None);
    world.acknowledged(AFTERWARDS).await
}

/// Every connection is cut, several times, wherever it is in what it says.
async fn reset(world: &mut World, link: Link) -> anyhow::Result<()> {
    world.moment().await?;
    for _ in 0..world.dice.number(2..8) {
        link.of(world)?.cut_and_heal();
        world.lasting(20..400).await;
    }
    world.heal();
    world.acknowledged(AFTERWARDS).await
}

/// Connections are cut, and none can be made for a while.
async fn refused(world: &mut World, link: Link) -> anyhow::Result<()> {
    blocked(world, link, Fault::Refuse, 500..5_000).await?;
    link.of(world)?.set(Fault::None);
    world.acknowledged(AFTERWARDS).await
}

macro_rules! cases {
    ($($name:ident => $fault:ident($link:ident);)+) => {$(
        pub(super) fn $name(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
            $fault(world, Link::$link).boxed_local()
        }
    )+};
}

cases! {
    nats_lost_answers => lost_answers(Nats);
    nats_slow => slow(Nats);
    nats_half_open => half_open(Nats);
    nats_reset => reset(Nats);
    nats_refused => refused(Nats);
    postgres_lost_answers => lost_answers(Postgres);
    postgres_slow => slow(Postgres);
    postgres_half_open => half_open(Postgres);
    postgres_reset => reset(Postgres);
}
