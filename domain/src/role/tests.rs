//! Given / when / then for roles.

use super::*;
use crate::aggregate::testing::{check_golden_files, decide};

fn id(number: u128) -> RoleId {
    RoleId::new(Ulid(number))
}

fn name(text: &str) -> RoleName {
    Text::new(text).unwrap()
}

fn grants(texts: &[&str]) -> BTreeSet<Grant> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn ids(numbers: &[u128]) -> BTreeSet<RoleId> {
    numbers.iter().copied().map(id).collect()
}

fn all() -> Vec<Grant> {
    vec![Grant::everything()]
}

fn defined(number: u128, called: &str, permissions: &[&str], inherits: &[u128]) -> RolesEvent {
    RolesEvent::Defined {
        role: id(number),
        name: name(called),
        description: None,
        permissions: grants(permissions),
        inherits: ids(inherits),
        template: None,
    }
}

fn define(number: u128, called: &str, permissions: &[&str], inherits: &[u128]) -> RolesCommand {
    RolesCommand::Define {
        id: id(number),
        name: name(called),
        description: None,
        permissions: grants(permissions),
        inherits: ids(inherits),
        within: all(),
    }
}

fn change(number: u128, change: RoleChange) -> RolesCommand {
    RolesCommand::Change {
        id: id(number),
        change,
        within: all(),
    }
}

fn inherit(number: u128, from: &[u128]) -> RolesCommand {
    change(
        number,
        RoleChange {
            inherits: Some(ids(from)),
            ..RoleChange::default()
        },
    )
}

fn rename(number: u128, to: &str) -> RolesCommand {
    change(
        number,
        RoleChange {
            name: Some(name(to)),
            ..RoleChange::default()
        },
    )
}

fn retire(number: u128) -> RolesCommand {
    RolesCommand::Retire {
        id: id(number),
        within: all(),
    }
}

/// The same command by somebody who is granted only this.
fn by(within: &[&str], mut command: RolesCommand) -> RolesCommand {
    if let RolesCommand::Define { within: all, .. }
    | RolesCommand::Change { within: all, .. }
    | RolesCommand::Retire { within: all, .. } = &mut command
    {
        *all = grants(within).into_iter().collect();
    }
    command
}

#[tokio::test]
async fn a_role_is_defined_once_and_its_name_is_its_own() {
    let reader = defined(1, "Reader", &["users.read.tenant"], &[]);
    let define_reader = define(1, "Reader", &["users.read.tenant"], &[]);
    assert_eq!(
        decide::<Roles>(&[], define_reader.clone()).await,
        Ok(vec![reader.clone()])
    );
    assert_eq!(
        decide::<Roles>(std::slice::from_ref(&reader), define_reader).await,
        Err(RolesRejection::AlreadyDefined)
    );
    let taken = Err(RolesRejection::NameTaken { by: id(1) });
    assert_eq!(
        decide::<Roles>(std::slice::from_ref(&reader), define(2, " READER", &[], &[])).await,
        taken
    );
    let other = defined(2, "Écrivain", &[], &[]);
    let history = [reader.clone(), other];
    assert_eq!(decide::<Roles>(&history, rename(2, "reader")).await, taken);
    assert_eq!(
        decide::<Roles>(&history, rename(1, "écrivain")).await,
        Err(RolesRejection::NameTaken { by: id(2) })
    );
    assert_eq!(
        decide::<Roles>(&[reader], rename(1, "READER"))
            .await
            .map(|events| events.len()),
        Ok(1),
        "its own name in another case is free for itself"
    );
}

#[tokio::test]
async fn a_change_tells_each_difference_once() {
    let history = [
        defined(1, "Reader", &["users.read.tenant"], &[]),
        defined(2, "Writer", &["users.update.tenant", "users.read.own"], &[]),
    ];
    let all = RoleChange {
        name: Some(name("Editor")),
        description: Some(Some(Text::new("Edits").unwrap())),
        permissions: Some(grants(&["users.update.tenant", "teams.read.own"])),
        inherits: Some(ids(&[1])),
    };
    let expected = vec![
        RolesEvent::Renamed {
            role: id(2),
            from: name("Writer"),
            to: name("Editor"),
        },
        RolesEvent::Described {
            role: id(2),
            from: None,
            to: Some(Text::new("Edits").unwrap()),
        },
        RolesEvent::PermissionsChanged {
            role: id(2),
            added: grants(&["teams.read.own"]),
            removed: grants(&["users.read.own"]),
        },
        RolesEvent::InheritanceChanged {
            role: id(2),
            added: ids(&[1]),
            removed: ids(&[]),
        },
    ];
    let changed = decide::<Roles>(&history, change(2, all.clone())).await;
    assert_eq!(changed, Ok(expected.clone()));
    let history = [history.to_vec(), expected].concat();
    assert_eq!(decide::<Roles>(&history, change(2, all)).await, Ok(vec![]));
    assert_eq!(
        decide::<Roles>(&history, change(9, RoleChange::default())).await,
        Err(RolesRejection::NotFound)
    );
}

