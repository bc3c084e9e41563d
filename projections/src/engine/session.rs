//! A transaction of a fold, on either engine.

use futures::TryStreamExt;
use sqlx::{Postgres, Sqlite, Transaction};

use super::{postgres, sqlite};
use crate::rows::Changes;
use crate::sql::{Statement, Value};
use crate::table::{Column, Key, Row, Table};

/// A transaction; dropped, it is rolled back.
#[derive(Debug)]
pub(crate) enum Session {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
}

impl Session {
    /// Runs a statement and answers how many rows it changed.
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Self::Postgres(transaction) => statement
                .bound::<Postgres>()
                .execute(&mut **transaction)
                .await?
                .rows_affected(),
            Self::Sqlite(transaction) => statement
                .bound::<Sqlite>()
                .execute(&mut **transaction)
                .await?
                .rows_affected(),
        })
    }

    /// Runs a statement and answers its rows, which have these columns first.
    pub(crate) async fn rows(
        &mut self,
        statement: Statement,
        columns: &[Column],
    ) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Postgres(transaction) => {
                let rows = statement
                    .bound::<Postgres>()
                    .fetch_all(&mut **transaction)
                    .await?;
                rows.iter().map(|row| read(row, columns)).collect()
            }
            Self::Sqlite(transaction) => {
                let rows = statement.bound::<Sqlite>().fetch_all(&mut **transaction).await?;
                rows.iter().map(|row| read(row, columns)).collect()
            }
        }
    }

    /// The rows under these keys; keys without a row are passed over.
    pub(crate) async fn find(
        &mut self,
        table: &Table,
        suffix: &str,
        keys: &[Key],
    ) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Postgres(transaction) => postgres::bulk::find(transaction, table, suffix, keys).await,
            Self::Sqlite(transaction) => sqlite::bulk::find(transaction, table, suffix, keys).await,
        }
    }

    /// The rows whose key begins so.
    pub(crate) async fn under(
        &mut self,
        table: &Table,
        suffix: &str,
        prefix: &[Value],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let columns: Vec<_> = table.names().collect();
        let mut select = Statement::new(format!(
            "SELECT {} FROM {}{suffix}",
            columns.join(", "),
            table.name
        ));
        let named = table.names().zip(prefix);
        for (number, (column, value)) in named.enumerate() {
            select.push(if number == 0 { " WHERE " } else { " AND " });
            select.push(column).push(" = ").bind(value.clone());
        }
        self.rows(select, table.columns).await
    }

    /// Hands over each row of a table, one after the other; one tenant's, or all.
    pub(crate) async fn each(
        &mut self,
        table: &Table,
        suffix: &str,
        tenant: Option<&str>,
        mut take: impl FnMut(Row),
    ) -> Result<(), sqlx::Error> {
        let columns: Vec<_> = table.names().collect();
        let mut select = Statement::new(format!(
            "SELECT {} FROM {}{suffix}",
            columns.join(", "),
            table.name
        ));
        if let Some(tenant) = tenant {
            select.push(" WHERE tenant = ").bind(tenant);
        }
        match self {
            Self::Postgres(transaction) => {
                let mut rows = select.bound::<Postgres>().fetch(&mut **transaction);
                while let Some(row) = rows.try_next().await? {
                    take(read(&row, table.columns)?);
                }
            }
            Self::Sqlite(transaction) => {
                let mut rows = select.bound::<Sqlite>().fetch(&mut **transaction);
                while let Some(row) = rows.try_next().await? {
                    take(read(&row, table.columns)?);
                }
            }
        }
        Ok(())
    }

    /// Writes what a batch makes of a table. `fresh`: the table is being built and nobody reads it, so that rows can
    /// be copied into it.
    pub(crate) async fn write(
        &mut self,
        changes: &Changes,
        suffix: &str,
        fresh: bool,
    ) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(transaction) => postgres::bulk::write(transaction, changes, suffix, fresh).await,
            Self::Sqlite(transaction) => sqlite::bulk::write(transaction, changes, suffix).await,
        }
    }

    /// Makes it last.
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(transaction) => transaction.commit().await,
            Self::Sqlite(transaction) => transaction.commit().await,
        }
    }
}

/// A row's first columns, as values.
pub(super) fn read<'r, R: sqlx::Row>(row: &'r R, columns: &[Column]) -> Result<Row, sqlx::Error>
where
    usize: sqlx::ColumnIndex<R>,
    Option<String>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Option<i64>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Option<Vec<u8>>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    use crate::table::Type;
    let values = columns.iter().enumerate().map(|(place, column)| {
        Ok(match column.holds {
            Type::Text => Value::Text(row.try_get(place)?),
            Type::Int => Value::Int(row.try_get(place)?),
            Type::Bytes => Value::Bytes(row.try_get(place)?),
        })
    });
    values.collect()
}

/// The clause that says what becomes of a row whose key is there already; empty where that cannot be.
pub(super) fn on_conflict(table: &Table, name: &str) -> String {
    use crate::table::Growth;
    let key: Vec<_> = table.key_columns().iter().map(|column| column.name).collect();
    let target = key.join(", ");
    let set = |sql: fn(&str, &str) -> String| {
        let columns: Vec<_> = table
            .value_columns()
            .iter()
            .map(|column| sql(name, column.name))
            .collect();
        format!(" ON CONFLICT ({target}) DO UPDATE SET {}", columns.join(", "))
    };
    match table.growth {
        Growth::Added => String::new(),
        Growth::First => format!(" ON CONFLICT ({target}) DO NOTHING"),
        Growth::Kept if table.value_columns().is_empty() => format!(" ON CONFLICT ({target}) DO NOTHING"),
        Growth::Kept => set(|_, column| format!("{column} = excluded.{column}")),
        Growth::Summed => set(|name, column| format!("{column} = {name}.{column} + excluded.{column}")),
    }
}
