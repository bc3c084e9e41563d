//! `/v1/teams`: the tree, its members, merges and splits.

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::service::Tidings;

use crate::world::{get_after, tenant, text};

async fn create(api: &Api, name: &str, parent: Option<&str>) -> anyhow::Result<String> {
    let made = api
        .post("/v1/teams", &json!({ "name": name, "parent": parent }))
        .await?;
    Ok(text(&made.expect(201)?, "id")?.to_owned())
}

async fn user(api: &Api, name: &str) -> anyhow::Result<String> {
    let new = json!({ "email": format!("{name}@example.org"), "name": name });
    Ok(text(&api.post("/v1/users", &new).await?.expect(201)?, "id")?.to_owned())
}

async fn put(api: &Api, path: &str, body: &Value) -> anyhow::Result<Reply> {
    api.call(Method::PUT, path, Some(body), &[]).await
}

async fn delete(api: &Api, path: &str) -> anyhow::Result<Reply> {
    api.call(Method::DELETE, path, None, &[]).await
}

/// The members of a team with their roles, as a later query sees them, by user id.
async fn members(api: &Api, team: &str, after: &Reply) -> anyhow::Result<Vec<(String, String)>> {
    let page = get_after(api, &format!("/v1/teams/{team}/members?limit=200"), after)
        .await?
        .expect(200)?;
    let rows = page["data"].as_array().context("rows")?;
    let mut members = rows
        .iter()
        .map(|row| Ok((text(row, "user")?.to_owned(), text(row, "role")?.to_owned())))
        .collect::<anyhow::Result<Vec<_>>>()?;
    members.sort();
    Ok(members)
}

fn detail(reply: &Reply) -> anyhow::Result<String> {
    Ok(text(&reply.json()?, "detail")?.to_owned())
}

