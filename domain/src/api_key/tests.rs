//! Given what happened to a key, when something is asked of it, then …

use serde_json::json;
use ulid::Ulid;

use super::*;
use crate::aggregate::testing::{check_golden_files, decide, folded};
use crate::{EventRecord, decode_event, encode_event};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn after(seconds: u64) -> Timestamp {
    NOW.saturating_add(Duration::from_secs(seconds))
}

fn grants(texts: &[&str]) -> Vec<Grant> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn owner() -> KeySettings {
    KeySettings {
        name: Text::new("owner").unwrap(),
        scopes: Scopes::everything(),
        expires_at: None,
        rate_limit: None,
    }
}

fn reader() -> KeySettings {
    KeySettings {
        name: Text::new("reports").unwrap(),
        scopes: Scopes::try_from(grants(&["*.read.tenant"])).unwrap(),
        expires_at: Some(after(60)),
        rate_limit: Some(RateLimit {
            requests: Bounded::try_from(100).unwrap(),
            per_seconds: Bounded::try_from(60).unwrap(),
        }),
    }
}

fn credential(number: u128) -> CredentialId {
    CredentialId::new(Ulid(number))
}

fn rotated(generation: u32, previous_until: Timestamp) -> ApiKeyEvent {
    ApiKeyEvent::Rotated {
        generation,
        credential: credential(generation.into()),
        previous_until,
    }
}

fn by(texts: &[&str], at: Timestamp) -> By {
    By {
        at,
        grants: grants(texts),
        longest: None,
    }
}

fn issue(settings: KeySettings, own: &[&str]) -> ApiKeyCommand {
    ApiKeyCommand::Issue {
        settings,
        by: by(own, NOW),
    }
}

fn change(change: KeyChange, at: Timestamp, own: &[&str]) -> ApiKeyCommand {
    ApiKeyCommand::Change {
        change,
        by: by(own, at),
    }
}

fn rotate(number: u128, at: Timestamp, own: &[&str]) -> ApiKeyCommand {
    ApiKeyCommand::Rotate {
        credential: credential(number),
        overlap: Bounded::try_from(10).unwrap(),
        by: by(own, at),
    }
}

#[tokio::test]
async fn a_key_is_issued_once_and_revoked_once() {
    let issued = ApiKeyEvent::Issued(owner());
    let revoked = ApiKeyEvent::Revoked {};
    let decided = decide::<ApiKey>(&[], issue(owner(), &["*"])).await;
    assert_eq!(decided, Ok(vec![issued.clone()]));
    let again = decide::<ApiKey>(std::slice::from_ref(&issued), issue(owner(), &["*"])).await;
    assert_eq!(again, Err(ApiKeyRejection::AlreadyIssued));
    let decided = decide::<ApiKey>(std::slice::from_ref(&issued), ApiKeyCommand::Revoke).await;
    assert_eq!(decided, Ok(vec![revoked.clone()]));
    let again = decide::<ApiKey>(&[issued, revoked], ApiKeyCommand::Revoke).await;
    assert_eq!(again, Ok(vec![]));
    let none = decide::<ApiKey>(&[], ApiKeyCommand::Revoke).await;
    assert_eq!(none, Err(ApiKeyRejection::NotFound));
}

#[tokio::test]
async fn nobody_gives_more_than_they_have() {
    let all = ApiKeyRejection::BeyondOwn(Grant::everything());
    let some = ["users.*.tenant", "api_keys.*.tenant"];
    assert_eq!(
        decide::<ApiKey>(&[], issue(owner(), &some)).await,
        Err(all.clone())
    );
    let mut users = owner();
    users.scopes = Scopes::try_from(grants(&["users.read.team"])).unwrap();
    assert!(decide::<ApiKey>(&[], issue(users.clone(), &some)).await.is_ok());
    assert!(decide::<ApiKey>(&[], issue(users.clone(), &[])).await.is_err());

    let widen = KeyChange {
        scopes: Some(Scopes::everything()),
        ..KeyChange::default()
    };
    let given = [ApiKeyEvent::Issued(users)];
    let decided = decide::<ApiKey>(&given, change(widen, NOW, &some)).await;
    assert_eq!(decided, Err(all.clone()));

    // A key that may do more is out of reach: its new text would be theirs.
    let given = [ApiKeyEvent::Issued(owner())];
    assert_eq!(
        decide::<ApiKey>(&given, rotate(2, NOW, &some)).await,
        Err(all.clone())
    );
    let narrow = KeyChange {
        scopes: Some(Scopes::default()),
        ..KeyChange::default()
    };
    assert_eq!(
        decide::<ApiKey>(&given, change(narrow, NOW, &some)).await,
        Err(all)
    );
}

