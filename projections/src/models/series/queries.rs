//! What is asked about the course of a tenant's figures.

use std::collections::BTreeMap;

use domain::{EndpointId, EventType, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;

use super::histogram::{Histogram, Quantiles};
use super::tally::{Interval, Part};
use super::{NAME, active};
use crate::ReadModels;
use crate::page::{Answer, QueryError};
use crate::read_models::Query;
use crate::sql::{Statement, int, number, optional_text, unreadable};

/// Which figures are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Events accepted.
    Events,
    /// Deliveries that came into being, attempts, and what those brought.
    Deliveries,
    /// From an event's acceptance to its arrival at an endpoint in the delivery's first run.
    Latency,
    /// From the start of an attempt to its end.
    AttemptDuration,
    /// Users whom events are about.
    ActiveUsers,
}

/// Of which records the figures are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Series {
    /// All.
    #[default]
    All,
    /// Those of events of a type.
    Type(EventType),
    /// Those for an endpoint.
    Endpoint(EndpointId),
}

/// What cannot be asked; the text tells what can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSeries {
    /// The range is empty.
    #[error("since: must be before `until`, which is now unless given")]
    Empty,
    /// The range is too long.
    #[error("since: at most 744 hours (31 days) or 400 days can be asked for at once")]
    TooLong,
    /// The metric is not kept by type.
    #[error("type: `active_users` is kept for the whole tenant only")]
    NotByType,
    /// The metric is not kept by endpoint.
    #[error("endpoint: `events` and `active_users` are not kept by endpoint; ask for `deliveries`")]
    NotByEndpoint,
}

/// Which buckets of which figures are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesQuery {
    metric: Metric,
    interval: Interval,
    series: Series,
    /// Milliseconds since 1970, whole intervals both; the first bucket, and the one after the last.
    since: i64,
    until: i64,
}

impl SeriesQuery {
    /// The most hours, and the most days, that can be asked for at once.
    pub const LONGEST: [i64; 2] = [31 * 24, 400];

    /// The buckets that overlap the time from `since` to `until`; without `since`, as many as make a day of hours or
    /// a month of days.
    pub fn new(
        metric: Metric,
        interval: Interval,
        series: Series,
        since: Option<Timestamp>,
        until: Timestamp,
    ) -> Result<Self, InvalidSeries> {
        match (metric, &series) {
            (Metric::ActiveUsers, Series::Type(_)) => return Err(InvalidSeries::NotByType),
            (Metric::ActiveUsers | Metric::Events, Series::Endpoint(_)) => {
                return Err(InvalidSeries::NotByEndpoint);
            }
            _ => {}
        }
        let last = until.as_millis().saturating_sub(1);
        let end = interval.begin(last).saturating_add(interval.millis());
        let usual = match interval {
            Interval::Hour => 24,
            Interval::Day => 30,
        };
        let begin = since.map_or(end - usual * interval.millis(), |since| {
            interval.begin(since.as_millis())
        });
        if since.is_some_and(|since| since >= until) {
            return Err(InvalidSeries::Empty);
        }
        let [hours, days] = Self::LONGEST;
        let most = match interval {
            Interval::Hour => hours,
            Interval::Day => days,
        };
        if end.saturating_sub(begin) > most * interval.millis() {
            return Err(InvalidSeries::TooLong);
        }
        Ok(Self {
            metric,
            interval,
            series,
            since: begin,
            until: end,
        })
    }

    fn part(&self) -> Part<'_> {
        match &self.series {
            Series::All => Part::All,
            Series::Type(name) => Part::Type(name.as_str()),
            Series::Endpoint(id) => Part::Endpoint(id.as_str()),
        }
    }

    /// The table that keeps the metric.
    fn table(&self) -> &'static str {
        match self.metric {
            Metric::Events => "series_events",
            Metric::Deliveries | Metric::Latency | Metric::AttemptDuration => "series_deliveries",
            Metric::ActiveUsers => active::USERS.name,
        }
    }

    fn read(&self, row: &AnyRow) -> Result<Point, sqlx::Error> {
        Ok(match self.metric {
            Metric::Events => Point::Events(number(row, "events")?),
            Metric::Deliveries => Point::Deliveries(DeliveryFigures {
                deliveries: number(row, "deliveries")?,
                attempts: number(row, "attempts")?,
                delivered: number(row, "delivered")?,
                failures: number(row, "failures")?,
                dead: number(row, "dead")?,
            }),
            Metric::Latency => times(row, "latency")?,
            Metric::AttemptDuration => times(row, "duration")?,
            Metric::ActiveUsers => Point::Users(number(row, "users")?),
        })
    }

    /// The figures of a bucket in which nothing happened.
    fn nothing(&self) -> Point {
        match self.metric {
            Metric::Events => Point::Events(0),
            Metric::Deliveries => Point::Deliveries(DeliveryFigures::default()),
            Metric::Latency | Metric::AttemptDuration => Point::Times(0, None),
            Metric::ActiveUsers => Point::Users(0),
        }
    }
}

fn times(row: &AnyRow, column: &str) -> Result<Point, sqlx::Error> {
    let stored = optional_text(row, column)?;
    let histogram = Histogram::read(stored.as_deref()).map_err(|error| unreadable(column, error))?;
    Ok(Point::Times(histogram.count(), histogram.quantiles()))
}

/// What happened to deliveries in a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryFigures {
    /// Deliveries that came into being.
    pub deliveries: u64,
    /// Attempts made.
    pub attempts: u64,
    /// Attempts that arrived.
    pub delivered: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Attempts that failed and were the last of their run.
    pub dead: u64,
}

