//! Many rows at once on PostgreSQL: arrays as parameters, and COPY into tables that are being built.

use sqlx::{AssertSqlSafe, Postgres, Transaction};

use crate::engine::session::{on_conflict, read};
use crate::rows::Changes;
use crate::sql::Value;
use crate::table::{Column, Growth, Key, Row, Table, Type};

type Query = sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments>;

/// How many rows go into one statement: enough that its cost is shared, few enough for the server's memory.
const AT_ONCE: usize = 5_000;

/// How much is gathered before it is sent, in bytes.
const COPY_PART: usize = 256 * 1024;
/// Fewer bytes than this are inserted instead. The driver leaves Nagle's algorithm on (sqlx 0.9.0, issue 4335): the end of
/// a COPY waits until the server has acknowledged the bytes before, and of so few it takes its 40 ms for that.
const COPY_LEAST: usize = 128 * 1024;

/// The rows under these keys.
pub(in crate::engine) async fn find(
    transaction: &mut Transaction<'static, Postgres>,
    table: &Table,
    suffix: &str,
    keys: &[Key],
) -> Result<Vec<Row>, sqlx::Error> {
    let columns: Vec<_> = table.names().map(|name| format!("t.{name}")).collect();
    let sql = format!(
        "SELECT {} FROM {}{suffix} t JOIN {}",
        columns.join(", "),
        table.name,
        wanted(table)
    );
    let mut found = Vec::new();
    for keys in keys.chunks(AT_ONCE) {
        let query = sqlx::query(AssertSqlSafe(sql.clone()));
        let rows = arrays(query, table.key_columns(), keys)
            .fetch_all(&mut **transaction)
            .await?;
        for row in &rows {
            found.push(read(row, table.columns)?);
        }
    }
    Ok(found)
}

/// Writes what a batch makes of a table.
pub(in crate::engine) async fn write(
    transaction: &mut Transaction<'static, Postgres>,
    changes: &Changes,
    suffix: &str,
    fresh: bool,
) -> Result<(), sqlx::Error> {
    let table = changes.table;
    let name = format!("{}{suffix}", table.name);
    for keys in changes.removed.chunks(AT_ONCE) {
        let sql = format!(
            "DELETE FROM {name} t USING {}",
            wanted(table).replace(" ON ", " WHERE ")
        );
        let query = sqlx::query(AssertSqlSafe(sql));
        arrays(query, table.key_columns(), keys)
            .execute(&mut **transaction)
            .await?;
    }
    insert(transaction, table, &name, &changes.put).await?;
    let (copied, inserted) = match (fresh, table.growth) {
        (false, _) => (&[][..], [&changes.new[..], &changes.added]),
        (true, Growth::Added) => (&changes.added[..], [&changes.new[..], &[]]),
        (true, _) => (&changes.new[..], [&[][..], &changes.added]),
    };
    if bytes(copied) < COPY_LEAST {
        insert(transaction, table, &name, copied).await?;
    } else {
        copy(transaction, table, &name, copied).await?;
    }
    for rows in inserted {
        insert(transaction, table, &name, rows).await?;
    }
    Ok(())
}

/// How much the values of rows take.
fn bytes(rows: &[Row]) -> usize {
    let values = rows.iter().flatten().map(|value| match value {
        Value::Text(text) => text.as_ref().map_or(0, String::len),
        Value::Int(_) => size_of::<i64>(),
        Value::Bytes(bytes) => bytes.as_ref().map_or(0, Vec::len),
    });
    values.sum()
}

async fn insert(
    transaction: &mut Transaction<'static, Postgres>,
    table: &Table,
    name: &str,
    rows: &[Row],
) -> Result<(), sqlx::Error> {
    let columns: Vec<_> = table.names().collect();
    let sql = format!(
        "INSERT INTO {name} ({}) SELECT * FROM {}{}",
        columns.join(", "),
        unnest(table.columns),
        on_conflict(table, name)
    );
    for rows in rows.chunks(AT_ONCE) {
        let query = sqlx::query(AssertSqlSafe(sql.clone()));
        arrays(query, table.columns, rows)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

/// `unnest($1::text[], …) AS k (…) ON t.… = k.…`: the rows wanted, to be joined.
fn wanted(table: &Table) -> String {
    let key: Vec<_> = table.key_columns().iter().map(|column| column.name).collect();
    let same: Vec<_> = key.iter().map(|name| format!("t.{name} = k.{name}")).collect();
    format!(
        "{} AS k ({}) ON {}",
        unnest(table.key_columns()),
        key.join(", "),
        same.join(" AND ")
    )
}

fn unnest(columns: &[Column]) -> String {
    let arrays = columns.iter().enumerate().map(|(place, column)| {
        let holds = match column.holds {
            Type::Text => "text",
            Type::Int => "bigint",
            Type::Bytes => "bytea",
        };
        format!("${}::{holds}[]", place + 1)
    });
    format!("unnest({})", arrays.collect::<Vec<_>>().join(", "))
}

/// Binds each column's values as one array.
fn arrays(query: Query, columns: &[Column], rows: &[Row]) -> Query {
    let columns = columns.iter().enumerate();
    columns.fold(query, |query, (place, column)| {
        let values = rows.iter().map(|row| row.get(place));
        match column.holds {
            Type::Text => {
                let texts: Vec<Option<String>> = values
                    .map(|value| value.and_then(Value::as_text).map(str::to_owned))
                    .collect();
                query.bind(texts)
            }
            Type::Int => query.bind(
                values
                    .map(|value| value.and_then(Value::as_int))
                    .collect::<Vec<_>>(),
            ),
            Type::Bytes => {
                let bytes: Vec<Option<Vec<u8>>> = values
                    .map(|value| value.and_then(Value::as_bytes).map(<[u8]>::to_vec))
                    .collect();
                query.bind(bytes)
            }
        }
    })
}

/// COPY in the binary form: a signature, flags and no extension, then for each row the number of its fields and each
/// field after its length (<https://www.postgresql.org/docs/15/sql-copy.html>, "Binary Format").
async fn copy(
    transaction: &mut Transaction<'static, Postgres>,
    table: &Table,
    name: &str,
    rows: &[Row],
) -> Result<(), sqlx::Error> {
    let columns: Vec<_> = table.names().collect();
    let sql = format!("COPY {name} ({}) FROM STDIN (FORMAT binary)", columns.join(", "));
    let mut copying = transaction.copy_in_raw(&sql).await?;
    let mut part = Vec::with_capacity(COPY_PART + 4_096);
    part.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for row in rows {
        encode(row, &mut part);
        if part.len() >= COPY_PART {
            copying.send(part.as_slice()).await?;
            part.clear();
        }
    }
    part.extend_from_slice(&(-1_i16).to_be_bytes());
    copying.send(part.as_slice()).await?;
    copying.finish().await?;
    Ok(())
}

fn encode(row: &Row, into: &mut Vec<u8>) {
    let fields = i16::try_from(row.len()).unwrap_or(i16::MAX);
    into.extend_from_slice(&fields.to_be_bytes());
    for value in row {
        match value {
            Value::Text(Some(text)) => field(text.as_bytes(), into),
            Value::Int(Some(number)) => field(&number.to_be_bytes(), into),
            Value::Bytes(Some(bytes)) => field(bytes, into),
            Value::Text(None) | Value::Int(None) | Value::Bytes(None) => {
                into.extend_from_slice(&(-1_i32).to_be_bytes());
            }
        }
    }
}

fn field(bytes: &[u8], into: &mut Vec<u8>) {
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(bytes);
}
