//! Two commands together: never one without the other, whatever happens in between.

use commands::{Call, ClaimKey, Dispatcher, Either, Error, Order, Receipt, Settings};
use domain::api_key::{ApiKey, ApiKeyCommand, ApiKeyRejection, By, KeySettings, Scopes};
use domain::user::{User, UserRejection};
use domain::{KeyId, Meta, TenantId, Timestamp, UserId};
use ulid::Ulid;

use crate::installation::{Installation, email, meta, register, rename, tenant, user};
use crate::wavering::{Next, Wavering};

type Outcome = Result<(Receipt, Receipt), Error<Either<ApiKeyRejection, UserRejection>>>;

/// A key and a user, which come into being together.
struct Pair {
    tenant: TenantId,
    key: KeyId,
    user: UserId,
}

impl Pair {
    fn of(tenant: &TenantId) -> Self {
        Self {
            tenant: tenant.clone(),
            key: KeyId::new(Ulid::generate()),
            user: user(),
        }
    }

    async fn begin(&self, dispatcher: &Dispatcher, address: &str, calls: [impl Into<Call>; 2]) -> Outcome {
        let [first, second] = calls;
        let key = Order::<ApiKey> {
            id: self.key.as_str(),
            command: revocable(),
            meta: first.into(),
        };
        let user = Order::<User> {
            id: self.user.as_str(),
            command: register(address),
            meta: second.into(),
        };
        dispatcher.execute_together(&self.tenant, key, user).await
    }

    /// Whether the key and the user exist; they must agree.
    async fn exist(&self, installation: &Installation) -> bool {
        let dispatcher = installation.dispatcher();
        let at_once = std::time::Duration::ZERO;
        let key = dispatcher
            .load::<ApiKey>(&self.tenant, self.key.as_str(), at_once)
            .await
            .unwrap();
        let user = installation.commits(&self.tenant, &self.user).await.len();
        assert_eq!(key.version, user as u64, "one came without the other");
        assert!(user <= 1, "it happened more than once");
        user == 1
    }
}

fn revocable() -> ApiKeyCommand {
    ApiKeyCommand::Issue {
        settings: KeySettings {
            name: domain::Text::new("together").unwrap(),
            scopes: Scopes::default(),
            expires_at: None,
            rate_limit: None,
        },
        by: By {
            at: Timestamp::default(),
            grants: Vec::new(),
            longest: None,
        },
    }
}

fn metas() -> [Meta; 2] {
    [meta("IssueApiKey"), meta("RegisterUser")]
}

/// Repeated by a process that knows only the command ids, they are answered what they were answered then.
#[tokio::test]
async fn both_repeated_happen_once() {
    let installation = Installation::new().await;
    let pair = Pair::of(&tenant());
    let calls = metas().map(|meta| Call { meta, repeated: true });
    let first = pair
        .begin(&installation.dispatcher(), "ada@example.org", calls.clone())
        .await
        .unwrap();
    let again = pair
        .begin(&installation.dispatcher(), "ada@example.org", calls)
        .await
        .unwrap();
    assert_eq!(again, first);
    assert!(pair.exist(&installation).await);
}

#[tokio::test]
async fn both_happen_side_by_side_in_the_log() {
    let installation = Installation::new().await;
    let pair = Pair::of(&tenant());
    let dispatcher = installation.dispatcher();
    let (key, user) = pair.begin(&dispatcher, "ada@example.org", metas()).await.unwrap();
    assert_eq!((key.version, user.version), (1, 1));
    // Between the two commits stands the second one's claim, and nothing else can.
    assert_eq!(user.position.sequence, key.position.sequence + 2);
    assert!(pair.exist(&installation).await);
    // What is remembered of both is what the log has: the next command needs no second try.
    let changed = dispatcher
        .execute::<User>(&pair.tenant, pair.user.as_str(), rename("B"), meta("Rename"))
        .await
        .unwrap();
    assert_eq!(changed.version, 2);
}