for_each_engine! {
    /// A team is created, found, renamed, moved and retired; its name is its own under its parent only.
    async fn teams_stand_in_a_tree_under_names_of_their_own(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let sales = create(&api, "Sales", None).await?;
        let europe = create(&api, "Europe", Some(&sales)).await?;
        let support = create(&api, "Support", None).await?;
        let same = api.post("/v1/teams", &json!({ "name": "SALES" })).await?;
        assert_eq!(same.problem(409)?, "team_name_taken");
        create(&api, "Sales", Some(&support)).await?;

        let path = format!("/v1/teams/{europe}");
        let change = json!({ "name": "EMEA", "description": "Everything this side" });
        let changed = api.call(Method::PATCH, &path, Some(&change), &[]).await?;
        assert_eq!(changed.status, 204);
        let shown = get_after(&api, &path, &changed).await?.expect(200)?;
        assert_eq!((text(&shown, "name")?, text(&shown, "parent")?), ("EMEA", sales.as_str()));
        assert_eq!(text(&shown, "description")?, "Everything this side");
        let reused = api.post("/v1/teams", &json!({ "name": "Europe", "parent": sales })).await?;
        reused.expect(201)?;
        let under = get_after(&api, &format!("/v1/teams?parent={sales}"), &reused).await?.expect(200)?;
        assert_eq!(under["data"].as_array().map(Vec::len), Some(2));
        assert_eq!(under["data"][0]["name"], "Europe", "the newest comes first");
        let top = api.get("/v1/teams?parent=none&limit=1").await?.expect(200)?;
        assert_eq!(top["data"][0]["name"], "Support");
        let next = format!("/v1/teams?parent=none&cursor={}", text(&top, "next_cursor")?);
        assert_eq!(api.get(&next).await?.expect(200)?["data"][0]["children"], 2);

        let moving = api.post(&format!("/v1/teams/{sales}/move"), &json!({ "parent": europe })).await?;
        assert_eq!(moving.problem(409)?, "cycle");
        assert_eq!(api.post(&format!("{path}/move"), &json!({})).await?.problem(422)?, "invalid_body");
        let moved = api.post(&format!("{path}/move"), &json!({ "parent": null })).await?;
        assert_eq!(moved.status, 204);
        assert!(get_after(&api, &path, &moved).await?.expect(200)?["parent"].is_null());

        let path = format!("/v1/teams/{sales}");
        assert_eq!(delete(&api, &path).await?.problem(409)?, "in_use");
        let retired = delete(&api, &format!("{path}?recursive=true")).await?;
        assert_eq!(retired.status, 204);
        assert_eq!(get_after(&api, &path, &retired).await?.problem(404)?, "not_found");
        assert_eq!(delete(&api, &path).await?.problem(404)?, "not_found");
        let audit = get_after(&api, &format!("/v1/audit?resource={sales}"), &retired).await?.expect(200)?;
        assert_eq!(audit["data"][0]["action"], "team.retired");
        assert_eq!(audit["data"][0]["resource_type"], "team");

        let other = tenant(&service, "other").await?;
        let foreign = json!({ "name": "Mine", "parent": support });
        assert_eq!(other.post("/v1/teams", &foreign).await?.problem(422)?, "invalid_body");
        create(&other, "Support", None).await?;
        Ok(())
    }

    /// No team stands deeper than the tenant allows, by whatever way it would come there.
    async fn the_tree_is_only_as_deep_as_the_settings_allow(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let mut chain = vec![create(&api, "Level 1", None).await?];
        for level in 2..=8 {
            let parent = chain.last().cloned();
            chain.push(create(&api, &format!("Level {level}"), parent.as_deref()).await?);
        }
        let deeper = api.post("/v1/teams", &json!({ "name": "Level 9", "parent": chain[7] })).await?;
        assert_eq!(deeper.problem(409)?, "limit_reached");
        assert!(detail(&deeper)?.contains("at most 8"), "the limit is told");
        let apart = create(&api, "Apart", None).await?;
        create(&api, "Below", Some(&apart)).await?;
        for (call, body) in [("move", json!({ "parent": chain[6] })), ("merge", json!({ "into": chain[7] }))] {
            let refused = api.post(&format!("/v1/teams/{apart}/{call}"), &body).await?;
            assert_eq!(refused.problem(409).context(call)?, "limit_reached");
        }
        let fits = api.post(&format!("/v1/teams/{apart}/move"), &json!({ "parent": chain[5] })).await?;
        assert_eq!(fits.status, 204);
        Ok(())
    }

    /// Members come one by one and many at once, must exist, and are gone with their user.
    async fn members_have_a_role_and_must_exist(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let team = create(&api, "Sales", None).await?;
        let path = format!("/v1/teams/{team}/members");
        let (ada, bob, cleo) = (user(&api, "ada").await?, user(&api, "bob").await?, user(&api, "cleo").await?);
        let many = json!({ "members": [{ "user": ada }, { "user": bob, "role": "lead" }] });
        let added = api.post(&path, &many).await?;
        assert_eq!(added.status, 204);
        let role = |user: &String, role: &str| (user.clone(), role.to_owned());
        assert_eq!(members(&api, &team, &added).await?, [role(&ada, "member"), role(&bob, "lead")]);
        let set = put(&api, &format!("{path}/{ada}"), &json!({ "role": "lead" })).await?;
        assert_eq!(set.status, 204);
        put(&api, &format!("{path}/{cleo}"), &json!({ "role": "member" })).await?;
        let taken = delete(&api, &format!("{path}/{bob}")).await?;
        assert_eq!(taken.status, 204);
        assert_eq!(members(&api, &team, &taken).await?, [role(&ada, "lead"), role(&cleo, "member")]);
        assert_eq!(delete(&api, &format!("{path}/{bob}")).await?.problem(404)?, "not_found");
        let of_cleo = get_after(&api, &format!("/v1/teams?member={cleo}"), &taken).await?.expect(200)?;
        assert_eq!((&of_cleo["data"][0]["id"], &of_cleo["data"][0]["members"]), (&json!(team), &json!(2)));

        let removed = delete(&api, &format!("/v1/users/{cleo}")).await?;
        assert_eq!(removed.status, 204);
        assert_eq!(members(&api, &team, &removed).await?, [role(&ada, "lead")], "a removed user is in no team");
        let back = put(&api, &format!("{path}/{cleo}"), &json!({ "role": "lead" })).await?;
        assert_eq!(back.problem(404)?, "not_found");

        let other = tenant(&service, "other").await?;
        let stranger = user(&other, "ada").await?;
        for unknown in [stranger.as_str(), "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
            let refused = api.post(&path, &json!({ "members": [{ "user": bob }, { "user": unknown }] })).await?;
            assert_eq!(refused.problem(422)?, "invalid_body");
            assert_eq!(refused.json()?["errors"][0]["path"], "members[1].user");
            let refused = put(&api, &format!("{path}/{unknown}"), &json!({ "role": "lead" })).await?;
            assert_eq!(refused.problem(404)?, "not_found");
        }
        assert_eq!(api.post(&path, &json!({ "members": [] })).await?.problem(422)?, "invalid_body");
        let boss = put(&api, &format!("{path}/{bob}"), &json!({ "role": "boss" })).await?;
        assert_eq!(boss.problem(422)?, "invalid_body");
        Ok(())
    }

    /// A merge loses nobody, a split takes along what it is told to; both are judged on the tree as it is.
    async fn teams_are_merged_and_split(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let (north, south) = (create(&api, "North", None).await?, create(&api, "South", None).await?);
        let (ada, bob, cleo) = (user(&api, "ada").await?, user(&api, "bob").await?, user(&api, "cleo").await?);
        for (team, rows) in [
            (&north, json!([{ "user": ada, "role": "lead" }, { "user": bob }])),
            (&south, json!([{ "user": ada }, { "user": bob, "role": "lead" }, { "user": cleo }])),
        ] {
            let added = api.post(&format!("/v1/teams/{team}/members"), &json!({ "members": rows })).await?;
            assert_eq!(added.status, 204);
        }
        let desk = create(&api, "Desk", Some(&north)).await?;
        let clash = create(&api, "DESK", Some(&south)).await?;
        let refused = api.post(&format!("/v1/teams/{north}/merge"), &json!({ "into": south })).await?;
        assert_eq!(refused.problem(409)?, "team_name_taken");
        assert!(detail(&refused)?.contains("Desk"), "the clash is named");
        let rename = json!({ "name": "Counter" });
        api.call(Method::PATCH, &format!("/v1/teams/{clash}"), Some(&rename), &[]).await?;
        let merged = api.post(&format!("/v1/teams/{north}/merge"), &json!({ "into": south })).await?;
        assert_eq!(merged.status, 204, "{:?}", merged.json());
        let role = |user: &String, role: &str| (user.clone(), role.to_owned());
        let together = members(&api, &south, &merged).await?;
        assert_eq!(together, [role(&ada, "lead"), role(&bob, "lead"), role(&cleo, "member")]);
        assert_eq!(api.get(&format!("/v1/teams/{north}")).await?.problem(404)?, "not_found");
        assert_eq!(api.get(&format!("/v1/teams/{desk}")).await?.expect(200)?["parent"], json!(south));

        let path = format!("/v1/teams/{south}/split");
        let part = json!({ "name": "North", "members": [ada, cleo], "children": [desk] });
        let split = api.post(&path, &part).await?;
        let new = text(&split.expect(201)?, "id")?.to_owned();
        assert_eq!(members(&api, &new, &split).await?, [role(&ada, "lead"), role(&cleo, "member")]);
        assert_eq!(members(&api, &south, &split).await?, [role(&bob, "lead")]);
        assert_eq!(api.get(&format!("/v1/teams/{desk}")).await?.expect(200)?["parent"], json!(new));
        let gone = api.post(&path, &json!({ "name": "Again", "members": [ada] })).await?;
        assert_eq!(gone.problem(422)?, "invalid_body");
        let foreign = api.post(&path, &json!({ "name": "Again", "children": [desk] })).await?;
        assert_eq!(foreign.problem(422)?, "invalid_body");
        Ok(())
    }

    /// Moves that would each be right alone race to make a circle: one of them is refused, every time.
    async fn racing_moves_never_make_a_circle(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        for round in 0..10 {
            let one = create(&api, &format!("One {round}"), None).await?;
            let other = create(&api, &format!("Other {round}"), None).await?;
            let under = async |team: &str, parent: &str| {
                api.post(&format!("/v1/teams/{team}/move"), &json!({ "parent": parent })).await
            };
            let (first, second) = tokio::join!(under(&one, &other), under(&other, &one));
            let mut statuses = [first?.status, second?.status];
            statuses.sort_unstable();
            assert_eq!(statuses, [204, 409]);
        }
        let names = (0..8).map(|_| create(&api, "Only one", None));
        let made = futures::future::join_all(names).await;
        assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
        Ok(())
    }
}
