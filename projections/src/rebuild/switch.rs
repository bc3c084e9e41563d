//! The switch: which generation queries read is changed in one transaction.

use domain::TenantId;

use super::build::Build;
use super::job::Job;
use super::{Member, Rebuild, RebuildError};
use crate::engine::{Session, copies};
use crate::generations::{self, Standing};
use crate::sql::Statement;
use crate::table::Table;

/// How often a switch that another transaction came across is tried.
const TRIES: usize = 5;

/// Makes a copy the live model, and the live one its predecessor.
///
/// The live model's checkpoints are held meanwhile, so that its projectors wait, and see then that they fold the new
/// one. The copy is brought to where they stood at least: no answer ever goes back.
pub(super) async fn whole(rebuild: &Rebuild, build: &Build<'_>, member: &Member) -> Result<(), RebuildError> {
    for left in (0..TRIES).rev() {
        match try_whole(rebuild, build, member).await {
            Err(RebuildError::Database(error)) if left > 0 && came_across(&error) => {}
            result => return result,
        }
    }
    Ok(())
}

async fn try_whole(rebuild: &Rebuild, build: &Build<'_>, member: &Member) -> Result<(), RebuildError> {
    let projection = member.projection.as_ref();
    let mut session = rebuild.read_models.database.begin().await?;
    generations::alone(&mut session, projection.name()).await?;
    let live = generations::live(&mut session, projection).await?;
    if live == Some(member.generation) {
        // Switched by the run before it was killed.
        return Ok(());
    }
    for (log, end) in generations::hold_live(&mut session, projection).await? {
        build.rest(&mut session, member, log, end).await?;
    }
    if let Some(live) = live {
        generations::inherit_freshness(&mut session, projection, (live, member.generation)).await?;
        generations::stand(&mut session, projection, live, Standing::Previous).await?;
    }
    generations::stand(&mut session, projection, member.generation, Standing::Live).await?;
    Ok(session.commit().await?)
}

/// Exchanges one tenant's rows between a copy and the live model; what was live stays in the copy. `false` where the live
/// model stands behind the copy: rows can only be exchanged at one position.
pub(super) async fn tenant(
    rebuild: &Rebuild,
    build: &Build<'_>,
    member: &Member,
    tenant: &TenantId,
) -> Result<bool, RebuildError> {
    let projection = member.projection.as_ref();
    let mut session = rebuild.read_models.database.begin().await?;
    generations::alone(&mut session, projection.name()).await?;
    let Some(live) = generations::live(&mut session, projection).await? else {
        return Err(RebuildError::Refused(format!(
            "{} has no live model whose rows could be exchanged: rebuild all of it",
            projection.name()
        )));
    };
    if generations::standing(&mut session, projection, member.generation).await? != Some(Standing::Building) {
        // Exchanged by the run before it was killed.
        return Ok(true);
    }
    let ends = generations::hold_live(&mut session, projection).await?;
    for (log, end) in &ends {
        let at = member.place(*log, Standing::Building).load(&mut session).await?;
        if at > *end && member.follows(*log) {
            return Ok(false);
        }
        build.rest(&mut session, member, *log, *end).await?;
    }
    let aside = generations::next(&mut session, projection).await?;
    for table in projection.tables() {
        exchange(&mut session, table, (live, member.generation, aside), tenant).await?;
    }
    generations::move_parked(&mut session, projection, (member.generation, live), tenant).await?;
    generations::stand(&mut session, projection, member.generation, Standing::Inspection).await?;
    session.commit().await?;
    Ok(true)
}

