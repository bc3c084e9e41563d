//! The harness itself: what it starts works, survives what it should, and does not share what it should not.

use sqlx::{Connection, Executor, PgConnection, Row};
use tests::postgres::{self, Postgres};

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