#[tokio::test]
async fn a_refusal_of_either_leaves_no_trace_of_the_other() {
    let installation = Installation::new().await;
    let (tenant, dispatcher) = (tenant(), installation.dispatcher());
    let first = Pair::of(&tenant);
    first
        .begin(&dispatcher, "ada@example.org", metas())
        .await
        .unwrap();

    let taken = Pair::of(&tenant);
    let outcome = taken.begin(&dispatcher, "ADA@example.org", metas()).await;
    assert!(
        matches!(outcome, Err(Error::Taken { kind: "email" })),
        "{outcome:?}"
    );
    assert!(!taken.exist(&installation).await);

    let same_user = Pair {
        user: first.user.clone(),
        ..Pair::of(&tenant)
    };
    let outcome = same_user.begin(&dispatcher, "bob@example.org", metas()).await;
    let refused = Err(Error::Rejected(Either::Second(UserRejection::AlreadyRegistered)));
    assert_eq!(format!("{outcome:?}"), format!("{:?}", refused as Outcome));

    let same_key = Pair {
        key: first.key.clone(),
        ..Pair::of(&tenant)
    };
    let outcome = same_key.begin(&dispatcher, "bob@example.org", metas()).await;
    let refused = Err(Error::Rejected(Either::First(ApiKeyRejection::AlreadyIssued)));
    assert_eq!(format!("{outcome:?}"), format!("{:?}", refused as Outcome));
    // The address is free: neither refused pair has left its claim behind.
    Pair::of(&tenant)
        .begin(&dispatcher, "bob@example.org", metas())
        .await
        .unwrap();
}

/// Another process has changed both meanwhile: what the cache remembers conflicts, and both are decided again.
#[tokio::test]
async fn a_conflict_on_either_decides_both_again() {
    let installation = Installation::new().await;
    let (here, there) = (installation.dispatcher(), installation.dispatcher());
    let pair = Pair::of(&tenant());
    pair.begin(&here, "ada@example.org", metas()).await.unwrap();
    there
        .execute::<User>(&pair.tenant, pair.user.as_str(), rename("B"), meta("Rename"))
        .await
        .unwrap();
    let revoke = Order::<ApiKey> {
        id: pair.key.as_str(),
        command: ApiKeyCommand::Revoke,
        meta: meta("RevokeApiKey").into(),
    };
    let change = Order::<User> {
        id: pair.user.as_str(),
        command: domain::user::UserCommand::Update {
            email: Some(email("ada@example.net")),
            name: None,
            attributes: None,
        },
        meta: meta("UpdateUser").into(),
    };
    let (key, user) = here.execute_together(&pair.tenant, revoke, change).await.unwrap();
    assert_eq!((key.version, user.version), (2, 3));
    assert!(user.position > key.position);
}

/// Many pairs want one address, from two processes: one pair comes into being, whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_pairs_that_race_one_wins_whole() {
    let installation = Installation::new().await;
    let tenant = tenant();
    let dispatchers = [installation.dispatcher(), installation.dispatcher()];
    let pairs: Vec<_> = (0..32).map(|_| Pair::of(&tenant)).collect();
    let racers = pairs.iter().enumerate().map(async |(number, pair)| {
        pair.begin(&dispatchers[number % 2], "ada@example.org", metas())
            .await
    });
    let outcomes = futures::future::join_all(racers).await;
    let mut won = 0;
    for (pair, outcome) in pairs.iter().zip(outcomes) {
        assert_eq!(pair.exist(&installation).await, outcome.is_ok(), "{outcome:?}");
        won += usize::from(outcome.is_ok());
    }
    assert_eq!(won, 1);
}

/// The log does not say whether it stored the two: they are there or not, but together, and saying it again under
/// the same command ids makes nothing twice.
#[tokio::test]
async fn an_unknown_outcome_is_both_or_neither() {
    let installation = Installation::new().await;
    let wavering = Wavering::default();
    let engine = wavering.over(&installation.engine);
    let settings = || Settings::new(ClaimKey::new([7; 32]));
    for (next, stored) in [(Next::LostBefore, false), (Next::LostAfter, true)] {
        let pair = Pair::of(&tenant());
        let dispatcher = Dispatcher::new(&engine, settings());
        let metas = metas();
        wavering.next(next);
        let outcome = pair.begin(&dispatcher, "ada@example.org", metas.clone()).await;
        assert!(matches!(outcome, Err(Error::Unknown(_))), "{outcome:?}");
        assert_eq!(pair.exist(&installation).await, stored);
        let again = pair.begin(&dispatcher, "ada@example.org", metas).await;
        assert_eq!(again.is_ok(), !stored, "{again:?}");
        assert!(pair.exist(&installation).await);
    }
}
