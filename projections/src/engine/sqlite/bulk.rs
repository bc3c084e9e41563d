//! Many rows at once on SQLite: statements of many rows, in few sizes.

use sqlx::{Sqlite, Transaction};

use crate::engine::session::{on_conflict, read};
use crate::rows::Changes;
use crate::sql::{Statement, Value};
use crate::table::{Key, Row, Table};

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
        let mut select = Statement::new(head.clone());
        select.bind_rows(keys.iter().cloned()).push(")");
        let rows = select.bound::<Sqlite>().fetch_all(&mut **transaction).await?;
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
        let mut statement = Statement::new(head);
        statement.bind_rows(rows.iter().cloned()).push(tail);
        statement.bound::<Sqlite>().execute(&mut **transaction).await?;
    }
    Ok(())
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
