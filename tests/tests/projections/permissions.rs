//! Who holds a permission: what the read model answers is what the evaluation of each user says.

use std::collections::{BTreeMap, BTreeSet};

use cqrs_es::Aggregate;
use domain::access::{self, Verdict};
use domain::role::{Roles, RolesEvent};
use domain::user::{User, UserEvent};
use domain::{Permission, RoleId, TenantId};
use projections::{HolderRow, Page, ReadModels};
use serde_json::{Value, json};

use crate::history::Dice;
use crate::queries::folded;
use crate::world::{Store, World, role_id, tenant, user_id};

const PERMISSIONS: [&str; 5] = [
    "users.read.own",
    "users.read.tenant",
    "users.update.team",
    "teams.read.tenant",
    "events.write.tenant",
];
const GRANTS: [&str; 6] = [
    "*",
    "users.*.tenant",
    "*.read.own",
    "users.read.team",
    "teams.read.tenant",
    "users.update.own",
];

/// A tenant's rights as the log tells them, and as they are appended.
#[derive(Default)]
struct Model {
    users: BTreeMap<u32, (User, u64)>,
    roles: Roles,
    version: u64,
}

impl Model {
    async fn of_user(
        &mut self,
        world: &mut World,
        tenant: &TenantId,
        number: u32,
        name: &str,
        data: Value,
    ) -> anyhow::Result<()> {
        let (user, version) = self.users.entry(number).or_default();
        let event: UserEvent = serde_json::from_value(tagged(name, &data))?;
        user.apply(event);
        *version += 1;
        world
            .commit(tenant, "user", &user_id(number), *version, vec![(name, data)])
            .await?;
        Ok(())
    }

    async fn of_roles(
        &mut self,
        world: &mut World,
        tenant: &TenantId,
        name: &str,
        data: Value,
    ) -> anyhow::Result<()> {
        let event: RolesEvent = serde_json::from_value(tagged(name, &data))?;
        self.roles.apply(event);
        self.version += 1;
        world
            .commit(tenant, "roles", tenant.as_str(), self.version, vec![(name, data)])
            .await?;
        Ok(())
    }
}

fn tagged(name: &str, data: &Value) -> Value {
    json!({ "type": name, "data": data })
}

fn id(role: u32) -> RoleId {
    role_id(role).parse().expect("digits make an id")
}

/// One more thing happens to a user or to the roles, if it can.
async fn happen(
    model: &mut Model,
    world: &mut World,
    tenant: &TenantId,
    dice: &mut Dice,
) -> anyhow::Result<()> {
    let (number, role) = (dice.roll(12), dice.roll(6));
    let permission = PERMISSIONS[dice.roll(5) as usize];
    let Some((user, _)) = model.users.get(&number) else {
        let data = json!({
            "email": format!("user{number}@example.org"), "name": "Somebody", "roles": [role_id(role)],
        });
        return model
            .of_user(world, tenant, number, "user.registered", data)
            .await;
    };
    let active = user.status() == Some(domain::user::UserStatus::Active);
    let held = user.roles().any(|held| *held == id(role));
    let own = user
        .permissions()
        .find(|(own, _)| own.to_string() == permission)
        .map(|(_, effect)| effect);
    let (name, data) = match dice.roll(8) {
        0 if held => ("user.role_revoked", json!({ "role": role_id(role) })),
        0 | 1 if !held => ("user.role_granted", json!({ "role": role_id(role) })),
        2 | 3 if own.is_none() => {
            let effect = if dice.roll(2) == 0 { "allow" } else { "deny" };
            (
                "user.permission_set",
                json!({ "permission": permission, "effect": effect }),
            )
        }
        2 => (
            "user.permission_cleared",
            json!({ "permission": permission, "was": own }),
        ),
        4 if active => ("user.deactivated", json!({ "reason": null })),
        4 | 5 if !active => ("user.reactivated", json!({})),
        _ => return change_roles(model, world, tenant, dice, role).await,
    };
    model.of_user(world, tenant, number, name, data).await
}

