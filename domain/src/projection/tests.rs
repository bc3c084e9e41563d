use ulid::Ulid;

use super::*;
use crate::Source;
use crate::aggregate::testing::{check_golden_files, decide, folded};
use crate::aggregate::{decode_event, encode_event};

fn at() -> Timestamp {
    Timestamp::from_millis(1_614_265_330_007)
}

fn reason(text: &str) -> Reason {
    Text::new(text).unwrap()
}

fn pause() -> Paused {
    Paused {
        reason: Some(reason("the disk is being replaced")),
        at: at(),
    }
}

fn skip(sequence: u64) -> Skipped {
    Skipped {
        tenant: TenantId::new(Ulid(7)),
        position: Position {
            source: Source::Events,
            shard: 0,
            sequence,
        },
        reason: reason("written by a broken importer"),
        at: at(),
    }
}

async fn when(
    given: &[ProjectionEvent],
    command: ProjectionCommand,
) -> Result<Vec<ProjectionEvent>, ProjectionRejection> {
    decide::<Projection>(given, command).await
}

#[tokio::test]
async fn it_is_paused_and_resumed_and_what_is_so_changes_nothing() {
    let paused = [ProjectionEvent::Paused(pause())];
    assert_eq!(
        when(&[], ProjectionCommand::Pause(pause())).await,
        Ok(paused.to_vec())
    );
    assert_eq!(
        when(&paused, ProjectionCommand::Pause(pause())).await,
        Ok(Vec::new())
    );
    assert_eq!(
        when(&paused, ProjectionCommand::Resume(None)).await,
        Ok(vec![ProjectionEvent::Resumed { reason: None }])
    );
    assert_eq!(when(&[], ProjectionCommand::Resume(None)).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_record_is_skipped_once_and_only_so_many_are() {
    let skipped = ProjectionEvent::EventSkipped(skip(4));
    assert_eq!(
        when(&[], ProjectionCommand::SkipEvent(skip(4))).await,
        Ok(vec![skipped.clone()])
    );
    let again = Skipped {
        reason: reason("once more"),
        ..skip(4)
    };
    assert_eq!(
        when(
            std::slice::from_ref(&skipped),
            ProjectionCommand::SkipEvent(again)
        )
        .await,
        Ok(Vec::new())
    );
    let other = Skipped {
        tenant: TenantId::new(Ulid(8)),
        ..skip(4)
    };
    assert_eq!(
        when(
            std::slice::from_ref(&skipped),
            ProjectionCommand::SkipEvent(other.clone())
        )
        .await,
        Ok(vec![ProjectionEvent::EventSkipped(other)])
    );
    let all: Vec<_> = (1..=MAX_SKIPPED as u64)
        .map(|n| ProjectionEvent::EventSkipped(skip(n)))
        .collect();
    assert_eq!(
        when(&all, ProjectionCommand::SkipEvent(skip(0))).await,
        Err(ProjectionRejection::TooManySkipped)
    );
}

#[tokio::test]
async fn one_generation_is_dropped_at_a_time() {
    let (drop, dropped) = (
        |generation| ProjectionCommand::Drop {
            generation,
            reason: None,
        },
        |generation| ProjectionCommand::Dropped { generation },
    );
    let asked = [ProjectionEvent::DropRequested {
        generation: 2,
        reason: None,
    }];
    assert_eq!(when(&[], drop(2)).await, Ok(asked.to_vec()));
    assert_eq!(when(&asked, drop(2)).await, Ok(Vec::new()));
    assert_eq!(when(&asked, drop(1)).await, Err(ProjectionRejection::Dropping));
    assert_eq!(
        when(&asked, dropped(1)).await,
        Err(ProjectionRejection::NotAskedFor)
    );
    let done = ProjectionEvent::GenerationDropped { generation: 2 };
    assert_eq!(when(&asked, dropped(2)).await, Ok(vec![done.clone()]));
    let over = [asked[0].clone(), done];
    assert_eq!(
        when(&over, dropped(2)).await,
        Err(ProjectionRejection::NotAskedFor)
    );
}

#[tokio::test]
async fn a_drop_that_fails_makes_room_for_the_next() {
    let asked = ProjectionEvent::DropRequested {
        generation: 2,
        reason: None,
    };
    let failed = ProjectionCommand::DropFailed {
        generation: 2,
        reason: reason("it is live"),
    };
    let event = ProjectionEvent::DropFailed {
        generation: 2,
        reason: reason("it is live"),
    };
    assert_eq!(
        when(std::slice::from_ref(&asked), failed).await,
        Ok(vec![event.clone()])
    );
    assert_eq!(
        when(
            &[asked, event],
            ProjectionCommand::Drop {
                generation: 1,
                reason: None
            }
        )
        .await,
        Ok(vec![ProjectionEvent::DropRequested {
            generation: 1,
            reason: None
        }])
    );
}

#[tokio::test]
async fn a_reason_is_kept_where_it_is_said() {
    let why = || Some(reason("the disk is in"));
    let paused = [ProjectionEvent::Paused(pause())];
    for (given, command, event) in [
        (
            &paused[..],
            ProjectionCommand::Resume(why()),
            ProjectionEvent::Resumed { reason: why() },
        ),
        (
            &[],
            ProjectionCommand::Drop {
                generation: 2,
                reason: why(),
            },
            ProjectionEvent::DropRequested {
                generation: 2,
                reason: why(),
            },
        ),
    ] {
        assert_eq!(when(given, command).await, Ok(vec![event.clone()]));
        let stored = encode_event(&event).unwrap();
        assert_eq!(stored.data["reason"], "the disk is in");
        assert_eq!(decode_event::<ProjectionEvent>(&stored).unwrap(), event);
    }
}

#[test]
fn golden_files() {
    check_golden_files(
        ProjectionEvent::WIRE,
        &[
            ProjectionEvent::Paused(pause()),
            ProjectionEvent::Resumed { reason: None },
            ProjectionEvent::EventSkipped(skip(42)),
            ProjectionEvent::DropRequested {
                generation: 2,
                reason: None,
            },
            ProjectionEvent::GenerationDropped { generation: 2 },
            ProjectionEvent::DropFailed {
                generation: 2,
                reason: reason("generation 2 is live"),
            },
        ],
    );
}

#[tokio::test]
async fn a_failed_drop_of_a_generation_that_nobody_drops_is_refused() {
    let failed = |generation| ProjectionCommand::DropFailed {
        generation,
        reason: reason("it is live"),
    };
    let asked = [ProjectionEvent::DropRequested {
        generation: 2,
        reason: None,
    }];
    for refused in [when(&asked, failed(1)).await, when(&[], failed(2)).await] {
        assert_eq!(refused, Err(ProjectionRejection::NotAskedFor));
    }
}

#[test]
fn a_projection_tells_what_was_decided_on_it() {
    let state = |events: &[ProjectionEvent]| {
        let projection = folded::<Projection>(events);
        (
            projection.paused().cloned(),
            projection.skipped().to_vec(),
            projection.dropping(),
        )
    };
    let mut events = vec![
        ProjectionEvent::Paused(pause()),
        ProjectionEvent::EventSkipped(skip(4)),
        ProjectionEvent::DropRequested {
            generation: 2,
            reason: None,
        },
    ];
    assert_eq!(state(&[]), (None, Vec::new(), None));
    assert_eq!(state(&events), (Some(pause()), vec![skip(4)], Some(2)));
    events.push(ProjectionEvent::Resumed { reason: None });
    events.push(ProjectionEvent::GenerationDropped { generation: 2 });
    assert_eq!(state(&events), (None, vec![skip(4)], None));
}
