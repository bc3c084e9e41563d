//! Databases for a short while: an installation that shows or tries something keeps its read models in one of its
//! own and removes it afterwards.

use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};

use crate::OpenError;

/// Makes an empty database on a PostgreSQL server and answers its URL: the given one with this name.
///
/// The login needs the right to create databases. `name` is 1 to 63 of `a-z 0-9 _`, as PostgreSQL's own names.
pub async fn create_database(url: &str, name: &str) -> Result<String, OpenError> {
    let created = on_server(url, name, "CREATE DATABASE").await;
    created.and_then(|()| with_name(url, name))
}

/// Removes such a database with all it holds, whoever is connected.
pub async fn drop_database(url: &str, name: &str) -> Result<(), OpenError> {
    on_server(url, &format!("{name} WITH (FORCE)"), "DROP DATABASE IF EXISTS").await
}

async fn on_server(url: &str, what: &str, statement: &str) -> Result<(), OpenError> {
    sqlx::any::install_default_drivers();
    let word = what.split(' ').next().unwrap_or_default();
    if word.is_empty()
        || !word
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    {
        return Err(OpenError::unfit(
            word,
            "a database's name is made of a-z, 0-9 and _".to_owned(),
        ));
    }
    let address = address(url)?;
    let options: AnyConnectOptions = url
        .parse()
        .map_err(|error| OpenError::unreachable(&address, error))?;
    let connecting = AnyConnection::connect_with(&options).await;
    let mut connection = connecting.map_err(|error| OpenError::unreachable(&address, error))?;
    // Names cannot be bound; this one was checked above.
    let run = sqlx::query(AssertSqlSafe(format!("{statement} {what}")))
        .execute(&mut connection)
        .await;
    run.map_err(|error| OpenError::unfit(&address, format!("{statement} {word} is refused: {error}")))?;
    connection
        .close()
        .await
        .map_err(|error| OpenError::unreachable(&address, error))
}

fn with_name(url: &str, name: &str) -> Result<String, OpenError> {
    let mut url = parse(url)?;
    url.set_path(name);
    Ok(url.into())
}

/// The URL without user, password and parameters.
fn address(url: &str) -> Result<String, OpenError> {
    let url = parse(url)?;
    let (host, port) = (url.host_str().unwrap_or_default(), url.port().unwrap_or(5432));
    Ok(format!("{}://{host}:{port}{}", url.scheme(), url.path()))
}

fn parse(url: &str) -> Result<url::Url, OpenError> {
    match url::Url::parse(url) {
        Ok(url) if matches!(url.scheme(), "postgres" | "postgresql") => Ok(url),
        _ => Err(OpenError::unfit(
            "the database URL",
            "write it as postgres://user@host/database".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_changes() {
        let url = with_name(
            "postgres://ada:pw@127.0.0.1:5433/postgres?sslmode=disable",
            "scratch",
        )
        .unwrap();
        assert_eq!(url, "postgres://ada:pw@127.0.0.1:5433/scratch?sslmode=disable");
        assert!(with_name("mysql://127.0.0.1/x", "scratch").is_err());
    }

    #[tokio::test]
    async fn a_name_is_never_a_statement() {
        let refused = create_database("postgres://127.0.0.1:1/x", "a;drop").await;
        assert!(matches!(refused, Err(OpenError::Unfit { .. })), "{refused:?}");
    }
}
