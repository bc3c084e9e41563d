use ulid::Ulid;

use super::*;
use crate::aggregate::testing::{check_golden_files, decide, folded};

fn later() -> Timestamp {
    Timestamp::from_millis(1_614_265_330_007)
}

fn name(text: &str) -> TenantName {
    Text::new(text).unwrap()
}

fn reason(text: &str) -> TenantReason {
    Text::new(text).unwrap()
}

fn slug() -> Slug {
    Slug::try_from("acme".to_owned()).unwrap()
}

fn plan(text: &str) -> PlanName {
    Text::new(text).unwrap()
}

fn provisioned() -> TenantEvent {
    TenantEvent::Provisioned {
        id: TenantId::new(Ulid(7)),
        name: name("Acme"),
        slug: slug(),
        plan: Some(plan("team")),
    }
}

fn provision() -> TenantCommand {
    TenantCommand::Provision {
        id: TenantId::new(Ulid(7)),
        name: name("Acme"),
        slug: slug(),
        plan: Some(plan("team")),
    }
}

fn renamed() -> TenantEvent {
    TenantEvent::Renamed {
        from: name("Acme"),
        to: name("Acme Ltd"),
    }
}

fn plan_changed() -> TenantEvent {
    TenantEvent::PlanChanged {
        from: Some(plan("team")),
        to: None,
    }
}

fn quotas_changed() -> TenantEvent {
    TenantEvent::QuotasChanged {
        from: Quotas::default(),
        to: Quotas {
            users: Some(Quantity::fixed::<3>()),
            requests_per_second: Some(Rate::fixed::<50>()),
            ..Quotas::default()
        },
        at: later(),
    }
}

fn suspended() -> TenantEvent {
    let reason = reason("unpaid");
    TenantEvent::Suspended { reason }
}

fn terminated() -> TenantEvent {
    TenantEvent::Terminated {
        reason: reason("gone"),
        slug: slug(),
    }
}

fn suspend(why: &str) -> TenantCommand {
    let reason = reason(why);
    TenantCommand::Suspend { reason }
}

fn terminate(why: &str) -> TenantCommand {
    let reason = reason(why);
    TenantCommand::Terminate { reason }
}

fn change() -> TenantCommand {
    let change = TenantChange {
        name: Some(name("Acme Ltd")),
        plan: Edit::Reset,
        quotas: QuotasChange {
            users: Edit::Set(Quantity::fixed::<3>()),
            requests_per_second: Edit::Set(Rate::fixed::<50>()),
            ..QuotasChange::default()
        },
    };
    TenantCommand::Change { change, at: later() }
}

#[tokio::test]
async fn a_tenant_is_provisioned_once() {
    assert_eq!(decide::<Tenant>(&[], provision()).await, Ok(vec![provisioned()]));
    let again = decide::<Tenant>(&[provisioned()], provision()).await;
    assert_eq!(again, Err(TenantRejection::AlreadyProvisioned));
}

#[tokio::test]
async fn a_change_tells_each_difference_once() {
    let events = vec![renamed(), plan_changed(), quotas_changed()];
    assert_eq!(
        decide::<Tenant>(&[provisioned()], change()).await,
        Ok(events.clone())
    );
    let given: Vec<_> = [provisioned()].into_iter().chain(events).collect();
    assert_eq!(decide::<Tenant>(&given, change()).await, Ok(vec![]));
    assert_eq!(
        decide::<Tenant>(&[], change()).await,
        Err(TenantRejection::NotFound)
    );
}

#[tokio::test]
async fn a_tenant_is_suspended_for_one_reason_and_reactivated() {
    let given = [provisioned(), suspended()];
    let decided = decide::<Tenant>(&given[..1], suspend("unpaid")).await;
    assert_eq!(decided, Ok(vec![suspended()]));
    assert_eq!(decide::<Tenant>(&given, suspend("unpaid")).await, Ok(vec![]));
    let other = decide::<Tenant>(&given, suspend("abuse")).await;
    assert_eq!(other, Err(TenantRejection::AlreadySuspended));
    let back = decide::<Tenant>(&given, TenantCommand::Reactivate).await;
    assert_eq!(back, Ok(vec![TenantEvent::Reactivated {}]));
    let active = [provisioned(), suspended(), TenantEvent::Reactivated {}];
    assert_eq!(
        decide::<Tenant>(&active, TenantCommand::Reactivate).await,
        Ok(vec![])
    );
    assert!(decide::<Tenant>(&given, change()).await.is_ok());
}

#[tokio::test]
async fn a_termination_is_final() {
    for given in [vec![provisioned()], vec![provisioned(), suspended()]] {
        let decided = decide::<Tenant>(&given, terminate("gone")).await;
        assert_eq!(decided, Ok(vec![terminated()]));
    }
    let given = [provisioned(), terminated()];
    assert_eq!(decide::<Tenant>(&given, terminate("gone")).await, Ok(vec![]));
    let others = [
        change(),
        suspend("unpaid"),
        TenantCommand::Reactivate,
        terminate("again"),
    ];
    for command in others {
        let refused = decide::<Tenant>(&given, command).await;
        assert_eq!(refused, Err(TenantRejection::Terminated));
    }
}

#[test]
fn a_slug_is_taken_with_the_first_event_and_free_after_the_last() {
    let (kind, value) = ("slug", "acme".to_owned());
    let take = Claim::Take {
        kind,
        value: value.clone(),
    };
    assert_eq!(Tenant::claims(&provisioned()), vec![take]);
    assert_eq!(
        Tenant::claims(&terminated()),
        vec![Claim::Release { kind, value }]
    );
    assert_eq!(Tenant::claims(&suspended()), vec![]);
}

#[test]
fn stored_events_decode_for_ever() {
    let events = [
        provisioned(),
        renamed(),
        plan_changed(),
        quotas_changed(),
        suspended(),
        TenantEvent::Reactivated {},
        terminated(),
    ];
    check_golden_files(TenantEvent::WIRE, &events);
}

#[test]
fn a_tenant_tells_whether_it_exists_and_takes_part() {
    let standing = |events: &[TenantEvent]| {
        let tenant = folded::<Tenant>(events);
        assert_eq!(tenant.exists(), tenant.standing().is_some());
        tenant.standing().cloned()
    };
    let reactivated = [provisioned(), suspended(), TenantEvent::Reactivated {}];
    assert_eq!(standing(&[]), None);
    assert_eq!(standing(&reactivated[..1]), Some(Standing::Active));
    assert_eq!(
        standing(&reactivated[..2]),
        Some(Standing::Suspended(reason("unpaid")))
    );
    assert_eq!(standing(&reactivated), Some(Standing::Active));
    assert_eq!(
        standing(&[provisioned(), terminated()]),
        Some(Standing::Terminated(reason("gone")))
    );
}

#[test]
fn a_standing_is_one_word() {
    let standings = [
        Standing::Active,
        Standing::Suspended(reason("unpaid")),
        Standing::Terminated(reason("gone")),
    ];
    assert_eq!(
        standings.each_ref().map(Standing::as_str),
        ["active", "suspended", "terminated"]
    );
}

#[test]
fn a_tenant_tells_its_quotas_and_when_they_changed() {
    let quotas = |events: &[TenantEvent]| {
        let tenant = folded::<Tenant>(events);
        let users = tenant.quotas().of(Counted::Users);
        (users, tenant.quotas_changed_at())
    };
    assert_eq!(quotas(&[]), (None, Timestamp::default()));
    assert_eq!(quotas(&[provisioned()]), (None, Timestamp::default()));
    assert_eq!(quotas(&[provisioned(), quotas_changed()]), (Some(3), later()));
}
