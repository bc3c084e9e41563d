//! What can befall the file of the embedded engine.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, Executor as _, Row as _, SqliteConnection};

use super::files::{add_rubbish, copy, flip_bit, invert, zero};
use super::{noticed, told_after};
use crate::faults::cases::operators;
use crate::faults::cases::process::AFTERWARDS;
use crate::faults::client::mark;
use crate::faults::world::{PATIENCE, World};

/// The place of the first record of the log of events in the file, less one.
const PLACES: i64 = 1 << 45;
/// How many users are registered that a copy of the file does not have.
const LATER: u64 = 10;
const PAGE: usize = 4096;

/// How it is done.
enum Harm {
    /// While the service runs, by a statement that names records.
    Told(&'static str),
    /// While it does not, to what was committed lately and stands in the journal beside the file.
    Journal(fn(&mut Vec<u8>, &mut World)),
    /// While it does not, to the file itself; one of the log's records begins at this place in it.
    File(fn(&mut Vec<u8>, usize, &mut World)),
    /// While it does not: the journal goes, the file goes, or both are as they were once.
    JournalGone,
    FileGone,
    Older,
}

const HARMS: &[(&str, Harm)] = &[
    (
        "a middle row deleted",
        Harm::Told("DELETE FROM records WHERE place = :middle"),
    ),
    (
        "the first row deleted",
        Harm::Told("DELETE FROM records WHERE place = :first"),
    ),
    (
        "the last rows deleted",
        Harm::Told("DELETE FROM records WHERE place > :last - 3 AND place <= :last"),
    ),
    (
        "all rows deleted",
        Harm::Told("DELETE FROM records WHERE place >= :first AND place <= :last"),
    ),
    (
        "a middle payload changed",
        Harm::Told("UPDATE records SET payload = payload || x'00' WHERE place = :middle"),
    ),
    (
        "the last payload changed",
        Harm::Told("UPDATE records SET payload = payload || x'00' WHERE place = :last"),
    ),
    (
        "a middle payload emptied",
        Harm::Told("UPDATE records SET payload = x'' WHERE place = :middle"),
    ),
    (
        "a middle subject changed",
        Harm::Told("UPDATE records SET subject = subject || 'x' WHERE place = :middle"),
    ),
    (
        "a middle message id changed",
        Harm::Told("UPDATE records SET message_id = message_id || 'x' WHERE place = :middle"),
    ),
    (
        "a payload overwritten with the next one's",
        Harm::Told(
            "UPDATE records SET payload =
                 (SELECT payload FROM records next WHERE next.place = records.place + 1) WHERE place = :middle",
        ),
    ),
    ("the journal removed", Harm::JournalGone),
    (
        "the journal cut in half",
        Harm::Journal(|bytes, _| bytes.truncate(bytes.len() / 2)),
    ),
    (
        "a bit of the journal flipped",
        Harm::Journal(|bytes, world| flip_bit(bytes, &mut world.dice)),
    ),
    (
        "a stretch of the journal zeroed",
        Harm::Journal(|bytes, world| zero(bytes, 512, &mut world.dice)),
    ),
    (
        "a bit of a record in the file flipped",
        Harm::File(|bytes, at, world| flip_bit(&mut bytes[at..at + 64], &mut world.dice)),
    ),
    (
        "16 bytes of a record in the file inverted",
        Harm::File(|bytes, at, world| invert(&mut bytes[at..at + 64], 16, &mut world.dice)),
    ),
    (
        "a page of records zeroed",
        Harm::File(|bytes, at, _| {
            let page = at / PAGE * PAGE;
            bytes[page..page + PAGE].fill(0);
        }),
    ),
    (
        "a page of records overwritten with rubbish",
        Harm::File(|bytes, at, world| {
            let (page, mut rubbish) = (at / PAGE * PAGE, Vec::new());
            while rubbish.len() < PAGE {
                add_rubbish(&mut rubbish, &mut world.dice);
            }
            bytes[page..page + PAGE].copy_from_slice(&rubbish[..PAGE]);
        }),
    ),
    (
        "the file cut before a record",
        Harm::File(|bytes, at, _| bytes.truncate(at / PAGE * PAGE)),
    ),
    ("the file cut to nothing", Harm::File(|bytes, _, _| bytes.clear())),
    ("the file removed", Harm::FileGone),
    ("an older copy put back", Harm::Older),
];

/// The records of the log: place, subject, message id, payload.
type Rows = Vec<(i64, String, String, Vec<u8>)>;

pub(super) async fn damage(world: &mut World) -> anyhow::Result<()> {
    let (name, harm) = world.turn(HARMS)?;
    world.note(*name);
    operators::quiet(world).await?;
    if let Harm::Told(statement) = harm {
        let rows = rows(world).await?;
        told(world, statement, &rows).await?;
        noticed(world, Instant::now()).await?;
        operators::refused(world).await?;
        world.service.kill().await?;
        world.heal();
        // What differs from the archive is put aside; what only lacks its end is continued.
        let (status, said) = world.service.run(&["restore", "--set-aside"]).await?;
        ensure!(status.success(), "tidings restore --set-aside: {status}: {said}");
        return operators::made_again(world).await;
    }
    // A copy is what the rest of the file, which has no archive, is restored from. Only commands come after it.
    world.service.kill().await?;
    let (data, copied) = (world.service.data(), world.service.data().join("older"));
    std::fs::create_dir_all(&copied)?;
    put(&data, &copied)?;
    world.restart().await?;
    later(world).await?;
    let before = rows(world).await?;
    world.service.kill().await?;
    harm_files(world, harm, &before, &copied).await?;
    let since = Instant::now();
    match world.launch().await {
        Ok(()) if rows(world).await.is_ok_and(|now| now == before) => {
            world.note("the log is whole");
            world.heal();
            world.load();
            return world.acknowledged(AFTERWARDS).await;
        }
        Ok(()) => {
            noticed(world, since).await?;
            operators::refused(world).await?;
        }
        // A start that is refused is one way to notice.
        Err(error) => {
            told_after(world, since);
            let text = format!("{error:#}");
            let why = text.lines().find(|line| line.contains("error: "));
            world.note(why.unwrap_or("it did not start").to_owned());
        }
    }
    world.service.kill().await?;
    world.heal();
    put(&copied, &data)?;
    operators::made_again(world).await
}

/// Registers users, so that the log goes on and nothing else does.
async fn later(world: &mut World) -> anyhow::Result<()> {
    for number in 0..LATER {
        let caller = world.caller(usize::from(number % 2 == 1))?;
        let value = format!("{}Later{number}", mark(&caller.tenant));
        let registered = caller.register(value, false).await;
        registered.context("a user was not registered")?;
    }
    operators::rested(world).await
}

/// Copies the file and its journal from one folder to another, where nothing else of it stays.
fn put(from: &Path, to: &Path) -> anyhow::Result<()> {
    for name in ["log.db", "log.db-wal", "log.db-shm"] {
        let (from, to) = (from.join(name), to.join(name));
        if to.exists() {
            std::fs::remove_file(&to)?;
        }
        if from.exists() && !name.ends_with("-shm") {
            copy(&from, &to)?;
        }
    }
    Ok(())
}

async fn harm_files(world: &mut World, harm: &Harm, rows: &Rows, copied: &Path) -> anyhow::Result<()> {
    let data = world.service.data();
    let (file, journal) = (data.join("log.db"), data.join("log.db-wal"));
    match harm {
        Harm::Told(_) => {}
        Harm::Older => put(copied, &data)?,
        Harm::JournalGone => std::fs::remove_file(&journal)?,
        Harm::Journal(change) => {
            let mut bytes = std::fs::read(&journal)?;
            change(&mut bytes, world);
            std::fs::write(&journal, bytes)?;
        }
        Harm::File(change) => {
            into_the_file(&file).await?;
            let mut bytes = std::fs::read(&file)?;
            for at in places_of_one(&bytes, rows, world)? {
                change(&mut bytes, at, world);
            }
            std::fs::write(&file, bytes)?;
        }
        Harm::FileGone => {
            into_the_file(&file).await?;
            std::fs::remove_file(&file)?;
        }
    }
    Ok(())
}

/// Where the payload of a record stands in the file, which may keep it in pages that nobody uses any more, too; the
/// last of them first. Which record is drawn.
fn places_of_one(bytes: &[u8], rows: &Rows, world: &mut World) -> anyhow::Result<Vec<usize>> {
    // What is shorter than a bit of a page may stand anywhere.
    let long: Vec<&[u8]> = rows
        .iter()
        .filter_map(|(_, _, _, payload)| payload.get(..64))
        .collect();
    let drawn = usize::try_from(world.dice.number(0..(long.len() as u64).max(1)))?;
    let wanted = long.get(drawn).context("no record is long enough")?;
    let windows = bytes.windows(wanted.len()).enumerate();
    let mut places: Vec<usize> = windows
        .filter_map(|(place, window)| (window == *wanted).then_some(place))
        .collect();
    ensure!(!places.is_empty(), "the record is not in the file");
    // A file that is cut at one place has none behind it.
    places.reverse();
    Ok(places)
}

async fn open(file: &Path) -> anyhow::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(file).busy_timeout(PATIENCE);
    Ok(SqliteConnection::connect_with(&options).await?)
}