/// The figures of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// How many events were accepted.
    Events(u64),
    /// What happened to deliveries.
    Deliveries(DeliveryFigures),
    /// How many durations were measured, and what they were if there were any.
    Times(u64, Option<Quantiles>),
    /// How many users were active.
    Users(u64),
}

/// A series of buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Points {
    /// When the first begins.
    pub since: Timestamp,
    /// When the last ends.
    pub until: Timestamp,
    /// Whether nothing is missing: of a type or an endpoint some may be, on days on which the tenant used more of
    /// them than have series of their own.
    pub complete: bool,
    /// Every bucket, with when it begins, the oldest first.
    pub buckets: Vec<(Timestamp, Point)>,
}

/// Queries on the course of a tenant's figures.
#[derive(Debug, Clone, Copy)]
pub struct SeriesOf<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl SeriesOf<'_> {
    /// The projections the series stand on: what to wait for to read one's own writes.
    pub const PROJECTIONS: [&'static str; 1] = [NAME];

    /// A series, with a point for every bucket.
    pub async fn get(&self, wanted: &SeriesQuery) -> Result<Answer<Points>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new(format!(
            "SELECT * FROM {} WHERE tenant = ",
            query.table(wanted.table())
        ));
        select.bind(self.tenant.as_str());
        if wanted.metric != Metric::ActiveUsers {
            select.push(" AND part = ").bind(wanted.part().stored());
        }
        select
            .push(" AND span = ")
            .bind(wanted.interval.as_str())
            .push(" AND at >= ")
            .bind(wanted.since)
            .push(" AND at < ")
            .bind(wanted.until);
        let rows = query.rows(select).await?;
        let known = rows.iter().map(|row| Ok((int(row, "at")?, wanted.read(row)?)));
        let known = known.collect::<Result<BTreeMap<_, _>, sqlx::Error>>()?;
        let steps = (wanted.until - wanted.since) / wanted.interval.millis();
        let buckets = (0..steps).map(|step| {
            let at = wanted.since + step * wanted.interval.millis();
            let point = known.get(&at).copied().unwrap_or_else(|| wanted.nothing());
            (Timestamp::from_millis(at), point)
        });
        let points = Points {
            since: Timestamp::from_millis(wanted.since),
            until: Timestamp::from_millis(wanted.until),
            complete: self.is_complete(&mut query, wanted).await?,
            buckets: buckets.collect(),
        };
        query.answer(points).await
    }

    async fn is_complete(&self, query: &mut Query, wanted: &SeriesQuery) -> Result<bool, QueryError> {
        let Some((column, most)) = wanted.part().bound() else {
            return Ok(true);
        };
        let mut full = Statement::new(format!(
            "SELECT at FROM {} WHERE tenant = ",
            query.table(wanted.table())
        ));
        full.bind(self.tenant.as_str())
            .push(" AND part = '' AND span = 'day' AND at >= ")
            .bind(Interval::Day.begin(wanted.since))
            .push(" AND at < ")
            .bind(wanted.until)
            .push(&format!(" AND {column} >= "))
            .bind(most)
            .push(" LIMIT 1");
        Ok(query.rows(full).await?.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn asked(interval: Interval, since: Option<i64>, until: i64) -> Result<(i64, i64), InvalidSeries> {
        let since = since.map(Timestamp::from_millis);
        let until = Timestamp::from_millis(until);
        SeriesQuery::new(Metric::Events, interval, Series::All, since, until)
            .map(|query| (query.since, query.until))
    }

    #[test]
    fn whole_buckets_that_overlap_the_range_are_asked_for() {
        let hour = asked(Interval::Hour, Some(HOUR + 1), 3 * HOUR);
        assert_eq!(hour, Ok((HOUR, 3 * HOUR)));
        let ends_within = asked(Interval::Hour, Some(HOUR), 3 * HOUR + 1);
        assert_eq!(ends_within, Ok((HOUR, 4 * HOUR)));
        assert_eq!(asked(Interval::Day, Some(0), 1), Ok((0, 24 * HOUR)));
        let a_day = asked(Interval::Hour, None, 100 * HOUR);
        assert_eq!(a_day, Ok((76 * HOUR, 100 * HOUR)));
    }

    #[test]
    fn a_range_is_bounded() {
        let days = |days: i64| days * 24 * HOUR;
        assert!(asked(Interval::Hour, Some(0), days(31)).is_ok());
        assert_eq!(
            asked(Interval::Hour, Some(0), days(31) + 1),
            Err(InvalidSeries::TooLong)
        );
        assert!(asked(Interval::Day, Some(0), days(400)).is_ok());
        assert_eq!(
            asked(Interval::Day, Some(0), days(400) + 1),
            Err(InvalidSeries::TooLong)
        );
        assert_eq!(asked(Interval::Day, Some(5), 5), Err(InvalidSeries::Empty));
        assert_eq!(
            asked(Interval::Hour, Some(i64::MIN), i64::MAX),
            Err(InvalidSeries::TooLong)
        );
    }

    #[test]
    fn what_is_not_kept_is_refused() {
        let until = Timestamp::from_millis(HOUR);
        let of = |metric, series| SeriesQuery::new(metric, Interval::Hour, series, None, until).map(|_| ());
        let endpoint = Series::Endpoint("ep_00000000000000000000000009".parse().unwrap());
        let by_type = Series::Type("ping".parse().unwrap());
        assert_eq!(
            of(Metric::Events, endpoint.clone()),
            Err(InvalidSeries::NotByEndpoint)
        );
        assert_eq!(
            of(Metric::ActiveUsers, by_type.clone()),
            Err(InvalidSeries::NotByType)
        );
        assert_eq!(of(Metric::Latency, endpoint), Ok(()));
        assert_eq!(of(Metric::Events, by_type), Ok(()));
    }
}
