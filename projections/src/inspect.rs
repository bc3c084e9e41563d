//! Looking into copies that stand at a past position: the rows of one table, as they were then.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::TenantId;
use serde_json::{Map, Value as Json};

use crate::engine::copies;
use crate::generations::{self, Standing};
use crate::models;
use crate::projection::Projection;
use crate::sql::{Statement, Value};
use crate::table::{Row, Table};
use crate::{Answer, Listing, Page, QueryError, ReadModels};

/// A row of a copy: its columns by name; bytes are in base 64 (RFC 4648).
pub type CopiedRow = Map<String, Json>;

/// Names a list of rows in its cursors.
const LIST: &str = "copied_rows";

impl ReadModels {
    /// Which projection keeps a table.
    pub fn projection_of(&self, table: &str) -> Option<&'static str> {
        let keeps =
            |projection: &Arc<dyn Projection>| projection.tables().iter().any(|kept| kept.name == table);
        models::all().into_iter().find(keeps).map(|known| known.name())
    }

    /// One tenant's rows of a table in a copy for inspection, in the order of their keys; none where there is no such
    /// copy. Tables of the platform itself have rows of no tenant in particular, and are answered whole.
    pub async fn copied_rows(
        &self,
        table: &str,
        generation: i64,
        tenant: &TenantId,
        page: &Page,
    ) -> Result<Option<Answer<Listing<CopiedRow>>>, QueryError> {
        let known = models::all();
        let found = known.iter().find_map(|projection| {
            let table = projection.tables().iter().find(|kept| kept.name == table)?;
            Some((projection, *table))
        });
        let Some((projection, table)) = found else {
            return Ok(None);
        };
        let mut session = self.database.begin_beside().await?;
        let standing = generations::standing(&mut session, projection.as_ref(), generation).await?;
        if standing != Some(Standing::Inspection) {
            return Ok(None);
        }
        let select = select(table, generation, tenant, page)?;
        let rows = session.rows(select, table.columns).await?;
        drop(session);
        let all = self.generations().await?;
        let of = all
            .into_iter()
            .find(|known| known.projection == projection.name() && known.generation == generation);
        let listing = Listing::new(rows, page, LIST, |row| key(table, row));
        Ok(Some(Answer {
            data: Listing {
                data: listing.data.iter().map(|row| shown(table, row)).collect(),
                next_cursor: listing.next_cursor,
            },
            fresh_at: of.as_ref().and_then(|copy| copy.fresh_at),
            positions: of.map(|copy| copy.positions).unwrap_or_default(),
        }))
    }
}

fn select(table: &Table, generation: i64, tenant: &TenantId, page: &Page) -> Result<Statement, QueryError> {
    let columns: Vec<_> = table.names().collect();
    let keys: Vec<_> = table.names().take(table.key).collect();
    let keys = keys.join(", ");
    let mut select = Statement::new(format!(
        "SELECT {} FROM {}{} WHERE 1 = 1",
        columns.join(", "),
        table.name,
        copies::suffix(generation)
    ));
    if columns.first() == Some(&"tenant") {
        select.push(" AND tenant = ").bind(tenant.as_str());
    }
    if let Some(after) = page.after_key(LIST, table.key_columns())? {
        select.push(&format!(" AND ({keys}) > ")).bind_rows([after]);
    }
    let limit = i64::try_from(page.size()).unwrap_or(i64::MAX).saturating_add(1);
    select.push(&format!(" ORDER BY {keys} LIMIT ")).bind(limit);
    Ok(select)
}

fn key(table: &Table, row: &Row) -> Vec<Json> {
    row.iter().take(table.key).map(json).collect()
}

fn shown(table: &Table, row: &Row) -> CopiedRow {
    let values = table.names().zip(row);
    values
        .map(|(name, value)| (name.to_owned(), json(value)))
        .collect()
}

fn json(value: &Value) -> Json {
    match value {
        Value::Text(Some(text)) => Json::from(text.as_str()),
        Value::Int(Some(number)) => Json::from(*number),
        Value::Bytes(Some(bytes)) => Json::from(STANDARD.encode(bytes)),
        Value::Text(None) | Value::Int(None) | Value::Bytes(None) => Json::Null,
    }
}
