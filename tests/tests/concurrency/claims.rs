//! Unique values that several want at once.

use anyhow::ensure;
use futures::future::try_join_all;
use reqwest::Method;
use serde_json::json;
use tests::http::{Api, Reply};
use tests::service::{Engine, Tidings};

use crate::history::History;
use crate::races::{register, tenant};

/// How many want each value.
const RIVALS: usize = 8;

/// Registers a user under one address from all clients at once; upper and lower case are no way around each other.
async fn rush(clients: &[Api], email: &str) -> anyhow::Result<Vec<Reply>> {
    let rivals = (0..RIVALS).map(|rival| {
        let client = &clients[rival % clients.len()];
        let email = if rival % 2 == 0 {
            email.to_owned()
        } else {
            email.to_uppercase()
        };
        async move {
            let body = json!({ "email": email, "name": format!("Rival {rival}") });
            client.post("/v1/users", &body).await
        }
    });
    try_join_all(rivals).await
}

/// How many have got it; every other was told that it is taken.
fn winners(replies: &[Reply]) -> anyhow::Result<usize> {
    let mut winners = 0;
    for reply in replies {
        if reply.status == 201 {
            winners += 1;
        } else {
            ensure!(reply.problem(409)? == "email_taken");
        }
    }
    Ok(winners)
}

/// Many addresses, each wanted by several at once.
async fn rushes(clients: &[Api]) -> anyhow::Result<()> {
    let emails: Vec<_> = (0..30)
        .map(|number| format!("user{number}@example.org"))
        .collect();
    let all = try_join_all(emails.iter().map(|email| rush(clients, email))).await?;
    for (email, replies) in emails.iter().zip(&all) {
        let winners = winners(replies)?;
        ensure!(winners == 1, "{winners} users have got {email}");
    }
    Ok(())
}

/// One user goes from address to address while others want the one it leaves.
async fn retake(clients: &[Api]) -> anyhow::Result<()> {
    let email = |round: usize| format!("moving{round}@example.org");
    let path = format!("/v1/users/{}", register(&clients[0], &email(0)).await?);
    for round in 0..20 {
        let (left, next) = (email(round), json!({ "email": email(round + 1) }));
        let mover = &clients[round % clients.len()];
        let (moved, rivals) = tokio::try_join!(
            mover.call(Method::PATCH, &path, Some(&next), &[]),
            rush(clients, &left)
        )?;
        ensure!(moved.status == 204, "the move was answered {}", moved.status);
        let won = winners(&rivals)?;
        ensure!(won <= 1, "{won} users have got {left}");
        // Released, it is free for one, unless a rival was quick enough already.
        let late = winners(&rush(clients, &left).await?)?;
        ensure!(won + late == 1, "{left} went to {won} and then to {late}");
    }
    Ok(())
}

/// Both kinds of race, then the log.
async fn contest(service: &mut Tidings, clients: &[Api]) -> anyhow::Result<()> {
    rushes(clients).await?;
    retake(clients).await?;
    if service.database().is_none() {
        service.terminate().await?;
    }
    let history = History::check(&service.events().await?)?;
    let holders = history.holders()?;
    // 30 rushed for, 20 left behind and taken again, and where the moving user is in the end.
    ensure!(holders.len() == 51, "{} addresses are held", holders.len());
    Ok(())
}

tests::for_each_engine! {
    /// Of those who want one address at once, one gets it; a released one goes to one other.
    async fn a_value_has_one_holder_in_one_process(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let api = service.tenant(&tenant(&service).await?)?;
        contest(&mut service, &[api]).await
    }
}

/// The same between two processes, which meet only in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_has_one_holder_in_two_processes() -> anyhow::Result<()> {
    let mut service = Tidings::start(Engine::Cluster).await?;
    let second = service.beside().await?;
    let key = tenant(&service).await?;
    let clients = [service.tenant(&key)?, second.tenant(&key)?];
    contest(&mut service, &clients).await
}
