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
                2 => self.endpoint_life(&tenant, number).await?,
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
        let role = json!({
            "role": role_id(number), "name": format!("Role {number}"), "description": null,
            "permissions": ["users.read.tenant"], "inherits": [],
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