/// Roles come, change and go; inheritance may run in circles here, which must do no harm.
async fn change_roles(
    model: &mut Model,
    world: &mut World,
    tenant: &TenantId,
    dice: &mut Dice,
    role: u32,
) -> anyhow::Result<()> {
    let (grant, parent) = (GRANTS[dice.roll(6) as usize], dice.roll(6));
    let present = model.roles.get(&id(role));
    let (name, data) = match (present, dice.roll(5)) {
        (None, _) => (
            "role.defined",
            json!({
                "role": role_id(role), "name": format!("Role {role}"), "description": null,
                "permissions": [grant], "inherits": [role_id(parent)],
            }),
        ),
        (Some(_), 0) => ("role.retired", json!({ "role": role_id(role) })),
        (Some(found), 1 | 2) => {
            let held = found.permissions.iter().any(|held| held.to_string() == grant);
            let (added, removed) = if held {
                (None, Some(grant))
            } else {
                (Some(grant), None)
            };
            let change = json!({
                "role": role_id(role),
                "added": added.into_iter().collect::<Vec<_>>(),
                "removed": removed.into_iter().collect::<Vec<_>>(),
            });
            ("role.permissions_changed", change)
        }
        (Some(found), _) => {
            let held = found.inherits.contains(&id(parent));
            let parent = role_id(parent);
            let (added, removed) = if held {
                (None, Some(parent))
            } else {
                (Some(parent), None)
            };
            let change = json!({
                "role": role_id(role),
                "added": added.into_iter().collect::<Vec<_>>(),
                "removed": removed.into_iter().collect::<Vec<_>>(),
            });
            ("role.inheritance_changed", change)
        }
    };
    model.of_roles(world, tenant, name, data).await
}

/// All pages of who holds a permission.
async fn holders(
    read_models: &ReadModels,
    tenant: &TenantId,
    permission: &Permission,
) -> anyhow::Result<Vec<HolderRow>> {
    let mut page = Page {
        limit: Some(3),
        cursor: None,
    };
    let mut all = Vec::new();
    loop {
        let listing = read_models
            .permissions(tenant)
            .holders(permission, &page)
            .await?
            .data;
        anyhow::ensure!(listing.data.len() <= 3, "a page of {}", listing.data.len());
        all.extend(listing.data);
        page.cursor = listing.next_cursor;
        if page.cursor.is_none() {
            return Ok(all);
        }
    }
}

pub(crate) async fn holders_are_those_whom_the_evaluation_allows(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let mut dice = Dice::new(9);
    let mut models: BTreeMap<u32, Model> = BTreeMap::new();
    for _ in 0..250 {
        let number = 1 + dice.roll(3);
        let model = models.entry(number).or_default();
        happen(model, &mut world, &tenant(number), &mut dice).await?;
    }
    let read_models = folded(&world).await?;
    let mut found = BTreeSet::new();
    for (number, model) in &models {
        for permission in PERMISSIONS {
            let permission: Permission = permission.parse()?;
            let shown = holders(&read_models, &tenant(*number), &permission).await?;
            let shown = shown.into_iter().map(|row| (row.user.to_string(), row.right));
            let expected = model.users.iter().rev().filter_map(|(number, (user, _))| {
                match access::check(user, &model.roles, &permission) {
                    Verdict::Allowed(right) => Some((user_id(*number), right)),
                    _ => None,
                }
            });
            let (shown, expected): (Vec<_>, Vec<_>) = (shown.collect(), expected.collect());
            assert_eq!(shown, expected, "{permission} of tenant {number}");
            found.extend(expected.into_iter().map(|(_, right)| right.through.len()));
        }
        role_holders(&read_models, &tenant(*number), model).await?;
    }
    assert!(found.len() > 2, "rights were found by few ways only: {found:?}");
    Ok(())
}

async fn role_holders(read_models: &ReadModels, tenant: &TenantId, model: &Model) -> anyhow::Result<()> {
    let page = Page {
        limit: Some(50),
        cursor: None,
    };
    for role in (0..6).map(id) {
        let found = read_models
            .permissions(tenant)
            .role_holders(&role, &page)
            .await?
            .data;
        assert_eq!(found.is_some(), model.roles.get(&role).is_some(), "{role}");
        let Some(found) = found else { continue };
        let found: Vec<_> = found
            .data
            .into_iter()
            .map(|row| (row.user.to_string(), row.through.len()))
            .collect();
        let expected = model.users.iter().rev().filter_map(|(number, (user, _))| {
            let active = user.status() == Some(domain::user::UserStatus::Active);
            let mut ways = model.roles.reach(user.roles()).into_iter().map(|(way, _)| way);
            let way = ways.find(|way| way.last() == Some(&&role)).filter(|_| active)?;
            Some((user_id(*number), way.len()))
        });
        assert_eq!(found, expected.collect::<Vec<_>>(), "{role}");
    }
    Ok(())
}
