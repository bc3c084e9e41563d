//! Receipts on the embedded engine; through HTTP, on both engines, they are tested with the whole service.

use axum::response::IntoResponse;
use broker::Engine;
use broker::embedded::Embedded;
use broker::layout::{Bucket, Layout};

use super::*;

struct Installation {
    engine: Embedded,
    _folder: tempfile::TempDir,
}

impl Installation {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            engine: Embedded::open(folder.path(), Layout::default()).await.unwrap(),
            _folder: folder,
        }
    }

    /// A process's receipts.
    fn receipts(&self, run: Duration, alone: bool) -> Receipts {
        Receipts::new(Settings {
            bucket: self.engine.bucket(Bucket::Receipts),
            sealer: Sealer::new(&[1; 32]),
            hasher: KeyHasher::new([2; 32].into()),
            kept: Duration::from_mins(10),
            run,
            alone,
        })
    }
}

const LONG: Duration = Duration::from_mins(1);

async fn begin(receipts: &Receipts, body: &str) -> Begun {
    receipts
        .begin(
            &[b"caller", b"POST", b"/v1/x", b"key"],
            &[b"", b"", body.as_bytes()],
        )
        .await
        .unwrap()
}

fn ours(begun: Begun) -> Ticket {
    match begun {
        Begun::Ours(ticket) => ticket,
        other => panic!("it was {}", other.label()),
    }
}

async fn answer(body: String) -> Answer {
    Answer::take(body.into_response(), "req").await.1.unwrap()
}

#[tokio::test]
async fn a_request_runs_once_and_is_answered_the_same() {
    let installation = Installation::new().await;
    let (here, there) = (
        installation.receipts(LONG, false),
        installation.receipts(LONG, false),
    );
    let ticket = ours(begin(&here, "a").await);
    assert_eq!(begin(&there, "a").await.label(), "running");
    assert_eq!(begin(&there, "b").await.label(), "reused");
    // Longer than one value may be.
    let long = answer("x".repeat(3 * PART)).await;
    here.finish(ticket, &long).await;
    for receipts in [here, there] {
        let Begun::Answered(again) = begin(&receipts, "a").await else {
            panic!("it was answered");
        };
        assert_eq!(again, long);
        assert_eq!(begin(&receipts, "b").await.label(), "reused");
    }
}

#[tokio::test]
async fn what_was_left_open_or_too_long_is_taken_over_with_the_same_draws() {
    let installation = Installation::new().await;
    let hasty = installation.receipts(Duration::ZERO, false);
    let first = ours(begin(&hasty, "a").await);
    let second = ours(begin(&hasty, "a").await);
    assert_eq!(first.draw.ulid("user"), second.draw.ulid("user"));
    assert!(first.draw.repeats().is_none() && second.draw.repeats().is_some());
    // Who was overtaken says no more.
    hasty.finish(first, &answer("first".into()).await).await;
    hasty.leave(second).await;
    let patient = installation.receipts(LONG, false);
    let third = ours(begin(&patient, "a").await);
    patient.finish(third, &answer("third".into()).await).await;
    assert_eq!(begin(&hasty, "a").await.label(), "replayed");
}

#[tokio::test]
async fn what_the_only_process_left_running_is_over_with_it() {
    let installation = Installation::new().await;
    let before = installation.receipts(LONG, true);
    ours(begin(&before, "a").await);
    assert_eq!(begin(&before, "a").await.label(), "running");
    let after_restart = installation.receipts(LONG, true);
    assert_eq!(begin(&after_restart, "a").await.label(), "resumed");
}

#[tokio::test]
async fn neither_seed_nor_answer_can_be_read_in_the_bucket() {
    let installation = Installation::new().await;
    let receipts = installation.receipts(LONG, false);
    let ticket = ours(begin(&receipts, "a secret body").await);
    let seed = ticket.draw.seed();
    receipts
        .finish(ticket, &answer("whsec_secret".into()).await)
        .await;
    let bucket = installation.engine.bucket(Bucket::Receipts);
    let entries = bucket.scan(None).await.unwrap();
    assert_eq!(entries.len(), 1);
    for needle in [&seed[..], b"whsec_secret", b"a secret body", b"caller"] {
        let value = &entries[0].value;
        assert!(!value.windows(needle.len()).any(|window| window == needle));
    }
}
