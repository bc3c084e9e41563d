//! Loading aggregates: snapshots, and the event store as `cqrs_es` sees it.

use std::collections::BTreeSet;
use std::time::Duration;

use broker::layout::Bucket;
use broker::{Entry, Expect, Subject};
use domain::user::{Attributes, User};
use domain::{Meta, TenantId, Text, UserId};
use ulid::Ulid;

use crate::installation::{Installation, email, meta, register, rename, tenant, user};

/// The snapshot of a user, once it is taken.
async fn snapshot(installation: &Installation, tenant: &TenantId, user: &UserId) -> Entry {
    let bucket = installation.engine.bucket(Bucket::Snapshots);
    let key = Subject::new(format!("{tenant}.user.{user}")).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(entry) = bucket.get(&key).await.unwrap() {
            return entry;
        }
        assert!(std::time::Instant::now() < deadline, "no snapshot was taken");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A long history loads from its snapshot, and a snapshot that does not fit is passed over, whatever it says.
#[tokio::test]
async fn a_long_history_is_loaded_from_a_snapshot_that_fits() {
    let installation = Installation::new().await;
    let (dispatcher, tenant, user) = (installation.dispatcher(), tenant(), user());
    let id = user.as_str();
    dispatcher
        .execute::<User>(&tenant, id, register("ada@example.org"), meta("Register"))
        .await
        .unwrap();
    for number in 0..600 {
        let command = rename(&format!("name {number}"));
        dispatcher
            .execute::<User>(&tenant, id, command, meta("Rename"))
            .await
            .unwrap();
    }
    let entry = snapshot(&installation, &tenant, &user).await;
    let load_with = async |spoil: &dyn Fn(&mut serde_json::Value)| {
        let mut stored: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
        spoil(&mut stored);
        let value = serde_json::to_vec(&stored).unwrap().into();
        let bucket = installation.engine.bucket(Bucket::Snapshots);
        bucket
            .put(&entry.key, value, Expect::Anything, None)
            .await
            .unwrap();
        installation
            .dispatcher()
            .load::<User>(&tenant, id, Duration::ZERO)
            .await
    };
    // That it is used shows where its word is taken: a version too high leaves a gap to the next record.
    assert!(
        load_with(&|stored| stored["version"] = 9_999.into())
            .await
            .is_err()
    );
    assert_eq!(load_with(&|_| {}).await.unwrap().version, 601);
    // Another hash, another fold, a record that is not there: the history is folded from its beginning.
    for field in [
        ("hash", "ab".repeat(32).into()),
        ("fold", 9_999.into()),
        ("sequence", 1_000_000.into()),
    ] {
        let spoil = |stored: &mut serde_json::Value| {
            stored["version"] = 9_999.into();
            stored[field.0] = serde_json::Value::clone(&field.1);
        };
        assert_eq!(
            load_with(&spoil).await.unwrap().version,
            601,
            "with another {}",
            field.0
        );
    }
}

/// `cqrs_es` itself can drive the store.
#[tokio::test]
async fn the_event_store_keeps_its_contract() {
    use cqrs_es::EventStore;
    let installation = Installation::new().await;
    let (tenant, user) = (tenant(), user());
    let store = installation.dispatcher().store(&tenant);
    let registered = domain::user::UserEvent::Registered {
        email: email("ada@example.org"),
        name: Text::new("Ada").unwrap(),
        attributes: Attributes::default(),
        roles: BTreeSet::new(),
    };
    let metadata = [(
        "meta".to_owned(),
        serde_json::to_string(&meta("Register")).unwrap(),
    )]
    .into_iter()
    .collect();
    let fresh = EventStore::<User>::load_aggregate(&store, user.as_str())
        .await
        .unwrap();
    let stale = fresh.clone();
    let stored = store
        .commit(vec![registered.clone()], fresh, metadata)
        .await
        .unwrap();
    let metadata = stored[0].metadata.clone();
    let again = EventStore::<User>::commit(&store, vec![registered.clone()], stale, {
        let mut other: Meta = serde_json::from_str(&metadata["meta"]).unwrap();
        other.command_id = Ulid::generate().to_string();
        [("meta".to_owned(), serde_json::to_string(&other).unwrap())]
            .into_iter()
            .collect()
    })
    .await;
    assert!(
        matches!(again, Err(cqrs_es::AggregateError::AggregateConflict)),
        "{again:?}"
    );
    let loaded = EventStore::<User>::load_events(&store, user.as_str())
        .await
        .unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!((loaded[0].sequence, &loaded[0].payload), (1, &registered));
}
