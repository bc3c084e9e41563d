mod largest;
mod stored;

use cqrs_es::Aggregate;
use ulid::Ulid;

use super::*;
use crate::aggregate::testing::decide;

fn team(number: u128) -> TeamId {
    TeamId::new(Ulid(number))
}

fn user(number: u128) -> UserId {
    UserId::new(Ulid(number))
}

fn name(text: &str) -> TeamName {
    Text::new(text).unwrap()
}

fn created(number: u128, text: &str, parent: Option<u128>) -> TeamsEvent {
    TeamsEvent::Created {
        team: team(number),
        name: name(text),
        parent: parent.map(team),
        description: None,
    }
}

fn added(number: u128, members: &[(u128, TeamRole)]) -> TeamsEvent {
    TeamsEvent::MembersAdded {
        team: team(number),
        members: memberships(members),
    }
}

fn memberships(members: &[(u128, TeamRole)]) -> Vec<Membership> {
    let membership = |(id, role): &(u128, TeamRole)| Membership {
        user: user(*id),
        role: *role,
    };
    members.iter().map(membership).collect()
}

fn create(number: u128, text: &str, parent: Option<u128>) -> TeamsCommand {
    TeamsCommand::Create {
        id: team(number),
        name: name(text),
        parent: parent.map(team),
        description: None,
        max_depth: 3,
    }
}

fn relocate(number: u128, parent: Option<u128>) -> TeamsCommand {
    TeamsCommand::Move {
        id: team(number),
        parent: parent.map(team),
        max_depth: 3,
    }
}

fn merge(number: u128, into: u128) -> TeamsCommand {
    TeamsCommand::Merge {
        id: team(number),
        into: team(into),
        max_depth: 3,
    }
}

fn rename(number: u128, text: &str) -> TeamsCommand {
    TeamsCommand::Change {
        id: team(number),
        name: Some(name(text)),
        description: None,
    }
}

/// 1 Sales → 2 Europe → 3 Nordics; 4 Support.
fn tree() -> Vec<TeamsEvent> {
    vec![
        created(1, "Sales", None),
        created(2, "Europe", Some(1)),
        created(3, "Nordics", Some(2)),
        created(4, "Support", None),
    ]
}

fn after(history: &[TeamsEvent]) -> Teams {
    let mut teams = Teams::default();
    for event in history {
        teams.apply(event.clone());
    }
    teams
}

async fn when(given: &[TeamsEvent], command: TeamsCommand) -> Result<Vec<TeamsEvent>, TeamsRejection> {
    decide::<Teams>(given, command).await
}

fn taken(text: &str, by: u128) -> Result<Vec<TeamsEvent>, TeamsRejection> {
    Err(TeamsRejection::NameTaken {
        name: name(text),
        by: team(by),
    })
}

#[tokio::test]
async fn a_name_is_one_teams_own_under_its_parent_whatever_its_case() {
    assert_eq!(when(&tree(), create(9, "SALES", None)).await, taken("SALES", 1));
    let elsewhere = when(&tree(), create(9, "Sales", Some(4))).await;
    assert_eq!(elsewhere, Ok(vec![created(9, "Sales", Some(4))]));
    assert_eq!(when(&tree(), rename(4, "sales")).await, taken("sales", 1));
    let own = TeamsEvent::Renamed {
        team: team(1),
        from: name("Sales"),
        to: name("SALES"),
    };
    assert_eq!(when(&tree(), rename(1, "SALES")).await, Ok(vec![own]));
    assert_eq!(when(&tree(), rename(1, "Sales")).await, Ok(vec![]));
}

#[tokio::test]
async fn a_name_is_free_again_after_each_way_a_team_leaves_it() {
    let gone = [
        TeamsEvent::Renamed {
            team: team(4),
            from: name("Support"),
            to: name("Help"),
        },
        TeamsEvent::Moved {
            team: team(4),
            from: None,
            to: Some(team(1)),
        },
        TeamsEvent::Merged {
            team: team(4),
            into: team(1),
        },
        TeamsEvent::Retired { team: team(4) },
    ];
    assert_eq!(
        when(&tree(), create(9, "Support", None)).await,
        taken("Support", 4)
    );
    for event in gone {
        let history = [tree(), vec![event.clone()]].concat();
        assert!(
            when(&history, create(9, "Support", None)).await.is_ok(),
            "after {event:?}"
        );
    }
}