/// Exchanges rows by way of a third table, which is gone with the transaction.
async fn exchange(
    session: &mut Session,
    table: &Table,
    (live, copy, aside): (i64, i64, i64),
    tenant: &TenantId,
) -> Result<(), RebuildError> {
    copies::make(session, table, aside).await?;
    let columns: Vec<_> = table.names().collect();
    let columns = columns.join(", ");
    let name = |generation| format!("{}{}", table.name, copies::suffix(generation));
    let (live, copy, third) = (name(live), name(copy), name(aside));
    let of_tenant = |sql: String| Statement::new(sql).with(tenant.as_str());
    let statements = [
        of_tenant(format!(
            "INSERT INTO {third} ({columns}) SELECT {columns} FROM {live} WHERE tenant = $1"
        )),
        of_tenant(format!("DELETE FROM {live} WHERE tenant = $1")),
        of_tenant(format!(
            "INSERT INTO {live} ({columns}) SELECT {columns} FROM {copy} WHERE tenant = $1"
        )),
        of_tenant(format!("DELETE FROM {copy} WHERE tenant = $1")),
        Statement::new(format!(
            "INSERT INTO {copy} ({columns}) SELECT {columns} FROM {third}"
        )),
    ];
    for statement in statements {
        session.execute(statement).await?;
    }
    Ok(copies::drop(session, table, aside).await?)
}

/// Drops the predecessors but the last one.
pub(super) async fn drop_older(rebuild: &Rebuild, member: &Member) -> Result<(), RebuildError> {
    let mut session = rebuild.read_models.database.begin().await?;
    let older = generations::older(&mut session, member.projection.as_ref()).await?;
    drop(session);
    for generation in older {
        let old = Member {
            generation,
            ..member.clone()
        };
        drop_one(rebuild, &old).await?;
    }
    Ok(())
}

/// Drops a generation that an operator does not want any more: never one that queries read or a run fills. One that is
/// gone already is dropped.
pub(super) async fn drop_one(rebuild: &Rebuild, member: &Member) -> Result<(), RebuildError> {
    let (projection, generation) = (member.projection.as_ref(), member.generation);
    let name = projection.name();
    let mut session = rebuild.read_models.database.begin().await?;
    generations::alone(&mut session, name).await?;
    let version = generations::version(&mut session, projection, generation).await?;
    match generations::standing(&mut session, projection, generation).await? {
        None => return Ok(()),
        // What an older program read is nobody's once this one has taken its place.
        Some(Standing::Live) if version >= Some(projection.version()) => {
            return Err(RebuildError::Refused(format!(
                "generation {generation} of {name} is the live one"
            )));
        }
        // Adopted by a rollback since the operator asked, or begun by a replay.
        Some(Standing::Building) => {
            if let Some(id) = Job::filling(&mut session, name, generation).await? {
                return Err(RebuildError::Refused(format!(
                    "the replay {id} works at generation {generation} of {name}"
                )));
            }
        }
        Some(Standing::Live | Standing::Previous | Standing::Inspection) => {}
    }
    erase(session, member).await
}

/// Drops what a run has built and not switched to; what was switched, or is gone, is passed over.
pub(super) async fn drop_built(rebuild: &Rebuild, member: &Member) -> Result<(), RebuildError> {
    let (projection, generation) = (member.projection.as_ref(), member.generation);
    let mut session = rebuild.read_models.database.begin().await?;
    generations::alone(&mut session, projection.name()).await?;
    if generations::standing(&mut session, projection, generation).await? != Some(Standing::Building) {
        return Ok(());
    }
    erase(session, member).await
}

/// Leaves a generation that was to be gone back to as it was found.
pub(super) async fn give_back(rebuild: &Rebuild, member: &Member) -> Result<(), RebuildError> {
    let (projection, generation) = (member.projection.as_ref(), member.generation);
    let mut session = rebuild.read_models.database.begin().await?;
    generations::alone(&mut session, projection.name()).await?;
    if generations::standing(&mut session, projection, generation).await? == Some(Standing::Building) {
        generations::stand(&mut session, projection, generation, Standing::Previous).await?;
    }
    Ok(session.commit().await?)
}

/// Drops a generation's tables and forgets where it stood.
async fn erase(mut session: Session, member: &Member) -> Result<(), RebuildError> {
    let projection = member.projection.as_ref();
    for table in projection.tables() {
        copies::drop(&mut session, table, member.generation).await?;
    }
    generations::forget(&mut session, projection, member.generation).await?;
    Ok(session.commit().await?)
}

/// Whether the database gave up because of another transaction: SQLSTATE 40001, 40P01 and 55P03.
fn came_across(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| matches!(code.as_ref(), "40001" | "40P01" | "55P03"))
}
