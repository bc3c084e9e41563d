//! Given / when / then for users.

use serde_json::json;
use ulid::Ulid;

use super::*;
use crate::aggregate::testing::{check_golden_files, decide};

fn email(text: &str) -> Email {
    Email::try_from(text.to_owned()).unwrap()
}

fn name(text: &str) -> UserName {
    Text::new(text).unwrap()
}

fn map(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap()
}

fn attributes(value: Value) -> Attributes {
    map(value).try_into().unwrap()
}

fn role(number: u128) -> RoleId {
    RoleId::new(Ulid(number))
}

fn permission() -> Permission {
    "users.read.tenant".parse().unwrap()
}

fn register() -> UserCommand {
    UserCommand::Register {
        email: email("ada@example.org"),
        name: name("Ada"),
        attributes: Attributes::default(),
        roles: BTreeSet::new(),
    }
}

fn registered() -> UserEvent {
    UserEvent::Registered {
        email: email("ada@example.org"),
        name: name("Ada"),
        attributes: Attributes::default(),
        roles: BTreeSet::new(),
    }
}

fn email_changed() -> UserEvent {
    UserEvent::EmailChanged {
        from: email("ada@example.org"),
        to: email("ada@example.net"),
    }
}

fn renamed() -> UserEvent {
    UserEvent::Renamed {
        from: name("Ada"),
        to: name("Ada Lovelace"),
    }
}

fn deactivated() -> UserEvent {
    UserEvent::Deactivated {
        reason: Some(Text::new("Left the company").unwrap()),
    }
}

fn removed() -> UserEvent {
    UserEvent::Removed {
        email: email("ada@example.org"),
    }
}

fn update(patch: Value) -> UserCommand {
    UserCommand::Update {
        email: None,
        name: None,
        attributes: Some(map(patch)),
    }
}

fn set(effect: Effect) -> UserCommand {
    UserCommand::SetPermission {
        permission: permission(),
        effect,
    }
}

fn preferences() -> Preferences {
    map(json!({ "theme": "dark" })).try_into().unwrap()
}

#[tokio::test]
async fn a_user_is_registered_once() {
    assert_eq!(decide::<User>(&[], register()).await, Ok(vec![registered()]));
    for history in [&[registered()][..], &[registered(), removed()]] {
        assert_eq!(
            decide::<User>(history, register()).await,
            Err(UserRejection::AlreadyRegistered)
        );
    }
}

#[tokio::test]
async fn a_user_can_have_roles_and_attributes_from_the_start() {
    let register = UserCommand::Register {
        email: email("ada@example.org"),
        name: name("Ada"),
        attributes: attributes(json!({ "team": "engines" })),
        roles: BTreeSet::from([role(1)]),
    };
    let history = decide::<User>(&[], register.clone()).await.unwrap();
    let again = UserCommand::GrantRole { role: role(1) };
    assert_eq!(decide::<User>(&history, again).await, Ok(vec![]));
    assert_eq!(
        decide::<User>(&history, update(json!({ "team": "engines" }))).await,
        Ok(vec![])
    );
    let UserCommand::Register {
        email,
        name,
        attributes,
        ..
    } = register
    else {
        unreachable!()
    };
    let with = |number: usize| UserCommand::Register {
        email: email.clone(),
        name: name.clone(),
        attributes: attributes.clone(),
        roles: (0..number as u128).map(role).collect(),
    };
    assert!(decide::<User>(&[], with(MAX_ROLES)).await.is_ok());
    let many = decide::<User>(&[], with(MAX_ROLES + 1)).await;
    assert_eq!(many, Err(UserRejection::TooManyRoles));
}

#[tokio::test]
async fn an_update_tells_each_change_once() {
    let update = UserCommand::Update {
        email: Some(email("ada@example.net")),
        name: Some(name("Ada Lovelace")),
        attributes: None,
    };
    let changes = vec![email_changed(), renamed()];
    assert_eq!(decide::<User>(&[registered()], update.clone()).await, Ok(changes));
    let history = [registered(), email_changed(), renamed()];
    assert_eq!(decide::<User>(&history, update.clone()).await, Ok(vec![]));
    assert_eq!(decide::<User>(&[], update).await, Err(UserRejection::NotFound));
}

