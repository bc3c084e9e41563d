use ulid::Ulid;

use super::*;
use crate::aggregate::testing::{check_golden_files, decide, folded};
use crate::aggregate::{decode_event, encode_event};
use crate::{Source, Text};

fn plan() -> ReplayPlan {
    ReplayPlan {
        projections: vec!["audit".parse().unwrap(), "api_keys".parse().unwrap()],
        tenant: None,
        to: None,
        switch: true,
    }
}

/// As of a record, for inspection.
fn inspection() -> ReplayPlan {
    let position = Position {
        source: Source::Events,
        shard: 0,
        sequence: 42,
    };
    ReplayPlan {
        tenant: Some(TenantId::new(Ulid(7))),
        to: Some(Until::Position(position)),
        switch: false,
        ..plan()
    }
}

fn comparison() -> Comparison {
    Comparison {
        differences: vec![TableDifference {
            projection: "deliveries".to_owned(),
            table: "attempts".to_owned(),
            live: 41,
            rebuilt: 42,
        }],
        not_compared: vec![LeftOut {
            projection: "stats".to_owned(),
            table: None,
            reason: "behind".to_owned(),
        }],
    }
}

fn reason() -> Reason {
    Text::new("the log cannot be read").unwrap()
}

fn requested(plan: ReplayPlan) -> ReplayEvent {
    ReplayEvent::Requested { plan, reason: None }
}

async fn when(given: &[ReplayEvent], command: ReplayCommand) -> Result<Vec<ReplayEvent>, ReplayRejection> {
    decide::<Replay>(given, command).await
}

#[tokio::test]
async fn it_is_asked_for_once_and_ends_once() {
    let requested = [requested(plan())];
    assert_eq!(
        when(&[], ReplayCommand::Request(Work::Rebuild(plan()), None)).await,
        Ok(requested.to_vec())
    );
    assert_eq!(
        when(&requested, ReplayCommand::Request(Work::Rebuild(plan()), None)).await,
        Err(ReplayRejection::AlreadyRequested)
    );
    for command in [
        ReplayCommand::Cancel(None),
        ReplayCommand::End(ReplayEnd::Cancelled),
    ] {
        assert_eq!(when(&[], command).await, Err(ReplayRejection::NotFound));
    }
    let ends = [
        (
            ReplayEnd::Completed(comparison()),
            ReplayEvent::Completed(comparison()),
        ),
        (
            ReplayEnd::Failed(reason()),
            ReplayEvent::Failed { reason: reason() },
        ),
        (ReplayEnd::Cancelled, ReplayEvent::Cancelled {}),
    ];
    for (end, event) in ends {
        assert_eq!(
            when(&requested, ReplayCommand::End(end.clone())).await,
            Ok(vec![event.clone()])
        );
        let over = [requested[0].clone(), event];
        for command in [ReplayCommand::Cancel(None), ReplayCommand::End(end)] {
            assert_eq!(when(&over, command).await, Err(ReplayRejection::Ended));
        }
    }
}

#[tokio::test]
async fn going_back_is_a_replay_of_one_projection() {
    let projection: ProjectionName = "audit".parse().unwrap();
    let requested = ReplayEvent::RollbackRequested {
        projection: projection.clone(),
        reason: None,
    };
    let back = ReplayCommand::Request(Work::RollBack(projection), None);
    assert_eq!(when(&[], back.clone()).await, Ok(vec![requested.clone()]));
    assert_eq!(
        when(std::slice::from_ref(&requested), back).await,
        Err(ReplayRejection::AlreadyRequested)
    );
    assert_eq!(
        when(&[requested], ReplayCommand::Cancel(None)).await,
        Err(ReplayRejection::NotToBeCancelled)
    );
}

#[tokio::test]
async fn cancelling_is_asked_for_once_and_may_come_too_late() {
    let requested = requested(plan());
    let cancelling = [requested.clone(), ReplayEvent::CancelRequested { reason: None }];
    assert_eq!(
        when(&[requested], ReplayCommand::Cancel(None)).await,
        Ok(vec![ReplayEvent::CancelRequested { reason: None }])
    );
    assert_eq!(
        when(&cancelling, ReplayCommand::Cancel(None)).await,
        Ok(Vec::new())
    );
    let done = ReplayCommand::End(ReplayEnd::Completed(Comparison::default()));
    assert_eq!(
        when(&cancelling, done).await,
        Ok(vec![ReplayEvent::Completed(Comparison::default())])
    );
}

