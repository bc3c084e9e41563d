//! The harness itself: what it starts works, survives what it should, and does not share what it should not.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use sqlx::{Connection, Executor, PgConnection, Row};
use tests::postgres::{self, Postgres};
use tests::tools::{Folder, Program};

/// Set in the process that is to be killed: where it says what it has started.
const VICTIM_FILE: &str = "HARNESS_VICTIM_FILE";

#[tokio::test]
async fn postgres_keeps_what_was_committed_when_it_is_killed() -> anyhow::Result<()> {
    let mut server = Postgres::start().await?;
    let database = server.create_database("kept").await?;
    let mut connection = PgConnection::connect(&database.owner_url).await?;
    connection
        .execute("CREATE TABLE tidings (id BIGINT PRIMARY KEY)")
        .await?;
    connection.execute("INSERT INTO tidings VALUES (7)").await?;
    let fsync: String = connection.fetch_one("SHOW fsync").await?.get(0);
    assert_eq!(fsync, "on");

    server.kill().await?;
    assert!(
        PgConnection::connect(&database.owner_url).await.is_err(),
        "it still answers"
    );
    server.restart().await?;
    let mut connection = PgConnection::connect(&database.projector_url).await?;
    let id: i64 = connection.fetch_one("SELECT id FROM tidings").await?.get(0);
    assert_eq!(id, 7);
    Ok(())
}

#[tokio::test]
async fn every_test_has_a_database_of_its_own() -> anyhow::Result<()> {
    let (first, second) = tokio::try_join!(postgres::database(), postgres::database())?;
    assert_ne!(first.url, second.url);
    PgConnection::connect(&first.owner_url)
        .await?
        .execute("CREATE TABLE mine (id BIGINT)")
        .await?;
    let mut other = PgConnection::connect(&second.owner_url).await?;
    assert!(other.execute("SELECT id FROM mine").await.is_err());
    Ok(())
}

/// Runs itself once more, as the process that is killed.
#[tokio::test]
async fn what_a_killed_test_process_has_started_ends_with_it() -> anyhow::Result<()> {
    if let Some(file) = std::env::var_os(VICTIM_FILE) {
        return start_and_wait(Path::new(&file)).await;
    }
    let folder = Folder::new()?;
    let file = folder.path().join("started");
    let mut test = Program::new(&std::env::current_exe()?, &folder.path().join("log"), "KILL");
    test.command()
        .args([
            "--exact",
            "what_a_killed_test_process_has_started_ends_with_it",
            "--nocapture",
        ])
        .env(VICTIM_FILE, &file);
    let mut test = test.start()?;
    let within = Duration::from_secs(20);
    let started = test.until(within, async || {
        std::fs::read_to_string(&file)
            .ok()
            .filter(|text| text.ends_with('\n'))
    });
    let started = started.await?;
    let (pid, its_folder) = started.trim().split_once(' ').context("what the victim says")?;
    assert!(is_alive(pid) && Path::new(its_folder).is_dir());

    test.kill().await?;
    let swept = async || {
        while is_alive(pid) || Path::new(its_folder).exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(within, swept()).await.context("it goes on")
}

/// Starts a program in a folder, says so in a file, and waits to be killed.
async fn start_and_wait(file: &Path) -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let mut program = Program::new(Path::new("sleep"), &folder.path().join("log"), "KILL");
    program.command().arg("1000");
    let mut running = program.start()?;
    std::fs::write(file, format!("{} {}\n", running.pid(), folder.path().display()))?;
    running.ended(Duration::from_secs(1000)).await?;
    Ok(())
}

fn is_alive(pid: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("kill -0 {pid} 2>/dev/null")])
        .status()
        .is_ok_and(|s| s.success())
}
