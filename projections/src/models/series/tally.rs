//! Counting into buckets: in memory for a batch, then into the rows of hours and days.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::{MOST_ENDPOINTS, MOST_TYPES};
use crate::projection::ApplyError;
use crate::rows::Rows;
use crate::table::{Key, Row, Table};

/// How long a bucket is. Buckets begin at whole hours and days of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Interval {
    /// The interval as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// Its length in milliseconds.
    pub(super) fn millis(self) -> i64 {
        match self {
            Self::Hour => 3_600_000,
            Self::Day => 24 * 3_600_000,
        }
    }

    /// When the bucket of a time begins, in milliseconds since 1970.
    pub(super) fn begin(self, at: i64) -> i64 {
        at.div_euclid(self.millis()).saturating_mul(self.millis())
    }
}

/// What part of a tenant's records a series is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part<'b> {
    /// All of them.
    All,
    /// Those of a type of events.
    Type(&'b str),
    /// Those of an endpoint.
    Endpoint(&'b str),
}

impl Part<'_> {
    /// The part as it is stored.
    pub(super) fn stored(self) -> String {
        match self {
            Self::All => String::new(),
            Self::Type(name) => format!("type:{name}"),
            Self::Endpoint(id) => format!("endpoint:{id}"),
        }
    }

    /// How many such parts a tenant can have on a day, and the column that counts them.
    pub(super) fn bound(self) -> Option<(&'static str, i64)> {
        match self {
            Self::All => None,
            Self::Type(_) => Some(("types", MOST_TYPES)),
            Self::Endpoint(_) => Some(("endpoints", MOST_ENDPOINTS)),
        }
    }
}

/// What is counted in a bucket.
pub(super) trait Figures: Default {
    /// Adds them to those of a row.
    fn add_to(&self, table: &'static Table, row: &mut Row) -> Result<(), sqlx::Error>;
}

/// The figures of a batch.
#[derive(Debug)]
pub(super) struct Tally<'b, F> {
    hours: HashMap<(&'b str, Part<'b>, i64), F>,
    /// The tenants' parts with their hours, in the order in which they were met.
    met: Vec<(&'b str, Part<'b>, i64)>,
}

impl<F> Default for Tally<'_, F> {
    fn default() -> Self {
        Self {
            hours: HashMap::new(),
            met: Vec::new(),
        }
    }
}

fn key(tenant: &str, part: Part<'_>, interval: Interval, at: i64) -> Key {
    let begin = interval.begin(at);
    vec![
        tenant.into(),
        part.stored().into(),
        interval.as_str().into(),
        begin.into(),
    ]
}

/// The row of a bucket, which begins with nothing.
async fn row(table: &'static Table, key: Key, rows: &mut Rows<'_>) -> Result<Row, sqlx::Error> {
    if let Some(row) = rows.get(table, key.clone()).await? {
        return Ok(row);
    }
    let mut row = table.row(Vec::new());
    for (value, of_key) in row.iter_mut().zip(key) {
        *value = of_key;
    }
    for column in table.value_columns() {
        if column.holds == crate::table::Type::Int {
            table.set(&mut row, column.name, 0_i64.into());
        }
    }
    Ok(row)
}

impl<'b, F: Figures> Tally<'b, F> {
    /// The figures of the hour of a time.
    pub(super) fn at(&mut self, tenant: &'b str, part: Part<'b>, at: Timestamp) -> &mut F {
        let place = (tenant, part, Interval::Hour.begin(at.as_millis()));
        self.hours.entry(place).or_insert_with(|| {
            self.met.push(place);
            F::default()
        })
    }

    /// Adds everything to the rows.
    pub(super) async fn settle(self, table: &'static Table, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        let both = [Interval::Hour, Interval::Day];
        let keys = self.met.iter().flat_map(|(tenant, part, hour)| {
            both.into_iter()
                .map(move |interval| key(tenant, *part, interval, *hour))
        });
        rows.load(table, keys.collect::<BTreeSet<_>>()).await?;
        let counted = self.admit(table, rows).await?;
        for ((tenant, part, hour), figures) in self.hours {
            if !counted.contains(&(tenant, part, Interval::Day.begin(hour))) {
                continue;
            }
            for interval in both {
                let mut row = row(table, key(tenant, part, interval, hour), rows).await?;
                figures.add_to(table, &mut row)?;
                rows.put(table, row);
            }
        }
        Ok(())
    }

    /// The parts that have series of their own on their days: those that have one already, and new ones while there
    /// is room, in the order in which they were met.
    async fn admit(
        &self,
        table: &'static Table,
        rows: &mut Rows<'_>,
    ) -> Result<HashSet<(&'b str, Part<'b>, i64)>, ApplyError> {
        let mut counted = HashSet::new();
        for (tenant, part, hour) in &self.met {
            let place = (*tenant, *part, Interval::Day.begin(*hour));
            if counted.contains(&place) {
                continue;
            }
            let Some((column, most)) = part.bound() else {
                counted.insert(place);
                continue;
            };
            let day = key(tenant, *part, Interval::Day, *hour);
            if rows.get(table, day).await?.is_none() {
                let all = key(tenant, Part::All, Interval::Day, *hour);
                let mut all = row(table, all, rows).await?;
                let present = table.int(&all, column);
                if present >= most {
                    continue;
                }
                table.set(&mut all, column, (present + 1).into());
                rows.put(table, all);
            }
            counted.insert(place);
        }
        Ok(counted)
    }
}