#[tokio::test]
async fn inheritance_never_runs_in_a_circle() {
    let history = [
        defined(1, "1", &[], &[]),
        defined(2, "2", &[], &[1]),
        defined(3, "3", &[], &[2]),
    ];
    for (role, parent) in [(1, 3), (1, 2), (2, 3), (1, 1), (3, 3)] {
        assert_eq!(
            decide::<Roles>(&history, inherit(role, &[parent])).await,
            Err(RolesRejection::Cycle { through: id(parent) }),
            "{role} from {parent}"
        );
    }
    assert_eq!(
        decide::<Roles>(&history, define(4, "4", &[], &[4])).await,
        Err(RolesRejection::Cycle { through: id(4) })
    );
    // Two ways to the same role are no circle.
    assert!(decide::<Roles>(&history, inherit(3, &[1, 2])).await.is_ok());
    assert_eq!(
        decide::<Roles>(&history, inherit(3, &[9])).await,
        Err(RolesRejection::UnknownRole { role: id(9) })
    );
}

#[tokio::test]
async fn nobody_gives_or_touches_what_they_are_not_granted() {
    let history = [
        defined(1, "Readers", &["users.read.tenant"], &[]),
        defined(2, "All of users", &["users.*.tenant"], &[]),
        defined(3, "Heir", &[], &[2]),
    ];
    let exceeds = |text: &str| {
        Err(RolesRejection::Exceeds {
            grant: text.parse().unwrap(),
        })
    };
    let reader = ["users.read.tenant"];
    let define_own = by(&reader, define(4, "Own", &["users.read.own"], &[1]));
    assert!(decide::<Roles>(&history, define_own).await.is_ok());
    for (command, grant) in [
        (define(4, "More", &["teams.read.own"], &[]), "teams.read.own"),
        (define(4, "By inheritance", &[], &[3]), "users.*.tenant"),
        (inherit(1, &[3]), "users.*.tenant"),
        (rename(3, "Mine"), "users.*.tenant"),
        (inherit(3, &[]), "users.*.tenant"),
        (retire(3), "users.*.tenant"),
    ] {
        assert_eq!(
            decide::<Roles>(&history, by(&reader, command.clone())).await,
            exceeds(grant),
            "{command:?}"
        );
    }
    assert!(
        decide::<Roles>(&history, by(&reader, rename(1, "Mine")))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_role_is_retired_unless_others_inherit_from_it_and_its_name_is_free_again() {
    let history = [defined(1, "1", &[], &[]), defined(2, "2", &[], &[1])];
    assert_eq!(
        decide::<Roles>(&history, retire(1)).await,
        Err(RolesRejection::Inherited { by: id(2) })
    );
    let retired = RolesEvent::Retired { role: id(2) };
    assert_eq!(
        decide::<Roles>(&history, retire(2)).await,
        Ok(vec![retired.clone()])
    );
    let history = [history.to_vec(), vec![retired]].concat();
    assert_eq!(
        decide::<Roles>(&history, retire(2)).await,
        Err(RolesRejection::NotFound)
    );
    assert!(decide::<Roles>(&history, retire(1)).await.is_ok());
    assert!(decide::<Roles>(&history, define(3, "2", &[], &[])).await.is_ok());
}

#[tokio::test]
async fn the_templates_come_in_one_commit_and_stay() {
    let tenant = Ulid(7);
    let installed = decide::<Roles>(&[], RolesCommand::Install { tenant })
        .await
        .unwrap();
    assert_eq!(installed.len(), 4);
    assert_eq!(
        decide::<Roles>(&installed, RolesCommand::Install { tenant }).await,
        Ok(vec![])
    );
    let of = |template: Template| template.id(tenant);
    for template in Template::ALL {
        let retire = RolesCommand::Retire {
            id: of(template),
            within: all(),
        };
        assert_eq!(
            decide::<Roles>(&installed, retire).await,
            Err(RolesRejection::Fixed { template })
        );
    }
    let less = |template| RolesCommand::Change {
        id: of(template),
        change: RoleChange {
            permissions: Some(BTreeSet::new()),
            ..RoleChange::default()
        },
        within: all(),
    };
    assert_eq!(
        decide::<Roles>(&installed, less(Template::Owner)).await,
        Err(RolesRejection::Fixed {
            template: Template::Owner
        })
    );
    assert!(decide::<Roles>(&installed, less(Template::Member)).await.is_ok());
}

#[tokio::test]
async fn everything_is_bounded() {
    let many = |number: usize, of: usize| -> BTreeSet<Grant> {
        (0..of)
            .map(|grant| format!("r{number}.a{grant}.own").parse().unwrap())
            .collect()
    };
    let mut large = define(1, "1", &[], &[]);
    if let RolesCommand::Define { permissions, .. } = &mut large {
        *permissions = many(0, MAX_PERMISSIONS + 1);
    }
    assert_eq!(
        decide::<Roles>(&[], large.clone()).await,
        Err(RolesRejection::TooManyPermissions)
    );
    let mut largest = large;
    if let RolesCommand::Define { permissions, .. } = &mut largest {
        *permissions = many(99, MAX_PERMISSIONS);
    }
    assert!(decide::<Roles>(&[], largest.clone()).await.is_ok());
    let history: Vec<_> = (0..MAX_ROLES as u128)
        .map(|number| defined(number, &number.to_string(), &[], &[]))
        .collect();
    assert_eq!(
        decide::<Roles>(&history, define(1_000, "one more", &[], &[])).await,
        Err(RolesRejection::TooManyRoles)
    );
    let parents: Vec<_> = (0..=MAX_INHERITED as u128).collect();
    assert_eq!(
        decide::<Roles>(&history, inherit(400, &parents)).await,
        Err(RolesRejection::TooManyInherited)
    );
    assert!(
        decide::<Roles>(&history, inherit(400, &parents[1..]))
            .await
            .is_ok()
    );
    let full: Vec<_> = (0..MAX_IN_TENANT / MAX_PERMISSIONS)
        .map(|number| RolesEvent::Defined {
            role: id(number as u128),
            name: name(&number.to_string()),
            description: None,
            permissions: many(number, MAX_PERMISSIONS),
            inherits: ids(&[]),
            template: None,
        })
        .collect();
    assert_eq!(
        decide::<Roles>(&full, define(1_000, "one more", &["a.b.own"], &[])).await,
        Err(RolesRejection::TooManyInTenant)
    );
    // Where one of the largest goes, there is room for just one.
    if let RolesCommand::Define { id: of, name: is, .. } = &mut largest {
        (*of, *is) = (id(1_000), name("one more"));
    }
    assert!(decide::<Roles>(&full[1..], largest).await.is_ok());
}

#[test]
fn what_is_inherited_is_granted_through_any_number_of_roles() {
    let mut roles = Roles::default();
    for event in [
        defined(1, "1", &["a.b.own"], &[]),
        defined(2, "2", &["a.c.own"], &[1]),
        defined(3, "3", &["a.d.own"], &[2, 1]),
    ] {
        cqrs_es::Aggregate::apply(&mut roles, event);
    }
    let expected = grants(&["a.b.own", "a.c.own", "a.d.own"]);
    assert_eq!(roles.effective(&id(3)), expected.iter().collect());
    let ways: Vec<_> = roles
        .reach([&id(3)])
        .into_iter()
        .map(|(way, _)| way.len())
        .collect();
    assert_eq!(ways, [1, 2, 2]);
    let all: Vec<_> = roles.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(all, [id(1), id(2), id(3)]);
}

#[test]
fn every_template_says_what_its_role_is_for() {
    let words: BTreeSet<_> = Template::ALL.map(Template::as_str).into();
    let descriptions: BTreeSet<_> = Template::ALL.map(Template::description).into();
    assert_eq!((words.len(), descriptions.len()), (4, 4));
    for template in Template::ALL {
        assert!(template.description().ends_with('.'), "{template:?}");
        assert!(!template.permissions().is_empty(), "{template:?}");
    }
}

#[test]
fn stored_events_decode_for_ever() {
    let examples = [
        RolesEvent::Defined {
            role: id(1),
            name: name("Readers"),
            description: Some(Text::new("Read everything").unwrap()),
            permissions: grants(&["*.read.tenant", "users.update.own"]),
            inherits: ids(&[2]),
            template: Some(Template::Member),
        },
        RolesEvent::Renamed {
            role: id(1),
            from: name("Readers"),
            to: name("Members"),
        },
        RolesEvent::Described {
            role: id(1),
            from: Some(Text::new("Read everything").unwrap()),
            to: None,
        },
        RolesEvent::PermissionsChanged {
            role: id(1),
            added: grants(&["*"]),
            removed: grants(&["users.*.team"]),
        },
        RolesEvent::InheritanceChanged {
            role: id(1),
            added: ids(&[3]),
            removed: ids(&[2]),
        },
        RolesEvent::Retired { role: id(1) },
    ];
    check_golden_files(RolesEvent::WIRE, &examples);
}
