//! Names and circles of roles that several want at once: all roles of a tenant are judged together.

use anyhow::ensure;
use futures::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tests::http::{Api, Reply};
use tests::service::{Engine, Tidings};

use crate::history::History;
use crate::races::tenant;

const ROUNDS: usize = 10;
/// How many define a role of one name at once, and then inherit from each other in a ring.
const RIVALS: usize = 6;

async fn define(api: &Api, name: &str) -> anyhow::Result<Reply> {
    api.post("/v1/roles", &json!({ "name": name })).await
}

/// Of those who define a role of one name, one does.
async fn one_name(clients: &[Api], round: usize) -> anyhow::Result<()> {
    let rivals = (0..RIVALS).map(|rival| {
        let name = if rival % 2 == 0 { "Readers" } else { "READERS" };
        let client = &clients[rival % clients.len()];
        async move { define(client, &format!("{name} {round}")).await }
    });
    let replies = try_join_all(rivals).await?;
    let defined = replies.iter().filter(|reply| reply.status == 201).count();
    ensure!(defined == 1, "{defined} roles have got one name");
    for reply in replies.iter().filter(|reply| reply.status != 201) {
        ensure!(reply.problem(409)? == "role_name_taken");
    }
    Ok(())
}

/// Of those who inherit in a ring, all but one do: the last would close it.
async fn one_ring(clients: &[Api], round: usize) -> anyhow::Result<()> {
    let mut roles = Vec::new();
    for number in 0..RIVALS {
        let made = define(&clients[0], &format!("Ring {round} {number}"))
            .await?
            .expect(201)?;
        roles.push(made["id"].as_str().unwrap_or_default().to_owned());
    }
    let links = (0..RIVALS).map(|number| {
        let client = &clients[number % clients.len()];
        let path = format!("/v1/roles/{}", roles[number]);
        let body: Value = json!({ "inherits": [roles[(number + 1) % RIVALS]] });
        async move { client.call(Method::PATCH, &path, Some(&body), &[]).await }
    });
    let replies = try_join_all(links).await?;
    let linked = replies.iter().filter(|reply| reply.status == 204).count();
    ensure!(
        linked == RIVALS - 1,
        "{linked} of {RIVALS} links of a ring were made"
    );
    for reply in replies.iter().filter(|reply| reply.status != 204) {
        ensure!(reply.problem(409)? == "cycle");
    }
    Ok(())
}

/// Both kinds of race, then the log.
async fn contest(service: &mut Tidings, clients: &[Api]) -> anyhow::Result<()> {
    for round in 0..ROUNDS {
        one_name(clients, round).await?;
        one_ring(clients, round).await?;
    }
    if service.database().is_none() {
        service.terminate().await?;
    }
    History::check(&service.events().await?)?;
    Ok(())
}

tests::for_each_engine! {
    async fn roles_have_one_name_each_and_no_circle_in_one_process(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let api = service.tenant(&tenant(&service).await?)?;
        contest(&mut service, &[api]).await
    }
}

/// The same between two processes, which meet only in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_have_one_name_each_and_no_circle_in_two_processes() -> anyhow::Result<()> {
    let mut service = Tidings::start(Engine::Cluster).await?;
    let second = service.beside().await?;
    let key = tenant(&service).await?;
    let clients = [service.tenant(&key)?, second.tenant(&key)?];
    contest(&mut service, &clients).await
}
