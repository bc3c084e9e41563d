//! Many rows at once on SQLite: statements of many rows, in few sizes.

use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite, Transaction};

use crate::engine::session::{on_conflict, read};
use crate::rows::Changes;
use crate::sql::Value;
use crate::table::{Key, Row, Table};

type Query = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

/// Rows per statement: few sizes, so that few statements are prepared; none needs more parameters than SQLite takes
/// (32,766) with the columns our tables have.
const CHUNKS: [usize; 3] = [256, 32, 1];

/// The rows under these keys.
pub(in crate::engine) async fn find(
    transaction: &mut Transaction<'static, Sqlite>,
    table: &Table,
    suffix: &str,
    keys: &[Key],
) -> Result<Vec<Row>, sqlx::Error> {
    let columns: Vec<_> = table.names().collect();
    let head = format!(
        "SELECT {} FROM {}{suffix} WHERE ({}) IN (VALUES ",
        columns.join(", "),
        table.name,
        key(table)
    );
    let mut found = Vec::new();
    for keys in chunks(keys) {
        let rows = on_rows(&head, keys, ")").fetch_all(&mut **transaction).await?;
        for row in &rows {
            found.push(read(row, table.columns)?);
        }
    }
    Ok(found)
}

/// Writes what a batch makes of a table.
pub(in crate::engine) async fn write(
    transaction: &mut Transaction<'static, Sqlite>,
    changes: &Changes,
    suffix: &str,
) -> Result<(), sqlx::Error> {
    let table = changes.table;
    let name = format!("{}{suffix}", table.name);
    let head = format!("DELETE FROM {name} WHERE ({}) IN (VALUES ", key(table));
    many(transaction, &head, &changes.removed, ")").await?;
    let columns: Vec<_> = table.names().collect();
    let head = format!("INSERT INTO {name} ({}) VALUES ", columns.join(", "));
    let tail = on_conflict(table, &name);
    many(transaction, &head, &changes.new, &tail).await?;
    many(transaction, &head, &changes.put, &tail).await?;
    many(transaction, &head, &changes.added, &tail).await
}

async fn many(
    transaction: &mut Transaction<'static, Sqlite>,
    head: &str,
    rows: &[Vec<Value>],
    tail: &str,
) -> Result<(), sqlx::Error> {
    for rows in chunks(rows) {
        on_rows(head, rows, tail).execute(&mut **transaction).await?;
    }
    Ok(())
}

/// A statement with `(…), (…)` in its middle: a placeholder for each value of each row.
///
/// The placeholders are plain `?`. Those with names or numbers SQLite keeps in a list, which the driver has it go
/// through for each value: that took more than half of a replay.
fn on_rows(head: &str, rows: &[Vec<Value>], tail: &str) -> Query {
    let mut sql = head.to_owned();
    for (number, row) in rows.iter().enumerate() {
        sql.push_str(if number == 0 { "(" } else { ", (" });
        let places: Vec<_> = row.iter().map(|_| "?").collect();
        sql.push_str(&places.join(", "));
        sql.push(')');
    }
    sql.push_str(tail);
    let values = rows.iter().flatten().cloned();
    values.fold(sqlx::query(AssertSqlSafe(sql)), |query, value| match value {
        Value::Text(text) => query.bind(text),
        Value::Int(number) => query.bind(number),
        Value::Bytes(bytes) => query.bind(bytes),
    })
}

fn key(table: &Table) -> String {
    let key: Vec<_> = table.key_columns().iter().map(|column| column.name).collect();
    key.join(", ")
}

fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = CHUNKS.into_iter().find(|size| *size <= rows.len())?;
        let (chunk, rest) = rows.split_at(size);
        rows = rest;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_into_few_sizes_and_none_is_lost() {
        let rows: Vec<u16> = (0..600).collect();
        let cut: Vec<&[u16]> = chunks(&rows).collect();
        assert!(cut.iter().all(|chunk| CHUNKS.contains(&chunk.len())));
        assert_eq!(cut.concat(), rows);
        assert_eq!(chunks::<u8>(&[]).count(), 0);
    }
}
