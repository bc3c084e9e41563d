//! What receivers and tenants do to the service.

use std::time::Duration;

use anyhow::ensure;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::process::AFTERWARDS;
use crate::faults::client::mark;
use crate::faults::world::{OPEN, RECEIVER, World};
use crate::receiver::Answer;

/// How many clients a noisy tenant has.
const NOISE: u64 = 24;
/// How long a command of its neighbour may take beside it, which shares two processors with everything else.
const NEIGHBOUR_WITHIN: Duration = Duration::from_secs(5);

/// Where a name must not lead.
const INSIDE: [&str; 4] = ["10.0.0.1", "169.254.169.254", "192.168.0.1", "fd00::1"];

/// One tenant's receiver hangs, drips a byte now and then, or answers 500, in an order that is drawn; the other's is
/// well all the while.
pub(super) fn down(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        let path = world.tenants[0].path();
        for _ in 0..3 {
            let answer = match world.dice.number(0..3) {
                0 => Answer::Hang,
                1 => Answer::Drip(Duration::from_millis(100)),
                _ => Answer::Status(500),
            };
            world.receiver.script(&path, [answer]);
            world.lasting(300..1_500).await;
        }
        world.heal();
        world.receiver.script(&path, [Answer::Status(200)]);
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// One tenant publishes with many clients at once; the other's commands go on beside it.
pub(super) fn noisy_tenant(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        let stop = CancellationToken::new();
        let noisy = world.caller(0)?.clone();
        let clients = (0..NOISE).map(|client| {
            let (noisy, stop) = (noisy.clone(), stop.clone());
            async move {
                for number in 0.. {
                    if stop.is_cancelled() {
                        break;
                    }
                    let value = format!("{}n{client}-{number}", mark(&noisy.tenant));
                    noisy.publish(value, false).await;
                }
            }
        });
        let clients: Vec<_> = clients.map(tokio::spawn).collect();
        let quiet = world.caller(1)?.clone();
        let mut slowest = Duration::ZERO;
        for number in 0..20 {
            let began = std::time::Instant::now();
            let value = format!("{}q-{number}", mark(&quiet.tenant));
            let made = quiet.register(value, false).await;
            slowest = slowest.max(began.elapsed());
            ensure!(made.is_some(), "the neighbour of a noisy tenant was refused");
        }
        stop.cancel();
        join_all(clients).await;
        world.heal();
        ensure!(
            slowest < NEIGHBOUR_WITHIN,
            "a command of the noisy tenant's neighbour took {slowest:?}"
        );
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// One tenant's receiver answers without end or sends us elsewhere; then the name of both leads inside. Nothing may come
/// elsewhere, which is judged like anything else that came and was not to.
pub(super) fn hostile(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        let path = world.tenants[0].path();
        let elsewhere = world.receiver.url("/elsewhere");
        for _ in 0..3 {
            let answer = if world.dice.percent(50) {
                Answer::Huge(usize::MAX)
            } else {
                Answer::Redirect(elsewhere.clone())
            };
            world.receiver.script(&path, [answer]);
            world.lasting(300..1_500).await;
            let inside = usize::try_from(world.dice.number(0..INSIDE.len() as u64))?;
            world.hosts()?.lead(RECEIVER, INSIDE[inside])?;
            world.lasting(300..1_500).await;
            world.hosts()?.lead(RECEIVER, OPEN)?;
        }
        world.heal();
        world.receiver.script(&path, [Answer::Status(200)]);
        world.both_logs_again().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}
