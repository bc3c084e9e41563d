use ulid::Ulid;

use super::*;
use crate::aggregate::testing::{check_golden_files, decide, folded};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_614_265_330_000 + millis)
}

fn plan() -> RecoveryPlan {
    RecoveryPlan {
        endpoint: EndpointId::new(Ulid(9)),
        since: at(0),
        until: at(3_600_000),
        event_types: vec!["invoice.*".to_owned().try_into().unwrap()],
        only: Only::Missing,
        rate: Some(20.try_into().unwrap()),
    }
}

fn progress(at_sequence: u64, enqueued: u64) -> Progress {
    Progress {
        scanned: 2 * enqueued,
        matched: enqueued,
        enqueued,
        from: 100,
        at: at_sequence,
        to: 300,
        began_at: at(0),
        told_at: at(5_000),
    }
}

fn requested() -> RecoveryEvent {
    RecoveryEvent::Requested(plan())
}

fn failed() -> RecoveryEvent {
    RecoveryEvent::Failed {
        reason: Text::new("the endpoint was removed").unwrap(),
        progress: progress(150, 25),
    }
}

async fn when(
    given: &[RecoveryEvent],
    command: RecoveryCommand,
) -> Result<Vec<RecoveryEvent>, RecoveryRejection> {
    decide::<Recovery>(given, command).await
}

#[tokio::test]
async fn a_recovery_is_asked_for_once_and_is_of_some_time() {
    let request = RecoveryCommand::Request(plan());
    assert_eq!(when(&[], request.clone()).await, Ok(vec![requested()]));
    let again = when(&[requested()], request).await;
    assert_eq!(again, Err(RecoveryRejection::AlreadyRequested));
    let of_no_time = RecoveryPlan {
        until: at(0),
        ..plan()
    };
    let refused = when(&[], RecoveryCommand::Request(of_no_time)).await;
    assert_eq!(refused, Err(RecoveryRejection::NoTime));
    let many = RecoveryPlan {
        event_types: vec![plan().event_types[0].clone(); MAX_LIST + 1],
        ..plan()
    };
    let refused = when(&[], RecoveryCommand::Request(many)).await;
    assert_eq!(refused, Err(RecoveryRejection::ListTooLong));
}

#[tokio::test]
async fn it_is_paused_and_resumed_until_it_ends() {
    let paused = [requested(), RecoveryEvent::Paused {}];
    assert_eq!(
        when(&paused[..1], RecoveryCommand::Pause).await,
        Ok(vec![RecoveryEvent::Paused {}])
    );
    assert_eq!(when(&paused, RecoveryCommand::Pause).await, Ok(vec![]));
    assert_eq!(
        when(&paused, RecoveryCommand::Resume).await,
        Ok(vec![RecoveryEvent::Resumed {}])
    );
    assert_eq!(when(&paused[..1], RecoveryCommand::Resume).await, Ok(vec![]));
    for end in [
        RecoveryEvent::Cancelled {},
        RecoveryEvent::Completed(progress(300, 100)),
        failed(),
    ] {
        for command in [
            RecoveryCommand::Pause,
            RecoveryCommand::Resume,
            RecoveryCommand::Cancel,
        ] {
            let refused = when(&[requested(), end.clone()], command).await;
            assert_eq!(refused, Err(RecoveryRejection::Ended));
        }
    }
    for command in [RecoveryCommand::Pause, RecoveryCommand::Report(progress(1, 1))] {
        assert_eq!(when(&[], command).await, Err(RecoveryRejection::NotFound));
    }
}

#[tokio::test]
async fn progress_only_grows_and_the_end_is_told_once() {
    let told = [requested(), RecoveryEvent::Progressed(progress(200, 50))];
    for late in [progress(150, 25), progress(200, 50)] {
        assert_eq!(when(&told, RecoveryCommand::Report(late)).await, Ok(vec![]));
    }
    let further = progress(200, 51);
    assert_eq!(
        when(&told, RecoveryCommand::Report(further)).await,
        Ok(vec![RecoveryEvent::Progressed(further)])
    );
    let cancelled = [requested(), RecoveryEvent::Cancelled {}];
    assert_eq!(
        when(&cancelled, RecoveryCommand::Report(further)).await,
        Ok(vec![RecoveryEvent::Progressed(further)])
    );
    assert_eq!(
        when(&cancelled, RecoveryCommand::Complete(further)).await,
        Ok(vec![])
    );
    let mut recovery = Recovery::default();
    for event in [
        requested(),
        RecoveryEvent::Paused {},
        RecoveryEvent::Completed(further),
    ] {
        recovery.take(event);
    }
    assert_eq!(
        (recovery.end(), recovery.progress()),
        (Some(&RecoveryEnd::Completed), further)
    );
}

#[test]
fn the_rest_is_estimated_from_what_is_done() {
    assert_eq!(progress(150, 25).rest(), Some(Duration::from_secs(15)));
    assert_eq!(progress(300, 25).rest(), Some(Duration::ZERO));
    assert_eq!(progress(100, 0).rest(), None);
}

#[test]
fn stored_events_decode_for_ever() {
    check_golden_files(
        RecoveryEvent::WIRE,
        &[
            requested(),
            RecoveryEvent::Paused {},
            RecoveryEvent::Resumed {},
            RecoveryEvent::Cancelled {},
            RecoveryEvent::Progressed(progress(150, 25)),
            RecoveryEvent::Completed(progress(300, 100)),
            failed(),
        ],
    );
}

#[tokio::test]
async fn as_many_types_as_a_list_holds_can_be_asked_for() {
    let many = RecoveryPlan {
        event_types: vec![plan().event_types[0].clone(); MAX_LIST],
        ..plan()
    };
    let request = RecoveryCommand::Request(many.clone());
    assert_eq!(when(&[], request).await, Ok(vec![RecoveryEvent::Requested(many)]));
}

#[tokio::test]
async fn one_that_has_not_ended_ends_as_is_told() {
    let whole = progress(300, 100);
    let paused = [requested(), RecoveryEvent::Paused {}];
    for given in [&paused[..1], &paused] {
        assert_eq!(
            when(given, RecoveryCommand::Complete(whole)).await,
            Ok(vec![RecoveryEvent::Completed(whole)])
        );
        let fail = RecoveryCommand::Fail {
            reason: Text::new("the endpoint was removed").unwrap(),
            progress: progress(150, 25),
        };
        assert_eq!(when(given, fail).await, Ok(vec![failed()]));
    }
}

#[test]
fn a_recovery_tells_its_plan_and_whether_it_stands_still() {
    let state = |events: &[RecoveryEvent]| {
        let recovery = folded::<Recovery>(events);
        (recovery.plan().cloned(), recovery.is_paused())
    };
    let mut events = vec![requested(), RecoveryEvent::Paused {}];
    assert_eq!(state(&[]), (None, false));
    assert_eq!(state(&events[..1]), (Some(plan()), false));
    assert_eq!(state(&events), (Some(plan()), true));
    events.push(RecoveryEvent::Resumed {});
    assert_eq!(state(&events), (Some(plan()), false));
}

#[test]
fn only_a_request_brings_a_recovery_into_being() {
    assert!(Recovery::creates(&RecoveryCommand::Request(plan())));
    assert!(!Recovery::creates(&RecoveryCommand::Cancel));
}