fn log_db(world: &World) -> PathBuf {
    world.service.data().join("log.db")
}

/// Moves everything from the journal into the file.
async fn into_the_file(file: &Path) -> anyhow::Result<()> {
    let mut connection = open(file).await?;
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await?;
    Ok(connection.close().await?)
}

/// What the log holds, while the service runs: the last who closes the file would tidy it up.
async fn rows(world: &World) -> anyhow::Result<Rows> {
    let mut connection = open(&log_db(world)).await?;
    let sql = "SELECT place, subject, message_id, payload FROM records WHERE place > ? AND place < ? ORDER BY place";
    let rows = sqlx::query(sql)
        .bind(PLACES)
        .bind(2 * PLACES)
        .fetch_all(&mut connection)
        .await?;
    let row = |row: &sqlx::sqlite::SqliteRow| {
        anyhow::Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
    };
    let rows = rows.iter().map(row).collect();
    connection.close().await?;
    rows
}

/// Changes rows as somebody would who has the file open beside the service.
async fn told(world: &mut World, statement: &str, rows: &Rows) -> anyhow::Result<()> {
    let places: Vec<i64> = rows.iter().map(|(place, ..)| *place).collect();
    let (first, last) = (
        places.first().context("a record")?,
        places.last().context("a record")?,
    );
    let middle = first
        + 1
        + i64::try_from(
            world
                .dice
                .number(0..(places.len() as u64).saturating_sub(3).max(1)),
        )?;
    let statement = statement
        .replace(":first", &first.to_string())
        .replace(":middle", &middle.to_string())
        .replace(":last", &last.to_string());
    let mut connection = open(&log_db(world)).await?;
    connection
        .execute(
            "DROP TRIGGER IF EXISTS records_are_never_changed; DROP TRIGGER IF EXISTS records_kept_for_ever",
        )
        .await?;
    let changed = sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(&mut connection)
        .await?;
    ensure!(changed.rows_affected() > 0, "nothing was changed");
    Ok(connection.close().await?)
}
