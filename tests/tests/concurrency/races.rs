//! Hundreds of commands on one user at once.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use reqwest::Method;
use serde_json::json;
use tests::http::{Api, Reply};
use tests::service::{Engine, Tidings};

use crate::history::History;

/// How many commands race.
const COMMANDS: usize = 300;

/// What was asked for, by the name that only this command gives, and the answer.
type Answers = BTreeMap<String, Reply>;

/// A tenant's key.
pub(crate) async fn tenant(service: &Tidings) -> anyhow::Result<String> {
    let body = json!({ "name": "Acme", "slug": "acme" });
    let made = service.admin()?.post("/v1/tenants", &body).await?.expect(201)?;
    Ok(made["api_key"].as_str().context("api_key")?.to_owned())
}

/// Registers a user and answers its id.
pub(crate) async fn register(api: &Api, email: &str) -> anyhow::Result<String> {
    let body = json!({ "email": email, "name": "Ada" });
    let user = api.post("/v1/users", &body).await?.expect(201)?;
    Ok(user["id"].as_str().context("id")?.to_owned())
}

/// Renames one user from all clients at once; every fourth command also asks for an address that is taken and must
/// be refused as a whole.
async fn race(clients: &[Api], user: &str, taken: &str) -> anyhow::Result<Answers> {
    let path = format!("/v1/users/{user}");
    let commands = (0..COMMANDS).map(|number| {
        let (client, path) = (&clients[number % clients.len()], &path);
        async move {
            let name = format!("Name {number}");
            let mut body = json!({ "name": name });
            if number % 4 == 3 {
                body["email"] = taken.into();
            }
            let reply = client.call(Method::PATCH, path, Some(&body), &[]).await?;
            anyhow::Ok((name, reply))
        }
    });
    Ok(try_join_all(commands).await?.into_iter().collect())
}

/// Each success stands in the log once, where its answer says; nothing else does.
fn check(history: &History, user: &str, answers: &Answers) -> anyhow::Result<usize> {
    let mut accepted = BTreeSet::new();
    for (name, reply) in answers {
        match reply.status {
            204 => {
                let commit = history.at(reply)?;
                let [event] = commit.events.as_slice() else {
                    anyhow::bail!("{name}: {commit:?}");
                };
                ensure!(
                    commit.id == user && event.data["to"] == **name,
                    "{name}: {commit:?}"
                );
                accepted.insert(name.as_str());
            }
            409 => ensure!(["conflict", "email_taken"].contains(&reply.problem(409)?.as_str())),
            other => anyhow::bail!("{name} was answered {other}: {:?}", reply.body),
        }
    }
    let mut current = "Ada".to_owned();
    let mut there = Vec::new();
    for (_, event) in history.events("user.renamed").filter(|(id, _)| *id == user) {
        // Decided on what the one before had left, not on something older.
        ensure!(event.data["from"] == *current, "{event:?} follows {current}");
        event.data["to"].as_str().context("to")?.clone_into(&mut current);
        there.push(current.clone());
    }
    let distinct: BTreeSet<&str> = there.iter().map(String::as_str).collect();
    ensure!(distinct.len() == there.len(), "an event is there twice");
    ensure!(
        distinct == accepted,
        "answered, or stored, but not both: {:?}",
        distinct.symmetric_difference(&accepted).collect::<Vec<_>>()
    );
    Ok(accepted.len())
}

async fn shown(api: &Api, user: &str, answers: &Answers) -> anyhow::Result<String> {
    let positions = answers.values().filter_map(|reply| {
        let position = reply.header("tidings-position").parse::<domain::Position>();
        position.ok()
    });
    let last = positions.max().context("a success")?.to_string();
    let headers = [("tidings-at-least", last.as_str())];
    let path = format!("/v1/users/{user}");
    let user = api.call(Method::GET, &path, None, &headers).await?.expect(200)?;
    Ok(user["name"].as_str().context("name")?.to_owned())
}

fn last_name<'a>(history: &'a History, user: &str) -> Option<&'a str> {
    let renamed = history.events("user.renamed").filter(|(id, _)| *id == user);
    renamed.last().and_then(|(_, event)| event.data["to"].as_str())
}

tests::for_each_engine! {
    /// Commands of one process take turns: none is lost, and none is refused for another's sake.
    async fn racing_commands_in_one_process_all_happen_once(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let api = service.tenant(&tenant(&service).await?)?;
        let user = register(&api, "ada@example.org").await?;
        register(&api, "taken@example.org").await?;
        let answers = race(std::slice::from_ref(&api), &user, "taken@example.org").await?;
        let name = shown(&api, &user, &answers).await?;
        service.terminate().await?;
        let history = History::check(&service.events().await?)?;
        ensure!(check(&history, &user, &answers)? == COMMANDS / 4 * 3, "a command was refused without need");
        ensure!(last_name(&history, &user) == Some(name.as_str()), "the read model shows {name}");
        Ok(())
    }
}

/// Two processes see each other only through the log; what one decided on old knowledge is decided again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_commands_in_two_processes_happen_once_or_are_refused() -> anyhow::Result<()> {
    let mut service = Tidings::start(Engine::Cluster).await?;
    let second = service.beside().await?;
    let key = tenant(&service).await?;
    let clients = [service.tenant(&key)?, second.tenant(&key)?];
    let user = register(&clients[0], "ada@example.org").await?;
    register(&clients[1], "taken@example.org").await?;
    let answers = race(&clients, &user, "taken@example.org").await?;
    let names = [
        shown(&clients[0], &user, &answers).await?,
        shown(&clients[1], &user, &answers).await?,
    ];
    let history = History::check(&service.events().await?)?;
    // How many get through depends on how the two interleave; that the others are told so does not.
    ensure!(check(&history, &user, &answers)? > 0, "nobody got through");
    let last = last_name(&history, &user);
    ensure!(
        names.iter().all(|name| Some(name.as_str()) == last),
        "{names:?} are shown"
    );
    Ok(())
}
