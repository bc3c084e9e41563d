//! What PostgreSQL's roles may do, on the real server, as `deploy/postgres/init.sh` makes them.

use sqlx::{Connection, Executor, PgConnection, Row};
use tests::postgres;

#[tokio::test]
async fn no_serving_role_is_owner_or_above_row_level_security() -> anyhow::Result<()> {
    let database = postgres::database().await?;
    let mut superuser = PgConnection::connect(&database.url).await?;
    let roles = superuser
        .fetch_all(
            "SELECT rolname::text AS name, \
                    rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls AS above, \
                    rolname = (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()) \
                      AS owner, \
                    (SELECT string_agg(roleid::regrole::text, ' ') FROM pg_auth_members WHERE member = pg_roles.oid) \
                      AS member_of \
             FROM pg_roles WHERE rolname LIKE 'tidings%' ORDER BY 1",
        )
        .await?;
    let roles: Vec<(String, bool, bool, Option<String>)> = roles
        .iter()
        .map(|row| {
            (
                row.get("name"),
                row.get("above"),
                row.get("owner"),
                row.get("member_of"),
            )
        })
        .collect();
    let plain = |name: &str, owner| (name.to_owned(), false, owner, None);
    let projector = (
        "tidings_projector".to_owned(),
        false,
        false,
        Some("tidings_query".to_owned()),
    );
    assert_eq!(
        roles,
        [
            plain("tidings_owner", true),
            projector,
            plain("tidings_query", false)
        ]
    );
    Ok(())
}

#[tokio::test]
async fn each_role_has_its_rights_on_what_the_owner_makes() -> anyhow::Result<()> {
    let database = postgres::database().await?;
    let mut owner = PgConnection::connect(&database.owner_url).await?;
    let mut projector = PgConnection::connect(&database.projector_url).await?;
    let mut query = PgConnection::connect(&database.query_url).await?;
    owner
        .execute("CREATE TABLE users (id BIGINT PRIMARY KEY)")
        .await?;
    projector.execute("INSERT INTO users VALUES (1)").await?;
    assert_eq!(query.fetch_all("SELECT id FROM users").await?.len(), 1);
    for forbidden in [
        "INSERT INTO users VALUES (2)",
        "DELETE FROM users",
        "TRUNCATE users",
        "CREATE TABLE t ()",
    ] {
        assert!(
            query.execute(forbidden).await.is_err(),
            "tidings_query may {forbidden}"
        );
    }
    for forbidden in [
        "DROP TABLE users",
        "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE t ()",
    ] {
        assert!(
            projector.execute(forbidden).await.is_err(),
            "tidings_projector may {forbidden}"
        );
    }
    let wrong = database.query_url.replace(postgres::PASSWORD, "another");
    assert!(
        PgConnection::connect(&wrong).await.is_err(),
        "passwords are asked for"
    );
    Ok(())
}