#[tokio::test]
async fn attributes_are_merged_and_the_event_tells_old_and_new() {
    let first = decide::<User>(&[registered()], update(json!({ "a": 1, "b": { "c": 2 } })))
        .await
        .unwrap();
    let history = [vec![registered()], first].concat();
    let changed = UserEvent::AttributesChanged {
        from: attributes(json!({ "a": 1, "b": { "c": 2 } })),
        to: attributes(json!({ "b": { "c": 2, "d": 3 } })),
    };
    let patch = update(json!({ "a": null, "b": { "d": 3 } }));
    assert_eq!(
        decide::<User>(&history, patch.clone()).await,
        Ok(vec![changed.clone()])
    );
    let history = [history, vec![changed]].concat();
    assert_eq!(decide::<User>(&history, patch).await, Ok(vec![]));
    let many: Map<_, _> = (0..64).map(|number| (format!("key{number}"), json!(1))).collect();
    assert_eq!(
        decide::<User>(&history, update(Value::Object(many))).await,
        Err(UserRejection::Attributes(InvalidProperties::TooManyKeys {
            max: 64
        })),
        "with the one that is there they are 65"
    );
}

#[tokio::test]
async fn a_user_is_deactivated_and_reactivated() {
    let deactivate = UserCommand::Deactivate {
        reason: Some(Text::new("Left the company").unwrap()),
    };
    let history = [registered(), deactivated()];
    assert_eq!(
        decide::<User>(&[registered()], deactivate.clone()).await,
        Ok(vec![deactivated()])
    );
    assert_eq!(decide::<User>(&history, deactivate).await, Ok(vec![]));
    assert_eq!(
        decide::<User>(&history, UserCommand::Reactivate).await,
        Ok(vec![UserEvent::Reactivated {}])
    );
    assert_eq!(
        decide::<User>(&[registered()], UserCommand::Reactivate).await,
        Ok(vec![])
    );
}

#[tokio::test]
async fn a_deactivated_user_is_put_right_and_loses_rights_but_gains_none() {
    let granted = UserEvent::RoleGranted { role: role(1) };
    let history = [registered(), granted, deactivated()];
    for gain in [
        UserCommand::GrantRole { role: role(2) },
        set(Effect::Allow),
        UserCommand::ClearPermission {
            permission: permission(),
        },
        UserCommand::SetPreferences {
            preferences: preferences(),
        },
    ] {
        assert_eq!(
            decide::<User>(&history, gain).await,
            Err(UserRejection::Deactivated)
        );
    }
    for loss in [
        UserCommand::RevokeRole { role: role(1) },
        set(Effect::Deny),
        update(json!({ "left": true })),
        UserCommand::Remove,
    ] {
        assert_eq!(
            decide::<User>(&history, loss).await.map(|events| events.len()),
            Ok(1)
        );
    }
}

#[tokio::test]
async fn a_removed_user_takes_no_more_commands() {
    assert_eq!(
        decide::<User>(&[registered()], UserCommand::Remove).await,
        Ok(vec![removed()])
    );
    for command in [
        UserCommand::Remove,
        UserCommand::Reactivate,
        UserCommand::Deactivate { reason: None },
        update(json!({ "a": 1 })),
        UserCommand::RevokeRole { role: role(1) },
        set(Effect::Deny),
    ] {
        assert_eq!(
            decide::<User>(&[registered(), removed()], command).await,
            Err(UserRejection::Removed)
        );
    }
}

#[tokio::test]
async fn roles_are_granted_and_revoked_once() {
    let granted = UserEvent::RoleGranted { role: role(1) };
    let revoked = UserEvent::RoleRevoked { role: role(1) };
    let (grant, revoke) = (
        UserCommand::GrantRole { role: role(1) },
        UserCommand::RevokeRole { role: role(1) },
    );
    assert_eq!(
        decide::<User>(&[registered()], grant.clone()).await,
        Ok(vec![granted.clone()])
    );
    let history = [registered(), granted];
    assert_eq!(decide::<User>(&history, grant).await, Ok(vec![]));
    assert_eq!(decide::<User>(&history, revoke.clone()).await, Ok(vec![revoked]));
    assert_eq!(decide::<User>(&[registered()], revoke).await, Ok(vec![]));
    let mut full = vec![registered()];
    full.extend((0..MAX_ROLES as u128).map(|number| UserEvent::RoleGranted { role: role(number) }));
    let more = UserCommand::GrantRole { role: role(99) };
    assert_eq!(
        decide::<User>(&full, more).await,
        Err(UserRejection::TooManyRoles)
    );
}