#[tokio::test]
async fn the_tree_stays_as_shallow_as_the_tenant_allows() {
    let deep = Err(TeamsRejection::TooDeep { limit: 3 });
    assert_eq!(when(&tree(), create(9, "Oslo", Some(3))).await, deep);
    assert_eq!(when(&tree(), relocate(1, Some(4))).await, deep);
    assert!(when(&tree(), relocate(2, Some(4))).await.is_ok());
    let below = [
        tree(),
        vec![created(5, "Desk", Some(4)), created(6, "Night", Some(5))],
    ]
    .concat();
    assert_eq!(when(&below, merge(4, 2)).await, deep);
    assert!(when(&below, merge(4, 1)).await.is_ok());
    let lower = [below, vec![created(7, "Shift", Some(6))]].concat();
    assert_eq!(when(&lower, merge(4, 1)).await, deep);
    // What nothing stands below goes even where the tenant allows no team any more.
    let beneath = [tree(), vec![created(5, "Oslo", Some(3))]].concat();
    assert!(when(&beneath, merge(4, 5)).await.is_ok());
    let beyond = TeamsCommand::Create {
        id: team(99),
        name: name("x"),
        parent: Some(team(MAX_DEPTH as u128)),
        description: None,
        max_depth: usize::MAX,
    };
    let chain: Vec<_> = (1..=MAX_DEPTH as u128)
        .map(|number| created(number, "x", (number > 1).then(|| number - 1)))
        .collect();
    assert_eq!(
        when(&chain, beyond).await,
        Err(TeamsRejection::TooDeep { limit: MAX_DEPTH })
    );
}

#[tokio::test]
async fn no_team_stands_below_itself() {
    assert_eq!(
        when(&tree(), relocate(1, Some(1))).await,
        Err(TeamsRejection::Cycle)
    );
    assert_eq!(
        when(&tree(), relocate(1, Some(3))).await,
        Err(TeamsRejection::Cycle)
    );
    assert_eq!(when(&tree(), merge(1, 2)).await, Err(TeamsRejection::Cycle));
    assert_eq!(when(&tree(), merge(1, 1)).await, Err(TeamsRejection::Cycle));
    let moved = TeamsEvent::Moved {
        team: team(2),
        from: Some(team(1)),
        to: None,
    };
    assert_eq!(when(&tree(), relocate(2, None)).await, Ok(vec![moved]));
    assert_eq!(when(&tree(), relocate(2, Some(1))).await, Ok(vec![]));
    let unknown = Err(TeamsRejection::UnknownParent { team: team(8) });
    assert_eq!(when(&tree(), relocate(2, Some(8))).await, unknown);
    assert_eq!(
        when(&tree(), relocate(8, None)).await,
        Err(TeamsRejection::NotFound)
    );
}

#[tokio::test]
async fn a_merge_takes_everybody_and_the_stronger_role_stays() {
    use TeamRole::{Lead, Member};
    let mut history = tree();
    history.extend([
        added(2, &[(1, Lead), (2, Member), (3, Lead)]),
        added(4, &[(1, Member), (2, Lead), (4, Member)]),
    ]);
    let merged = TeamsEvent::Merged {
        team: team(2),
        into: team(4),
    };
    assert_eq!(when(&history, merge(2, 4)).await, Ok(vec![merged.clone()]));
    history.push(merged);
    let teams = after(&history);
    let roles: Vec<_> = teams.teams[&team(4)].members.iter().collect();
    let expected = [(1, Lead), (2, Lead), (3, Lead), (4, Member)].map(|(id, role)| (user(id), role));
    assert_eq!(
        roles,
        expected.iter().map(|(id, role)| (id, role)).collect::<Vec<_>>()
    );
    assert_eq!(teams.teams[&team(3)].parent, Some(team(4)));
    assert!(!teams.teams.contains_key(&team(2)));
}

