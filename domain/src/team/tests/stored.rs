//! What is stored of teams, and read for ever.

use super::*;
use crate::aggregate::testing::{check_earlier_golden_file, check_golden_files};

#[test]
fn the_first_schema_of_a_description_is_read() {
    let event = TeamsEvent::Described {
        team: team(2),
        description: None,
        from: None,
    };
    check_earlier_golden_file("team.described", 1, &event);
}

#[test]
fn a_role_in_a_team_reads_as_it_is_stored() {
    for role in [TeamRole::Member, TeamRole::Lead] {
        assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
    }
}

#[test]
fn stored_events_decode_for_ever() {
    let examples = [
        TeamsEvent::Created {
            team: team(2),
            name: name("Europe"),
            parent: Some(team(1)),
            description: Some(Text::new("Everything this side").unwrap()),
        },
        TeamsEvent::Renamed {
            team: team(2),
            from: name("Europe"),
            to: name("EMEA"),
        },
        TeamsEvent::Described {
            team: team(2),
            description: None,
            from: Some(Some(Text::new("Everything this side").unwrap())),
        },
        TeamsEvent::Moved {
            team: team(2),
            from: Some(team(1)),
            to: None,
        },
        TeamsEvent::Merged {
            team: team(2),
            into: team(1),
        },
        TeamsEvent::Split {
            team: team(2),
            new: team(3),
            name: name("North"),
            parent: None,
            members: vec![user(1)],
            children: vec![team(4)],
        },
        added(2, &[(1, TeamRole::Lead), (2, TeamRole::Member)]),
        TeamsEvent::MemberRoleChanged {
            team: team(2),
            user: user(1),
            from: TeamRole::Lead,
            to: TeamRole::Member,
        },
        TeamsEvent::MembersRemoved {
            team: team(2),
            users: vec![user(1)],
            members: vec![],
        },
        TeamsEvent::Retired { team: team(2) },
    ];
    check_golden_files(TeamsEvent::WIRE, &examples);
}