#[tokio::test]
async fn what_is_not_named_stays_and_what_is_the_same_is_no_event() {
    let given = [ApiKeyEvent::Issued(reader())];
    let rename = KeyChange {
        name: Some(Text::new("figures").unwrap()),
        rate_limit: Some(None),
        ..KeyChange::default()
    };
    let to = KeySettings {
        name: Text::new("figures").unwrap(),
        rate_limit: None,
        ..reader()
    };
    let changed = ApiKeyEvent::Changed { from: reader(), to };
    let decided = decide::<ApiKey>(&given, change(rename.clone(), NOW, &["*"])).await;
    assert_eq!(decided, Ok(vec![changed.clone()]));
    let given = [ApiKeyEvent::Issued(reader()), changed];
    assert_eq!(
        decide::<ApiKey>(&given, change(rename, NOW, &["*"])).await,
        Ok(vec![])
    );
}

#[tokio::test]
async fn an_expiry_lies_ahead_and_is_final() {
    let mut past = reader();
    past.expires_at = Some(NOW);
    assert_eq!(
        decide::<ApiKey>(&[], issue(past, &["*"])).await,
        Err(ApiKeyRejection::ExpiryPast)
    );
    let given = [ApiKeyEvent::Issued(reader())];
    let expire = |at| KeyChange {
        expires_at: Some(at),
        ..KeyChange::default()
    };
    let decided = decide::<ApiKey>(&given, change(expire(Some(after(5))), after(5), &["*"])).await;
    assert_eq!(decided, Err(ApiKeyRejection::ExpiryPast));
    assert!(
        decide::<ApiKey>(&given, change(expire(None), after(59), &["*"]))
            .await
            .is_ok()
    );
    let decided = decide::<ApiKey>(&given, change(expire(None), after(60), &["*"])).await;
    assert_eq!(decided, Err(ApiKeyRejection::Expired));
    let decided = decide::<ApiKey>(&given, rotate(2, after(60), &["*"])).await;
    assert_eq!(decided, Err(ApiKeyRejection::Expired));
    assert!(folded::<ApiKey>(&given).is_valid(after(59)) && !folded::<ApiKey>(&given).is_valid(after(60)));
}

#[tokio::test]
async fn a_key_is_valid_no_longer_than_the_settings_allow() {
    let bounded = |settings| ApiKeyCommand::Issue {
        settings,
        by: By {
            longest: Some(Bounded::try_from(1).unwrap()),
            ..by(&["*"], NOW)
        },
    };
    let day = after(86_400);
    let expiring = |expires_at| KeySettings {
        expires_at,
        ..owner()
    };
    let decided = decide::<ApiKey>(&[], bounded(expiring(None))).await;
    assert_eq!(decided, Ok(vec![ApiKeyEvent::Issued(expiring(Some(day)))]));
    let decided = decide::<ApiKey>(&[], bounded(expiring(Some(day)))).await;
    assert_eq!(decided, Ok(vec![ApiKeyEvent::Issued(expiring(Some(day)))]));
    let late = decide::<ApiKey>(&[], bounded(expiring(Some(after(86_401))))).await;
    assert_eq!(late, Err(ApiKeyRejection::ExpiryTooLate(day)));
    let never = ApiKeyCommand::Change {
        change: KeyChange {
            expires_at: Some(None),
            ..KeyChange::default()
        },
        by: By {
            longest: Some(Bounded::try_from(1).unwrap()),
            ..by(&["*"], NOW)
        },
    };
    let given = [ApiKeyEvent::Issued(expiring(Some(day)))];
    assert_eq!(
        decide::<ApiKey>(&given, never).await,
        Err(ApiKeyRejection::ExpiryTooLate(day))
    );
}

#[tokio::test]
async fn a_revoked_key_proves_nothing_and_cannot_be_changed() {
    let given = [ApiKeyEvent::Issued(owner()), ApiKeyEvent::Revoked {}];
    let key = folded::<ApiKey>(&given);
    assert!(!key.is_valid(NOW) && key.is_revoked() && key.credentials(NOW).is_empty());
    assert!(!ApiKey::default().is_valid(NOW) && folded::<ApiKey>(&given[..1]).is_valid(NOW));
    let decided = decide::<ApiKey>(&given, change(KeyChange::default(), NOW, &["*"])).await;
    assert_eq!(decided, Err(ApiKeyRejection::Revoked));
    let decided = decide::<ApiKey>(&given, rotate(2, NOW, &["*"])).await;
    assert_eq!(decided, Err(ApiKeyRejection::Revoked));
}