#[tokio::test]
async fn a_plan_must_make_sense() {
    let none = ReplayPlan {
        projections: Vec::new(),
        ..plan()
    };
    let twice = ReplayPlan {
        projections: vec!["audit".parse().unwrap(), "audit".parse().unwrap()],
        ..plan()
    };
    for plan in [none, twice] {
        assert_eq!(
            when(&[], ReplayCommand::Request(Work::Rebuild(plan), None)).await,
            Err(ReplayRejection::Projections)
        );
    }
    let past = ReplayPlan {
        switch: true,
        ..inspection()
    };
    assert_eq!(
        when(&[], ReplayCommand::Request(Work::Rebuild(past), None)).await,
        Err(ReplayRejection::NotToBeSwitched)
    );
    let inspection = ReplayCommand::Request(Work::Rebuild(inspection()), None);
    assert!(when(&[], inspection).await.is_ok());
}

#[tokio::test]
async fn a_reason_is_kept_where_it_is_said() {
    let why = || Some(Text::new("to be sure").unwrap());
    let projection: ProjectionName = "audit".parse().unwrap();
    let (begun, begin) = (
        ReplayEvent::Requested {
            plan: inspection(),
            reason: why(),
        },
        ReplayCommand::Request(Work::Rebuild(inspection()), why()),
    );
    let (back, go_back) = (
        ReplayEvent::RollbackRequested {
            projection: projection.clone(),
            reason: why(),
        },
        ReplayCommand::Request(Work::RollBack(projection), why()),
    );
    let given = [requested(plan())];
    let (cancelled, cancel) = (
        ReplayEvent::CancelRequested { reason: why() },
        ReplayCommand::Cancel(why()),
    );
    for (given, command, event) in [
        (&[][..], begin, begun),
        (&[], go_back, back),
        (&given, cancel, cancelled),
    ] {
        assert_eq!(when(given, command).await, Ok(vec![event.clone()]));
        let stored = encode_event(&event).unwrap();
        assert_eq!(stored.data["reason"], "to be sure");
        assert_eq!(decode_event::<ReplayEvent>(&stored).unwrap(), event);
    }
}

#[test]
fn golden_files() {
    check_golden_files(
        ReplayEvent::WIRE,
        &[
            requested(inspection()),
            ReplayEvent::RollbackRequested {
                projection: "audit".parse().unwrap(),
                reason: None,
            },
            ReplayEvent::CancelRequested { reason: None },
            ReplayEvent::Completed(comparison()),
            ReplayEvent::Failed { reason: reason() },
            ReplayEvent::Cancelled {},
        ],
    );
}

#[test]
fn a_replay_tells_its_work_and_how_it_goes() {
    let state = |events: &[ReplayEvent]| {
        let replay = folded::<Replay>(events);
        (
            replay.work().cloned(),
            replay.is_cancelling(),
            replay.end().cloned(),
        )
    };
    let work = || Some(Work::Rebuild(plan()));
    let mut events = vec![requested(plan()), ReplayEvent::CancelRequested { reason: None }];
    assert_eq!(state(&[]), (None, false, None));
    assert_eq!(state(&events[..1]), (work(), false, None));
    assert_eq!(state(&events), (work(), true, None));
    events.push(ReplayEvent::Cancelled {});
    assert_eq!(state(&events), (work(), true, Some(ReplayEnd::Cancelled)));
    let back = ReplayEvent::RollbackRequested {
        projection: "audit".parse().unwrap(),
        reason: None,
    };
    let failed = ReplayEvent::Failed { reason: reason() };
    assert_eq!(
        state(&[back, failed]),
        (
            Some(Work::RollBack("audit".parse().unwrap())),
            false,
            Some(ReplayEnd::Failed(reason()))
        )
    );
}

#[test]
fn only_a_request_brings_a_replay_into_being() {
    assert!(Replay::creates(&ReplayCommand::Request(
        Work::Rebuild(plan()),
        None
    )));
    assert!(!Replay::creates(&ReplayCommand::Cancel(None)));
}