#[tokio::test]
async fn a_permission_is_allowed_denied_and_left_to_the_roles() {
    let set_to = |effect, was| UserEvent::PermissionSet {
        permission: permission(),
        effect,
        was,
    };
    let clear = UserCommand::ClearPermission {
        permission: permission(),
    };
    let mut history = vec![registered()];
    assert_eq!(decide::<User>(&history, clear.clone()).await, Ok(vec![]));
    for (effect, was) in [(Effect::Allow, None), (Effect::Deny, Some(Effect::Allow))] {
        assert_eq!(
            decide::<User>(&history, set(effect)).await,
            Ok(vec![set_to(effect, was)])
        );
        history.push(set_to(effect, was));
        assert_eq!(decide::<User>(&history, set(effect)).await, Ok(vec![]));
    }
    let cleared = UserEvent::PermissionCleared {
        permission: permission(),
        was: Effect::Deny,
    };
    assert_eq!(decide::<User>(&history, clear).await, Ok(vec![cleared]));
    let other = |number: usize| format!("thing{number}.read.own").parse().unwrap();
    history.extend((1..MAX_PERMISSIONS).map(|number| UserEvent::PermissionSet {
        permission: other(number),
        effect: Effect::Allow,
        was: None,
    }));
    let more = UserCommand::SetPermission {
        permission: other(MAX_PERMISSIONS),
        effect: Effect::Allow,
    };
    assert_eq!(
        decide::<User>(&history, more).await,
        Err(UserRejection::TooManyPermissions)
    );
    assert_eq!(
        decide::<User>(&history, set(Effect::Allow))
            .await
            .map(|events| events.len()),
        Ok(1),
        "one that is there can still be changed"
    );
}

#[tokio::test]
async fn preferences_are_replaced_as_a_whole() {
    let set = UserCommand::SetPreferences {
        preferences: preferences(),
    };
    let changed = UserEvent::PreferencesChanged {
        from: Some(Preferences::default()),
        to: preferences(),
    };
    assert_eq!(
        decide::<User>(&[registered()], set.clone()).await,
        Ok(vec![changed.clone()])
    );
    assert_eq!(decide::<User>(&[registered(), changed], set).await, Ok(vec![]));
}

#[test]
fn an_address_is_claimed_folded_and_released_when_it_changes_or_its_user_goes() {
    let take = |value: &str| Claim::Take {
        kind: "email",
        value: value.to_owned(),
    };
    let released = Claim::Release {
        kind: "email",
        value: "ada@example.org".to_owned(),
    };
    assert_eq!(User::claims(&registered()), vec![take("ada@example.org")]);
    assert_eq!(
        User::claims(&email_changed()),
        vec![released.clone(), take("ada@example.net")]
    );
    let same = UserEvent::EmailChanged {
        from: email("ada@example.org"),
        to: email("ADA@example.org"),
    };
    assert_eq!(User::claims(&same), vec![]);
    let removed = UserEvent::Removed {
        email: email("ADA@example.org"),
    };
    assert_eq!(User::claims(&removed), vec![released]);
}

#[test]
fn stored_events_decode_for_ever() {
    let examples = [
        registered(),
        email_changed(),
        renamed(),
        UserEvent::AttributesChanged {
            from: attributes(json!({ "a": 1 })),
            to: attributes(json!({ "b": { "c": [true, null, "x", 1.5] } })),
        },
        UserEvent::PreferencesChanged {
            from: None,
            to: preferences(),
        },
        deactivated(),
        UserEvent::Reactivated {},
        removed(),
        UserEvent::RoleGranted { role: role(1) },
        UserEvent::RoleRevoked { role: role(1) },
        UserEvent::PermissionSet {
            permission: permission(),
            effect: Effect::Deny,
            was: None,
        },
        UserEvent::PermissionCleared {
            permission: permission(),
            was: Effect::Allow,
        },
    ];
    check_golden_files(UserEvent::WIRE, &examples);
    // What was added to the first schema is left out where it is empty, and kept where it is not.
    let full = UserEvent::Registered {
        email: email("ada@example.org"),
        name: name("Ada"),
        attributes: attributes(json!({ "a": 1 })),
        roles: BTreeSet::from([role(1)]),
    };
    let record = crate::encode_event(&full).unwrap();
    assert_eq!(crate::decode_event::<UserEvent>(&record).unwrap(), full);
}

#[test]
fn only_a_registration_brings_a_user_into_being() {
    assert!(User::creates(&register()));
    assert!(!User::creates(&UserCommand::Remove));
}
