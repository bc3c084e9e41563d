//! Active users: those that an event of the bucket is about.
//!
//! An event is about the user it happened to, and about the users whom it names as `user`, `users` or `members`: who
//! accepted an invitation, who came into a team or left it. Events by a user will count when users can act themselves;
//! today API keys, invitees and operators do.
//!
//! A user is counted once in a bucket, however many events there are: of each user and day a row tells the hours.

use std::collections::BTreeMap;

use domain::Commit;
use serde_json::Value as Json;

use super::tally::Interval;
use crate::projection::{ApplyError, Incoming};
use crate::rows::Rows;
use crate::table::{Column, Growth, Table};

/// How many users were active.
pub(super) static USERS: Table = Table {
    name: "series_users",
    key: 3,
    columns: &[
        Column::text("tenant"),
        Column::text("span"),
        Column::int("at"),
        Column::int("users"),
    ],
    growth: Growth::Summed,
};

/// The hours of a day in which a user was active, as the bits 0 to 23.
pub(super) static USER_DAYS: Table = Table {
    name: "series_user_days",
    key: 3,
    columns: &[
        Column::text("tenant"),
        Column::int("day"),
        Column::text("user_id"),
        Column::int("hours"),
    ],
    growth: Growth::Kept,
};

/// Counts the users of a batch.
pub(super) async fn fold(batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let mut active: BTreeMap<(&str, i64, &str), i64> = BTreeMap::new();
    for incoming in batch {
        let Some(commit) = incoming.commit() else { continue };
        let at = commit.meta.at.as_millis();
        let day = Interval::Day.begin(at);
        let hour = (Interval::Hour.begin(at) - day) / Interval::Hour.millis();
        for user in users(commit) {
            *active.entry((&incoming.tenant, day, user)).or_default() |= 1 << hour;
        }
    }
    let key = |(tenant, day, user): &(&str, i64, &str)| vec![(*tenant).into(), (*day).into(), (*user).into()];
    rows.load(&USER_DAYS, active.keys().map(key)).await?;
    for (place, hours) in active {
        let row = rows.get(&USER_DAYS, key(&place)).await?;
        let before = row.map_or(0, |row| USER_DAYS.int(&row, "hours"));
        let fresh = hours & !before;
        if fresh == 0 {
            continue;
        }
        let mut row = key(&place);
        row.push((before | hours).into());
        rows.put(&USER_DAYS, row);
        let (tenant, day, _) = place;
        if before == 0 {
            count(rows, tenant, Interval::Day, day);
        }
        for hour in (0..24).filter(|hour| fresh & (1 << hour) != 0) {
            count(rows, tenant, Interval::Hour, day + hour * Interval::Hour.millis());
        }
    }
    Ok(())
}

fn count(rows: &mut Rows<'_>, tenant: &str, interval: Interval, at: i64) {
    let row = vec![tenant.into(), interval.as_str().into(), at.into(), 1_i64.into()];
    rows.add(&USERS, row);
}

/// The users that a commit is about; some may come twice.
fn users(commit: &Commit) -> Vec<&str> {
    let mut users = Vec::new();
    if commit.aggregate == "user" {
        users.push(commit.id.as_str());
        return users;
    }
    for event in &commit.events {
        for named in ["user", "users", "members"] {
            collect(event.data.get(named), &mut users);
        }
    }
    users
}

fn collect<'c>(value: Option<&'c Json>, users: &mut Vec<&'c str>) {
    match value {
        Some(Json::String(id)) if id.starts_with("usr_") => users.push(id),
        Some(Json::Array(items)) => items.iter().for_each(|item| collect(Some(item), users)),
        Some(Json::Object(member)) => {
            if let Some(Json::String(id)) = member.get("user") {
                users.push(id);
            }
        }
        _ => {}
    }
}