#[tokio::test]
async fn a_rotation_has_a_number_an_overlap_and_happens_once() {
    let issued = ApiKeyEvent::Issued(owner());
    let first = rotated(2, after(10));
    let decided = decide::<ApiKey>(std::slice::from_ref(&issued), rotate(2, NOW, &["*"])).await;
    assert_eq!(decided, Ok(vec![first.clone()]));
    let again = decide::<ApiKey>(&[issued.clone(), first.clone()], rotate(2, after(3), &["*"])).await;
    assert_eq!(again, Ok(vec![]));
    let decided = decide::<ApiKey>(&[issued, first], rotate(3, after(3), &["*"])).await;
    assert_eq!(decided, Ok(vec![rotated(3, after(13))]));
}

#[test]
fn of_the_texts_of_a_key_the_newest_is_good_and_the_one_before_for_a_while() {
    let history = [
        ApiKeyEvent::Issued(owner()),
        rotated(2, after(10)),
        rotated(3, after(20)),
    ];
    let (second, third) = (credential(2), credential(3));
    assert_eq!(folded::<ApiKey>(&history[..1]).credentials(NOW), [None]);
    assert_eq!(
        folded::<ApiKey>(&history[..2]).credentials(after(9)),
        [Some(&second), None]
    );
    assert_eq!(
        folded::<ApiKey>(&history[..2]).credentials(after(10)),
        [Some(&second)]
    );
    assert_eq!(
        folded::<ApiKey>(&history).credentials(after(9)),
        [Some(&third), Some(&second)]
    );
    assert_eq!(folded::<ApiKey>(&history).credentials(after(20)), [Some(&third)]);
    assert_eq!(folded::<ApiKey>(&history).previous_until(&third), Some(after(20)));
    assert_eq!(folded::<ApiKey>(&history).previous_until(&second), None);
}

#[test]
fn scopes_are_few_and_each_stands_once() {
    let scopes = Scopes::try_from(grants(&["users.read.tenant", "*.*.*", "users.read.tenant"])).unwrap();
    assert_eq!(scopes.as_slice().len(), 2);
    let many = |count: usize| {
        (0..count)
            .map(|n| format!("r{n}.read.own").parse().unwrap())
            .collect::<Vec<Grant>>()
    };
    assert!(Scopes::try_from(many(64)).is_ok());
    assert_eq!(Scopes::try_from(many(65)), Err(TooManyScopes));
}

#[test]
fn stored_events_decode_for_ever() {
    let changed = ApiKeyEvent::Changed {
        from: owner(),
        to: reader(),
    };
    check_golden_files(
        ApiKeyEvent::WIRE,
        &[
            ApiKeyEvent::Issued(owner()),
            changed,
            rotated(2, after(3_600)),
            ApiKeyEvent::Revoked {},
        ],
    );
}

/// Expiry and limit came later than the event: they are left out where there are none.
#[test]
fn an_issued_key_with_everything_is_read_as_it_is_written() {
    let record: EventRecord = encode_event(&ApiKeyEvent::Issued(reader())).unwrap();
    let expected = json!({
        "name": "reports", "scopes": ["*.read.tenant"], "expires_at": "2023-11-14T22:14:20.000Z",
        "rate_limit": { "requests": 100, "per_seconds": 60 }
    });
    assert_eq!(record.data, expected);
    assert_eq!(
        decode_event::<ApiKeyEvent>(&record).unwrap(),
        ApiKeyEvent::Issued(reader())
    );
}

#[test]
fn the_longest_lifetime_is_in_days() {
    let by = By {
        longest: Some(Bounded::try_from(2).unwrap()),
        ..by(&["*"], NOW)
    };
    assert_eq!(by.latest(), Some(after(2 * 86_400)));
}

#[test]
fn a_key_tells_what_it_may_do_and_whether_it_is_revoked() {
    let issued = ApiKeyEvent::Issued(reader());
    let key = folded::<ApiKey>;
    let none = key(&[]);
    assert_eq!(
        (none.scopes(), none.rate_limit(), none.is_revoked()),
        (&[][..], None, false)
    );
    assert_eq!(
        none.check_changeable(&by(&["*"], NOW)),
        Err(ApiKeyRejection::NotFound)
    );
    let valid = key(std::slice::from_ref(&issued));
    assert_eq!(
        (valid.scopes(), valid.rate_limit(), valid.is_revoked()),
        (reader().scopes.as_slice(), reader().rate_limit, false)
    );
    assert_eq!(valid.check_changeable(&by(&["*"], NOW)), Ok(()));
    let revoked = key(&[issued, ApiKeyEvent::Revoked {}]);
    assert!(revoked.is_revoked());
    assert_eq!(
        revoked.check_changeable(&by(&["*"], NOW)),
        Err(ApiKeyRejection::Revoked)
    );
}
