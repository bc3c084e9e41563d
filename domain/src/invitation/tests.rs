use ulid::Ulid;

use super::*;
use crate::Text;
use crate::aggregate::testing::{check_golden_files, decide, folded};

const SENT_AT: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;

fn email() -> Email {
    Email::try_from("Ada@Example.org".to_owned()).unwrap()
}

fn after(hours: i64) -> Timestamp {
    Timestamp::from_millis(SENT_AT + hours * HOUR)
}

fn token(number: u128) -> TokenId {
    TokenId::new(Ulid(number))
}

fn user() -> UserId {
    UserId::new(Ulid(1))
}

fn created() -> InvitationEvent {
    InvitationEvent::Created {
        email: email(),
        name: Some(Text::new("Ada").unwrap()),
        roles: BTreeSet::from([RoleId::new(Ulid(7))]),
        token: token(1),
        expires_at: after(24),
    }
}

fn resent() -> InvitationEvent {
    InvitationEvent::Resent {
        token: token(2),
        expires_at: after(72),
        from: None,
    }
}

fn accepted() -> InvitationEvent {
    InvitationEvent::Accepted {
        email: email(),
        user: user(),
    }
}

fn revoked() -> InvitationEvent {
    InvitationEvent::Revoked { email: email() }
}

fn expired() -> InvitationEvent {
    InvitationEvent::Expired { email: email() }
}

fn accept(with: u128, hours: i64) -> InvitationCommand {
    InvitationCommand::Accept {
        token: token(with),
        user: user(),
        at: after(hours),
    }
}

fn resend() -> InvitationCommand {
    InvitationCommand::Resend {
        token: token(2),
        expires_at: after(72),
    }
}

async fn when(
    given: &[InvitationEvent],
    command: InvitationCommand,
) -> Result<Vec<InvitationEvent>, InvitationRejection> {
    decide::<Invitation>(given, command).await
}

#[tokio::test]
async fn an_invitation_is_accepted_once_and_in_time() {
    let late = Err(InvitationRejection::Over(Status::Expired));
    assert_eq!(when(&[created()], accept(1, 23)).await, Ok(vec![accepted()]));
    assert_eq!(when(&[created()], accept(1, 24)).await, late);
    let again = when(&[created(), accepted()], accept(1, 23)).await;
    assert_eq!(again, Err(InvitationRejection::Over(Status::Accepted)));
    assert_eq!(when(&[], accept(1, 1)).await, Err(InvitationRejection::NotFound));
}

#[tokio::test]
async fn sending_again_makes_the_old_token_worthless_and_gives_more_time() {
    let history = [created(), resent()];
    let InvitationEvent::Resent {
        token: new,
        expires_at,
        ..
    } = resent()
    else {
        unreachable!("it is resent");
    };
    let from = Some(Offer {
        token: token(1),
        expires_at: after(24),
    });
    let told = InvitationEvent::Resent {
        token: new,
        expires_at,
        from,
    };
    assert_eq!(when(&[created()], resend()).await, Ok(vec![told]));
    assert_eq!(
        when(&history, accept(1, 1)).await,
        Err(InvitationRejection::TokenReplaced)
    );
    assert_eq!(when(&history, accept(2, 71)).await, Ok(vec![accepted()]));
}

#[tokio::test]
async fn what_is_over_stays_over() {
    for (end, status) in [
        (accepted(), Status::Accepted),
        (revoked(), Status::Revoked),
        (expired(), Status::Expired),
    ] {
        let history = [created(), end];
        let over = Err(InvitationRejection::Over(status));
        assert_eq!(when(&history, accept(1, 1)).await, over);
        assert_eq!(when(&history, resend()).await, over);
        assert_eq!(
            when(&history, InvitationCommand::Expire { at: after(99) }).await,
            Ok(vec![])
        );
        let revoke = when(&history, InvitationCommand::Revoke).await;
        assert_eq!(
            revoke,
            if status == Status::Revoked {
                Ok(vec![])
            } else {
                over
            }
        );
    }
}

#[tokio::test]
async fn it_expires_when_its_time_is_over_and_not_before() {
    let expire = |hours| InvitationCommand::Expire { at: after(hours) };
    assert_eq!(
        when(&[created()], expire(23)).await,
        Err(InvitationRejection::InTime)
    );
    assert_eq!(when(&[created()], expire(24)).await, Ok(vec![expired()]));
    assert_eq!(
        when(&[created()], InvitationCommand::Revoke).await,
        Ok(vec![revoked()])
    );
}

#[test]
fn the_status_follows_the_clock_while_nothing_is_noted() {
    use cqrs_es::Aggregate;
    let mut invitation = Invitation::default();
    invitation.apply(created());
    let status = |invitation: &Invitation, hours| invitation.terms().unwrap().status(after(hours));
    assert_eq!(status(&invitation, 23), Status::Pending);
    assert_eq!(status(&invitation, 24), Status::Expired);
    invitation.apply(resent());
    assert_eq!(status(&invitation, 24), Status::Pending);
    invitation.apply(accepted());
    assert_eq!(status(&invitation, 99), Status::Accepted);
}

#[test]
fn the_address_is_claimed_folded_while_it_is_pending() {
    let value = || "ada@example.org".to_owned();
    let kind = "invitation";
    assert_eq!(
        Invitation::claims(&created()),
        [Claim::Take { kind, value: value() }]
    );
    assert_eq!(Invitation::claims(&resent()), []);
    for end in [accepted(), revoked(), expired()] {
        assert_eq!(
            Invitation::claims(&end),
            [Claim::Release { kind, value: value() }]
        );
    }
}

#[test]
fn stored_events_decode_for_ever() {
    let examples = [created(), resent(), accepted(), revoked(), expired()];
    check_golden_files(InvitationEvent::WIRE, &examples);
}

#[test]
fn an_invitation_tells_how_often_it_was_sent_and_what_became_of_it() {
    let terms = |events: &[InvitationEvent]| {
        let invitation = folded::<Invitation>(events);
        let terms = invitation.terms().unwrap();
        (terms.sent, terms.status)
    };
    assert_eq!(terms(&[created()]), (1, Status::Pending));
    assert_eq!(terms(&[created(), resent(), resent()]), (3, Status::Pending));
    assert_eq!(terms(&[created(), accepted()]), (1, Status::Accepted));
    assert_eq!(terms(&[created(), revoked()]), (1, Status::Revoked));
    assert_eq!(terms(&[created(), expired()]), (1, Status::Expired));
}

/// As rejections, the database and clients word it.
#[test]
fn a_status_reads_as_it_is_written() {
    let all = [
        Status::Pending,
        Status::Accepted,
        Status::Revoked,
        Status::Expired,
    ];
    for status in all {
        assert_eq!(serde_json::json!(status), status.as_str());
        assert_eq!(status.to_string(), status.as_str());
    }
}
