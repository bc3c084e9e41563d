//! Clients that dawdle: that send a little at a time, or nothing, or take nothing of their answers.

use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::time::sleep;

use crate::client::{PATIENCE, Raw, Victim, refused};

/// How many of them come at once.
const MANY: usize = 150;

async fn crowd(victim: &Victim, many: usize) -> anyhow::Result<Vec<Raw>> {
    try_join_all((0..many).map(|_| victim.connect())).await
}

/// Each is told off or closed; the answers.
async fn all_closed(clients: &mut [Raw]) -> anyhow::Result<Vec<String>> {
    try_join_all(clients.iter_mut().map(Raw::closed)).await
}

/// Sends a byte every now and then until the other side has enough.
async fn drip(client: &mut Raw, every: Duration) {
    let most = PATIENCE.as_millis() / every.as_millis();
    for _ in 0..most {
        if !client.write(b"x").await {
            break;
        }
        sleep(every).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_do_not_end_are_given_up() -> anyhow::Result<()> {
    let victim = Victim::start("500").await?;
    let mut clients = crowd(&victim, MANY).await?;
    join_all(
        clients
            .iter_mut()
            .map(|client| client.write(b"GET /v1/users HTTP/1.1\r\nx: ")),
    )
    .await;
    let dripping = join_all(
        clients
            .iter_mut()
            .map(|client| drip(client, Duration::from_millis(200))),
    );
    let (_, others) = tokio::join!(dripping, victim.serves_others());
    others?;
    for answer in all_closed(&mut clients).await? {
        assert!(refused(&answer), "{answer}");
    }
    victim.recovers().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_are_closed() -> anyhow::Result<()> {
    let victim = Victim::start("500").await?;
    let mut clients = crowd(&victim, MANY).await?;
    victim.serves_others().await?;
    all_closed(&mut clients).await?;
    victim.recovers().await
}

/// More connections than are taken: who has something to say has its turn as the silent ones are closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_house_lets_others_in_as_the_silent_go() -> anyhow::Result<()> {
    let victim = Victim::start("20").await?;
    let mut clients = crowd(&victim, 100).await?;
    victim.serves_others().await?;
    all_closed(&mut clients).await?;
    victim.recovers().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_do_not_end_are_given_up() -> anyhow::Result<()> {
    let victim = Victim::start("500").await?;
    let users = victim.head("POST /v1/users");
    let import = victim
        .head("POST /v1/users/import")
        .replace("application/json", "text/csv");
    // Few imports run at the same time; what is over that is refused at once, which is another matter.
    for (head, body, many) in [
        (users, "{\"email\":", 50),
        (import, "email,name\nada@example.org,", 2),
    ] {
        let mut clients = crowd(&victim, many).await?;
        let request = format!("{head}content-length: 1000\r\n\r\n{body}");
        join_all(clients.iter_mut().map(|client| client.write(request.as_bytes()))).await;
        victim.serves_others().await?;
        for answer in all_closed(&mut clients).await? {
            assert!(!answer.contains("HTTP/1.1 5"), "{answer}");
        }
    }
    victim.recovers().await
}

/// A client that asks and asks and takes no answer: what is kept for it is bounded, and so is the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_takes_are_dropped() -> anyhow::Result<()> {
    let victim = Victim::start("500").await?;
    let requests = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(60);
    let mut clients = crowd(&victim, 30).await?;
    let push = |client| Raw::push(client, requests.as_bytes(), Duration::from_secs(2));
    join_all(clients.iter_mut().map(push)).await;
    victim.serves_others().await?;
    // Their files are closed on the other side while they are still held open on this one.
    victim.recovers().await?;
    drop(clients);
    Ok(())
}