#[tokio::test]
async fn a_merge_names_the_children_that_clash_and_not_the_team_itself() {
    let clash = [tree(), vec![created(5, "NORDICS", Some(4))]].concat();
    let names = vec![name("Nordics")];
    assert_eq!(
        when(&clash, merge(2, 4)).await,
        Err(TeamsRejection::ChildNamesTaken { names })
    );
    // The merged team's own name is free in the same moment: its child can have it.
    let heir = [tree(), vec![created(5, "Europe", Some(2))]].concat();
    assert!(when(&heir, merge(2, 1)).await.is_ok());
}

#[tokio::test]
async fn a_split_takes_members_and_children_along_and_stands_beside() {
    use TeamRole::{Lead, Member};
    let history = [tree(), vec![added(2, &[(1, Lead), (2, Member)])]].concat();
    let split = |text: &str, members: &[u128], children: &[u128]| TeamsCommand::Split {
        id: team(2),
        new: team(9),
        name: name(text),
        members: members.iter().copied().map(user).collect(),
        children: children.iter().copied().map(team).collect(),
    };
    let happened = TeamsEvent::Split {
        team: team(2),
        new: team(9),
        name: name("North"),
        parent: Some(team(1)),
        members: vec![user(1)],
        children: vec![team(3)],
    };
    let decided = when(&history, split("North", &[1, 1], &[3])).await;
    assert_eq!(decided, Ok(vec![happened.clone()]));
    let teams = after(&[history.clone(), vec![happened]].concat());
    assert_eq!(*teams.teams[&team(9)].members, Roster::from([(user(1), Lead)]));
    assert_eq!(*teams.teams[&team(2)].members, Roster::from([(user(2), Member)]));
    assert_eq!(teams.teams[&team(3)].parent, Some(team(9)));
    assert_eq!(
        when(&history, split("EUROPE", &[], &[])).await,
        taken("EUROPE", 2)
    );
    let stranger = Err(TeamsRejection::NotAMember { user: user(7) });
    assert_eq!(when(&history, split("North", &[7], &[])).await, stranger);
    let foreign = Err(TeamsRejection::NotAChild { team: team(4) });
    assert_eq!(when(&history, split("North", &[], &[4])).await, foreign);
}

#[tokio::test]
async fn members_are_added_once_and_change_their_role() {
    use TeamRole::{Lead, Member};
    let add = |members: &[(u128, TeamRole)]| TeamsCommand::AddMembers {
        id: team(1),
        members: memberships(members),
    };
    let history = [tree(), vec![added(1, &[(1, Member), (2, Member)])]].concat();
    let changed = TeamsEvent::MemberRoleChanged {
        team: team(1),
        user: user(2),
        from: Member,
        to: Lead,
    };
    let decided = when(&history, add(&[(1, Member), (2, Lead), (3, Member)])).await;
    assert_eq!(decided, Ok(vec![changed, added(1, &[(3, Member)])]));
    let remove = |users: &[u128]| TeamsCommand::RemoveMembers {
        id: team(1),
        users: users.iter().copied().map(user).collect(),
    };
    let removed = TeamsEvent::MembersRemoved {
        team: team(1),
        users: vec![user(1)],
        members: vec![Membership {
            user: user(1),
            role: Member,
        }],
    };
    assert_eq!(when(&history, remove(&[1])).await, Ok(vec![removed]));
    let stranger = Err(TeamsRejection::NotAMember { user: user(3) });
    assert_eq!(when(&history, remove(&[3])).await, stranger);
}

#[tokio::test]
async fn a_team_with_children_is_retired_only_with_them_the_lowest_first() {
    let retire = |recursive| TeamsCommand::Retire {
        id: team(1),
        recursive,
    };
    assert_eq!(
        when(&tree(), retire(false)).await,
        Err(TeamsRejection::HasChildren)
    );
    let retired = [3, 2, 1].map(|number| TeamsEvent::Retired { team: team(number) });
    assert_eq!(when(&tree(), retire(true)).await, Ok(retired.to_vec()));
}

#[tokio::test]
async fn a_team_that_nothing_stands_below_is_retired_alone() {
    let retire = TeamsCommand::Retire {
        id: team(3),
        recursive: false,
    };
    let retired = TeamsEvent::Retired { team: team(3) };
    assert_eq!(when(&tree(), retire).await, Ok(vec![retired]));
}
