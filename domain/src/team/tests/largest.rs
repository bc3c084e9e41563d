//! The most that a tenant's teams can be.

use super::super::kept::ROOM;
use super::*;
use crate::aggregate::encode_event;

/// The largest state a tenant can have: names of four-byte characters, and every membership used.
fn full() -> Teams {
    let mut teams = Teams::default();
    let id = |number: usize| Ulid(u128::MAX / 8 - number as u128);
    let per_team = MAX_MEMBERSHIPS / MAX_TEAMS;
    for number in 0..MAX_TEAMS {
        let own = TeamId::new(id(number));
        teams.apply(TeamsEvent::Created {
            team: own.clone(),
            name: name(&"🦀".repeat(100)),
            parent: (number > 0).then(|| TeamId::new(id(number - 1))),
            description: None,
        });
        let members = (0..per_team).map(|member| Membership {
            user: UserId::new(id(number * per_team + member)),
            role: if member % 2 == 0 {
                TeamRole::Lead
            } else {
                TeamRole::Member
            },
        });
        teams.apply(TeamsEvent::MembersAdded {
            team: own,
            members: members.collect(),
        });
    }
    teams
}

#[test]
fn the_largest_state_fits_into_a_snapshot_and_comes_back_whole() {
    let teams = full();
    assert_eq!(
        (teams.teams.len(), teams.memberships()),
        (MAX_TEAMS, MAX_MEMBERSHIPS)
    );
    let stored = serde_json::to_vec(&teams).unwrap();
    assert!(stored.len() <= ROOM, "{} bytes", stored.len());
    let mut back: Teams = serde_json::from_slice(&stored).unwrap();
    for (team, before) in back.teams.values_mut().zip(teams.teams.values()) {
        // There is no room for what they are for.
        team.description = team.description.take().or_else(|| before.description.clone());
    }
    assert_eq!(back, teams);
}

#[tokio::test]
async fn what_a_team_was_for_is_told_as_long_as_it_is_known() {
    let says = |text: &str| Some(Text::new(text).unwrap());
    let describe = |description| TeamsCommand::Change {
        id: team(1),
        name: None,
        description: Some(description),
    };
    let described = |description, from| TeamsEvent::Described {
        team: team(1),
        description,
        from,
    };
    let first = described(says("Sells"), Some(None));
    assert_eq!(
        when(&tree(), describe(says("Sells"))).await,
        Ok(vec![first.clone()])
    );
    let mut given = tree();
    given.push(first);
    assert_eq!(when(&given, describe(says("Sells"))).await, Ok(Vec::new()));
    let second = described(None, Some(says("Sells")));
    assert_eq!(when(&given, describe(None)).await, Ok(vec![second.clone()]));

    // A snapshot keeps it, and that there is none, as long as there is room.
    let mut teams = Teams::default();
    given.push(second);
    for event in given {
        teams.apply(event);
    }
    let stored = serde_json::to_vec(&teams).unwrap();
    assert_eq!(serde_json::from_slice::<Teams>(&stored).unwrap(), teams);

    let mut full = full();
    for id in full.teams.keys().cloned().collect::<Vec<_>>() {
        full.apply(TeamsEvent::Described {
            team: id,
            description: says(&"🦀".repeat(500)),
            from: None,
        });
    }
    let stored = serde_json::to_vec(&full).unwrap();
    assert!(stored.len() <= ROOM, "{} bytes", stored.len());
    let back: Teams = serde_json::from_slice(&stored).unwrap();
    let (id, unknown) = back.teams.iter().next().unwrap();
    assert_eq!(unknown.description, None);
    let change = TeamsCommand::Change {
        id: id.clone(),
        name: None,
        description: Some(None),
    };
    let told = TeamsEvent::Described {
        team: id.clone(),
        description: None,
        from: None,
    };
    assert_eq!(decide::decide(&back, change), Ok(vec![told.clone()]));
    let told = encode_event(&told).unwrap();
    assert!(told.data.get("from").is_none(), "{told:?}");
}

#[tokio::test]
async fn the_bounds_hold_and_a_copy_shares_what_it_does_not_change() {
    let teams = full();
    let first = teams.teams.keys().next().unwrap().clone();
    let newcomer = TeamsCommand::AddMembers {
        id: first.clone(),
        members: memberships(&[(1, TeamRole::Member)]),
    };
    assert_eq!(
        decide::decide(&teams, newcomer),
        Err(TeamsRejection::TooManyMemberships)
    );
    assert_eq!(
        decide::decide(&teams, create(1, "One more", None)),
        Err(TeamsRejection::TooManyTeams)
    );
    let split = TeamsCommand::Split {
        id: first.clone(),
        new: team(1),
        name: name("x"),
        members: vec![],
        children: vec![],
    };
    assert_eq!(decide::decide(&teams, split), Err(TeamsRejection::TooManyTeams));

    let member = teams.teams[&first].members.keys().next().unwrap().clone();
    let mut copy = teams.clone();
    copy.apply(TeamsEvent::MembersRemoved {
        team: first.clone(),
        users: vec![member],
        members: vec![],
    });
    let shared = |id: &TeamId| Arc::ptr_eq(&teams.teams[id].members, &copy.teams[id].members);
    assert_eq!(
        teams.teams.keys().filter(|id| !shared(id)).collect::<Vec<_>>(),
        [&first]
    );
    // One has left, so one can come.
    let newcomer = TeamsCommand::AddMembers {
        id: first.clone(),
        members: memberships(&[(1, TeamRole::Member)]),
    };
    assert!(decide::decide(&copy, newcomer).is_ok());
    assert!(teams.contains(&first) && !teams.contains(&team(1)));
}

#[test]
fn a_snapshot_keeps_as_much_as_it_has_room_for() {
    let stored = serde_json::to_vec(&full()).unwrap();
    let one_more = ",\"description\":null".len();
    assert!(stored.len() + one_more > ROOM, "{} bytes", stored.len());
}
