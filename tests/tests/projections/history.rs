//! Histories drawn by chance: several tenants, every kind of record, facts that come late and twice.

use broker::Subject;
use broker::layout::Log;
use domain::{ClaimRecord, Commit, DeliveryFact, Next, TenantId};
use serde_json::json;

use crate::world::{World, at, delivery, endpoint_id, role_id, tenant, tried, user_id};

impl World {
    /// Appends a history of some length.
    pub(crate) async fn live(&mut self, dice: &mut Dice, length: u32) -> anyhow::Result<()> {
        for _ in 0..length {
            let tenant = tenant(dice.roll(3) + 1);
            let number = u32::try_from(self.appended())?;
            match dice.roll(6) {
                0 => {
                    self.register(&tenant, number).await?;
                }
                1 => {
                    self.register(&tenant, number).await?;
                    let data = json!({ "from": format!("User {number}"), "to": "Ada" });
                    self.commit(&tenant, "user", &user_id(number), 2, vec![("user.renamed", data)])
                        .await?;
                    self.user_life(&tenant, &user_id(number), dice.roll(2) == 0)
                        .await?;
                }
                2 => {
                    self.endpoint_life(&tenant, number).await?;
                    self.team_life(&tenant).await?;
                    self.invitation_life(&tenant, number).await?;
                }
                3 => {
                    self.append(
                        Log::Events(0),
                        format!("uq.{tenant}.email.{number:x}"),
                        format!("{tenant}:claim-{number}"),
                        ClaimRecord {
                            v: ClaimRecord::VERSION,
                            tenant: tenant.to_string(),
                            kind: "email".to_owned(),
                            holder: None,
                        }
                        .encode(),
                    )
                    .await?;
                }
                4 => {
                    let types = ["invoice.paid", "invoice.late", "ping"];
                    self.publish(&tenant, u64::from(number), types[dice.roll(3) as usize])
                        .await?;
                }
                _ => {
                    let fact = any_fact(dice);
                    let record = delivery(
                        &tenant,
                        u64::from(dice.roll(12)),
                        1 + dice.roll(2),
                        i64::from(number),
                        fact,
                    );
                    self.deliver(record).await?;
                }
            }
        }
        Ok(())
    }

    /// From the third event on: rights and attributes come and go, and one of two users in the end.
    async fn user_life(&mut self, tenant: &TenantId, user: &str, removed: bool) -> anyhow::Result<()> {
        let attributes = json!({ "from": {}, "to": { "team": "engines", "level": 1 } });
        let fewer = json!({ "from": { "level": 1 }, "to": {} });
        let mut events = vec![
            ("user.role_granted", json!({ "role": role_id(1) })),
            ("user.role_granted", json!({ "role": role_id(2) })),
            ("user.attributes_changed", attributes),
            ("user.role_revoked", json!({ "role": role_id(1) })),
            ("user.attributes_changed", fewer),
            (
                "user.permission_set",
                json!({ "permission": "users.read.own", "effect": "deny" }),
            ),
            ("user.deactivated", json!({ "reason": "Left" })),
        ];
        if removed {
            events.push(("user.removed", json!({ "email": "ada@example.org" })));
        }
        self.commit(tenant, "user", user, 3, events).await?;
        self.role_life(tenant).await
    }

    /// The next of a tenant's roles is defined, changed, and the one before retired.
    async fn role_life(&mut self, tenant: &TenantId) -> anyhow::Result<()> {
        let subject = Subject::new(Commit::subject(tenant, "roles", tenant.as_str()))?;
        let last = self.engine.log(Log::Events(0)).last(&subject).await?;
        let version = last.map_or(Ok(0), |record| {
            Commit::decode(&record.payload).map(|commit| commit.last_version())
        })?;
        // The first commit has two events, each later one three.
        let number = u32::try_from((version + 1) / 3 + 1)?;
        let parent = (number > 1).then(|| role_id(number - 1));
        let role = json!({
            "role": role_id(number), "name": format!("Role {number}"), "description": null,
            "permissions": ["users.read.tenant"], "inherits": parent.into_iter().collect::<Vec<_>>(),
        });
        let change = json!({ "role": role_id(number), "added": ["*"], "removed": ["users.read.tenant"] });
        let mut events = vec![("role.defined", role), ("role.permissions_changed", change)];
        if number > 1 {
            events.push(("role.retired", json!({ "role": role_id(number - 1) })));
        }
        self.commit(tenant, "roles", tenant.as_str(), version + 1, events)
            .await?;
        Ok(())
    }

