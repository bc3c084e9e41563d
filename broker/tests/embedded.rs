//! What the embedded engine promises beyond the ports: one process to a folder, files for their owner only, and an
//! answer for the operator.

use std::time::{Duration, Instant, SystemTime};

use broker::embedded::Embedded;
use broker::layout::{Layout, Log};
use broker::{Engine, Job, NewRecord, OpenError, Severity, Subject, Token};
use bytes::Bytes;
use futures::StreamExt;

fn record(id: &str) -> NewRecord {
    NewRecord {
        subject: Subject::new("ev.t1.user.u1").expect("it is a subject"),
        message_id: id.to_owned(),
        expect: None,
        payload: Bytes::from_static(b"x"),
    }
}

#[tokio::test]
async fn a_folder_belongs_to_one_engine_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = Embedded::open(folder.path(), Layout::default()).await.unwrap();
    let refused = Embedded::open(folder.path(), Layout::default())
        .await
        .unwrap_err();
    assert!(matches!(refused, OpenError::Unfit { .. }), "{refused:?}");
    let text = refused.to_string();
    assert!(text.contains(&folder.path().display().to_string()), "{text}");
    assert!(text.contains("another tidings process is using it"), "{text}");
    first.close().await;
    Embedded::open(folder.path(), Layout::default())
        .await
        .unwrap()
        .close()
        .await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_missing_folder_is_made_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/b");
    Embedded::open(&folder, Layout::default())
        .await
        .unwrap()
        .close()
        .await;
    let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("log.db"), vec![b'x'; 8_192]).unwrap();
    let refused = Embedded::open(folder.path(), Layout::default())
        .await
        .unwrap_err();
    assert!(matches!(refused, OpenError::Unreachable { .. }), "{refused:?}");
    let text = refused.to_string();
    assert!(
        text.contains("log.db") && text.contains("tidings restore"),
        "{text}"
    );
}

#[tokio::test]
async fn a_file_whose_pages_are_damaged_is_answered_with_the_way_to_restore_it() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
    engine.close().await;
    let file = folder.path().join("log.db");
    let mut bytes = std::fs::read(&file).unwrap();
    // The head of the file stays; the first page's table of what is in it goes.
    bytes[100..2_000].fill(0);
    std::fs::write(&file, bytes).unwrap();
    let refused = Embedded::open(folder.path(), Layout::default())
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("tidings restore"), "{refused}");
}

#[tokio::test]
async fn every_finding_on_a_new_installation_is_fine() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
    let findings = engine.examine().await;
    assert!(
        findings.iter().all(|finding| finding.severity == Severity::Fine),
        "{findings:?}"
    );
    let subjects: Vec<_> = findings.iter().map(|finding| finding.subject.as_str()).collect();
    assert_eq!(
        subjects,
        [
            "journal_mode",
            "synchronous",
            "log.db",
            "EVENTS-0",
            "MESSAGES-0",
            "ATTEMPTS"
        ]
    );
    engine.close().await;
    let findings = engine.examine().await;
    assert!(
        findings
            .iter()
            .all(|finding| finding.severity == Severity::Failure),
        "{findings:?}"
    );
}

#[tokio::test]
async fn a_follower_hears_that_the_engine_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
    let log = engine.log(Log::Events(0));
    log.append(vec![record("a")]).await.unwrap();
    let mut follower = log.follow(0, None).await.unwrap();
    assert_eq!(follower.next().await.unwrap().unwrap().sequence, 1);
    engine.close().await;
    let end = tokio::time::timeout(Duration::from_secs(10), follower.next())
        .await
        .unwrap();
    assert!(matches!(end, Some(Err(_))), "{end:?}");
}

#[tokio::test]
async fn logs_added_to_the_layout_later_are_made_and_foreign_ones_refused() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
    engine
        .log(Log::Events(0))
        .append(vec![record("a")])
        .await
        .unwrap();
    assert!(
        engine
            .log(Log::Events(1))
            .append(vec![record("b")])
            .await
            .is_err()
    );
    engine.close().await;
    let layout = Layout {
        shards: 2,
        ..Layout::default()
    };
    let engine = Embedded::open(folder.path(), layout).await.unwrap();
    let placed = engine
        .log(Log::Events(1))
        .append(vec![record("a")])
        .await
        .unwrap();
    assert_eq!((placed[0].sequence, placed[0].duplicate), (1, false));
    assert_eq!(engine.log(Log::Events(0)).state().await.unwrap().last, 1);
    engine.close().await;
}

fn job(id: &str) -> Job {
    let token = |text: &str| Token::new(text).expect("it is a token");
    Job {
        id: token(id),
        tenant: token("t1"),
        lane: token("e1"),
        payload: Bytes::new(),
    }
}

/// What the process before had in hand is free at once; what waits for its time still waits.
#[tokio::test]
async fn whoever_opens_the_folder_next_need_not_wait_for_leases() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
    let later = SystemTime::now() + Duration::from_hours(1);
    let jobs = vec![(job("held"), None), (job("later"), Some(later))];
    engine.queue().enqueue(jobs).await.unwrap();
    let held = engine.queue().lease(2, Duration::from_secs(5)).await.unwrap();
    assert_eq!(held.len(), 1);
    engine.close().await;
    drop(engine);
    let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
    let queue = engine.queue();
    let again = queue.lease(2, Duration::ZERO).await.unwrap();
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!((again[0].job.id.as_str(), again[0].times), ("held", 2));
    let late = queue.settle(&held[0], broker::Settlement::Done).await;
    assert!(matches!(late, Err(broker::QueueError::LeaseLost(_))), "{late:?}");
    queue.settle(&again[0], broker::Settlement::Done).await.unwrap();
    engine.close().await;
}

#[tokio::test]
async fn a_job_leased_for_nobody_is_free_again_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
    let queue = engine.queue();
    for round in 0..30_u64 {
        let job = job(&format!("j{round}"));
        queue.enqueue(vec![(job, Some(SystemTime::now()))]).await.unwrap();
        // The worker gives up while the writer may be leasing the job for it.
        let patience = Duration::from_micros(round * 40);
        let gave_up = tokio::time::timeout(patience, queue.lease(1, Duration::from_secs(5))).await;
        let leases = if let Ok(leases) = gave_up {
            leases.unwrap()
        } else {
            let begun = Instant::now();
            let leases = queue.lease(1, Duration::from_secs(10)).await.unwrap();
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "the job had to wait for its lease to end"
            );
            leases
        };
        assert_eq!((leases.len(), leases[0].times), (1, 1));
        queue.settle(&leases[0], broker::Settlement::Done).await.unwrap();
    }
    engine.close().await;
}
