//! Copies of a projection's tables: made like the tables of the migrations, filled, given their indexes, dropped.

use super::Session;
use crate::sql::{Statement, Value};
use crate::table::{Column, Growth, Table};

/// What the names of a generation's tables end in.
pub(crate) fn suffix(generation: i64) -> String {
    if generation == 0 {
        String::new()
    } else {
        format!("_g{generation}")
    }
}

/// The name of a table in a generation.
fn name(table: &Table, generation: i64) -> String {
    format!("{}{}", table.name, suffix(generation))
}

/// Makes an empty table of a generation where it is missing, without the indexes that only queries need.
pub(crate) async fn make(session: &mut Session, table: &Table, generation: i64) -> Result<(), sqlx::Error> {
    if generation == 0 {
        return Ok(());
    }
    let copy = name(table, generation);
    if let Session::Postgres(_) = session {
        let keyed = i64::from(table.growth != Growth::Added);
        let make = Statement::new("SELECT tidings_copy_make($1, $2, $3 = 1)").with(table.name);
        session.execute(make.with(copy).with(keyed)).await?;
        return Ok(());
    }
    for sql in definitions(session, "table", table).await? {
        let sql =
            sql.replacen(table.name, &copy, 1)
                .replacen("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1);
        session.execute(Statement::new(sql)).await?;
    }
    Ok(())
}

/// Whether rows can be copied into a generation's table: PostgreSQL refuses it once the table is protected.
pub(crate) async fn takes_copies(
    session: &mut Session,
    table: &Table,
    generation: i64,
) -> Result<bool, sqlx::Error> {
    if let Session::Sqlite(_) = session {
        return Ok(false);
    }
    let select = Statement::new(
        "SELECT (CASE WHEN relrowsecurity THEN 1 ELSE 0 END)::bigint AS closed FROM pg_catalog.pg_class
         WHERE oid = to_regclass($1)",
    );
    let rows = session
        .rows(select.with(name(table, generation)), &[Column::int("closed")])
        .await?;
    let closed = rows.first().and_then(|row| row.first()).and_then(Value::as_int);
    Ok(closed == Some(0))
}

/// Makes a generation's table ready for queries: indexes, statistics, and isolation of tenants.
pub(crate) async fn finish(session: &mut Session, table: &Table, generation: i64) -> Result<(), sqlx::Error> {
    if generation == 0 {
        return Ok(());
    }
    let copy = name(table, generation);
    if let Session::Postgres(_) = session {
        let finish = Statement::new("SELECT tidings_copy_finish($1, $2)");
        session.execute(finish.with(table.name).with(copy)).await?;
        return Ok(());
    }
    for sql in definitions(session, "index", table).await? {
        let sql = renamed(&sql, table.name, &copy);
        session.execute(Statement::new(sql)).await?;
    }
    Ok(())
}

/// Drops a generation's table; of generation 0, which others are made like, only the rows.
pub(crate) async fn drop(session: &mut Session, table: &Table, generation: i64) -> Result<(), sqlx::Error> {
    let copy = name(table, generation);
    let statement = match (&session, generation) {
        (Session::Postgres(_), _) => Statement::new("SELECT tidings_copy_drop($1, $2)")
            .with(table.name)
            .with(copy),
        (Session::Sqlite(_), 0) => Statement::new(format!("DELETE FROM {copy}")),
        (Session::Sqlite(_), _) => Statement::new(format!("DROP TABLE IF EXISTS {copy}")),
    };
    session.execute(statement).await?;
    Ok(())
}

/// How SQLite would make the table, or its indexes.
async fn definitions(session: &mut Session, kind: &str, table: &Table) -> Result<Vec<String>, sqlx::Error> {
    let select =
        Statement::new("SELECT sql FROM sqlite_master WHERE type = $1 AND tbl_name = $2 AND sql IS NOT NULL")
            .with(kind)
            .with(table.name);
    let rows = session.rows(select, &[Column::text("sql")]).await?;
    let text = |row: &Vec<Value>| row.first().and_then(Value::as_text).map(str::to_owned);
    Ok(rows.iter().filter_map(text).collect())
}

/// `CREATE [UNIQUE] INDEX <name> ON <table> …` for the copy.
fn renamed(sql: &str, base: &str, copy: &str) -> String {
    let Some((head, rest)) = sql.split_once(" ON ") else {
        return sql.to_owned();
    };
    let (create, index) = head.rsplit_once(' ').unwrap_or(("CREATE INDEX", head));
    let index = match index.strip_prefix(base) {
        Some(of) => format!("{copy}{of}"),
        None => format!("{copy}_{index}"),
    };
    let rest = rest.strip_prefix(base).unwrap_or(rest);
    format!("{create} IF NOT EXISTS {index} ON {copy}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_made_for_the_copy() {
        assert_eq!(
            renamed(
                "CREATE INDEX audit_by_actor ON audit (tenant, actor) WHERE a = 'on'",
                "audit",
                "audit_g2"
            ),
            "CREATE INDEX IF NOT EXISTS audit_g2_by_actor ON audit_g2 (tenant, actor) WHERE a = 'on'"
        );
        assert_eq!(
            renamed("CREATE UNIQUE INDEX by_x ON users (x)", "users", "users_g1"),
            "CREATE UNIQUE INDEX IF NOT EXISTS users_g1_by_x ON users_g1 (x)"
        );
        assert_eq!(suffix(0), "");
    }
}