    /// Three more teams come into being; one becomes part of another, and one is retired.
    async fn team_life(&mut self, tenant: &TenantId) -> anyhow::Result<()> {
        let subject = Subject::new(Commit::subject(tenant, "teams", tenant.as_str()))?;
        let last = self.engine.log(Log::Events(0)).last(&subject).await?;
        let version = last.map_or(Ok(0), |record| {
            Commit::decode(&record.payload).map(|commit| commit.last_version())
        })?;
        let team = |which: u64| format!("team_{:0>26}", version * 3 + which);
        let made = |id: String, parent: Option<String>| json!({ "team": id, "name": "Team", "parent": parent, "description": null });
        let members = |id: String, members: &[(u32, &str)]| {
            let member = |(user, role): &(u32, &str)| json!({ "user": user_id(*user), "role": role });
            json!({ "team": id, "members": members.iter().map(member).collect::<Vec<_>>() })
        };
        let split = json!({
            "team": team(2), "new": team(3), "name": "Split", "parent": team(1), "members": [user_id(3)], "children": [],
        });
        let change = json!({ "team": team(1), "user": user_id(2), "from": "lead", "to": "member" });
        let events = vec![
            ("team.created", made(team(1), None)),
            ("team.created", made(team(2), Some(team(1)))),
            (
                "team.members_added",
                members(team(1), &[(1, "member"), (2, "lead")]),
            ),
            (
                "team.members_added",
                members(team(2), &[(1, "lead"), (2, "member"), (3, "member")]),
            ),
            ("team.split", split),
            (
                "team.moved",
                json!({ "team": team(3), "from": team(1), "to": team(2) }),
            ),
            ("team.merged", json!({ "team": team(2), "into": team(1) })),
            ("team.member_role_changed", change),
            (
                "team.members_removed",
                json!({ "team": team(3), "users": [user_id(3)] }),
            ),
            (
                "team.renamed",
                json!({ "team": team(1), "from": "Team", "to": "Renamed" }),
            ),
            ("team.retired", json!({ "team": team(3) })),
        ];
        self.commit(tenant, "teams", tenant.as_str(), version + 1, events)
            .await?;
        Ok(())
    }

    async fn invitation_life(&mut self, tenant: &TenantId, number: u32) -> anyhow::Result<()> {
        let id = format!("inv_{number:0>26}");
        let sent = json!({
            "email": "ada@example.org", "name": null, "roles": [role_id(1)],
            "token": format!("tok_{number:0>26}"), "expires_at": at(1_000).to_string(),
        });
        let resent =
            json!({ "token": format!("tok_{:0>26}", number + 1), "expires_at": at(2_000).to_string() });
        self.commit(tenant, "invitation", &id, 1, vec![("invitation.created", sent)])
            .await?;
        let end = json!({ "email": "ada@example.org", "user": user_id(number) });
        let events = vec![("invitation.resent", resent), ("invitation.accepted", end)];
        self.commit(tenant, "invitation", &id, 2, events).await?;
        Ok(())
    }

    async fn endpoint_life(&mut self, tenant: &TenantId, number: u32) -> anyhow::Result<()> {
        let id = endpoint_id(number);
        let settings = json!({ "url": "https://example.org/a", "event_types": ["*"], "description": null });
        let created = vec![("endpoint.created", json!({ "settings": settings }))];
        self.commit(tenant, "endpoint", id.as_str(), 1, created).await?;
        let changes = vec![
            ("endpoint.disabled", json!({ "reason": "asked for" })),
            ("endpoint.redrive_requested", json!({ "selection": "all" })),
            ("endpoint.removed", json!({})),
        ];
        self.commit(tenant, "endpoint", id.as_str(), 2, changes).await?;
        Ok(())
    }
}

fn any_fact(dice: &mut Dice) -> DeliveryFact {
    let attempt = 1 + dice.roll(3);
    match dice.roll(6) {
        0 => DeliveryFact::Created,
        1 => DeliveryFact::Redriven,
        2 => DeliveryFact::Discarded,
        3 => tried(attempt, Next::Delivered),
        4 => tried(attempt, Next::Dead),
        _ => tried(attempt, Next::Again { due: at(1_000_000) }),
    }
}

/// Chance that can be repeated: xorshift.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(sides)).unwrap_or_default()
    }
}
