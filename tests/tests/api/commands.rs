//! `/v1/commands`: many commands in one call.

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::service::Tidings;

use crate::world::{get_after, tenant, text};

/// The results of commands, as many as were sent.
async fn execute(api: &Api, commands: &[Value]) -> anyhow::Result<(Reply, Vec<Value>)> {
    let reply = api.post("/v1/commands", &json!({ "commands": commands })).await?;
    let body = reply.expect(200)?;
    let results = body["results"].as_array().context("results")?.clone();
    assert_eq!(results.len(), commands.len());
    Ok((reply, results))
}

fn registration(email: &str) -> Value {
    json!({ "command": "RegisterUser", "data": { "email": email, "name": "Ada" } })
}

/// The sequence in a position.
fn sequence(result: &Value) -> anyhow::Result<u64> {
    let (_, sequence) = text(result, "position")?.split_once('-').context("a position")?;
    Ok(sequence.parse()?)
}

for_each_engine! {
    /// Each command is answered as by its own route, in the order sent, whatever became of the others.
    async fn each_command_is_answered_in_its_place(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let first = api.post("/v1/users", &json!({ "email": "taken@example.org", "name": "T" })).await?;
        let id = text(&first.expect(201)?, "id")?.to_owned();
        let none = "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let (reply, results) = execute(&api, &[
            registration("ada@example.org"),
            registration("TAKEN@example.org"),
            registration("no address"),
            json!({ "command": "UpdateUser", "id": id, "data": { "name": "Tim" } }),
            json!({ "command": "UpdateUser", "params": { "id": none }, "data": { "name": "Tim" } }),
            json!({ "command": "UpdateUsr", "id": id, "data": { "name": "Tim" } }),
            json!({ "command": "UpdateUser", "data": { "name": "Tim" } }),
            json!({ "command": "UpdateUser", "params": { "id": id, "colour": "red" } }),
            json!({ "command": "RegisterUser" }),
            json!({ "command": "PublishEvent", "data": { "type": "a.b", "data": { "n": 1.50 } } }),
            json!({ "command": "ProvisionTenant", "data": { "name": "Mallory", "slug": "mallory" } }),
            json!({ "command": "ExecuteCommands", "data": { "commands": [] } }),
        ]).await?;
        let statuses: Vec<_> = results.iter().filter_map(|result| result["status"].as_u64()).collect();
        assert_eq!(statuses, [201, 409, 422, 204, 404, 422, 422, 422, 422, 202, 422, 422]);
        for (result, status) in results.iter().zip(statuses) {
            assert_eq!(result["problem"].is_null(), status < 400, "{result}");
            assert_eq!(result["position"].is_string(), status < 400, "{result}");
        }
        assert!(text(&results[0]["body"], "id")?.starts_with("usr_"));
        assert!(results[3]["body"].is_null(), "204 has no body");
        assert_eq!(results[1]["problem"]["code"], "email_taken");
        assert_eq!(results[4]["problem"]["code"], "not_found");
        let place = |index: usize| results[index]["problem"]["errors"][0]["path"].as_str();
        assert_eq!((place(2), place(5), place(6)), (Some("data.email"), Some("command"), Some("params.id")));
        assert_eq!((place(7), place(8)), (Some("params.colour"), Some("data")));
        let nearest = text(&results[5]["problem"]["errors"][0], "message")?;
        assert!(nearest.contains("UpdateUser"), "{nearest}");

        // The answer names the last place in each log, so a query that sends it back has seen them all.
        let positions = reply.header("tidings-position");
        assert_eq!(positions.split(',').count(), 2, "{positions}");
        let made = text(&results[0]["body"], "id")?;
        let shown = get_after(&api, &format!("/v1/users/{made}"), &reply).await?.expect(200)?;
        assert_eq!(shown["email"], "ada@example.org");
        let event = text(&results[9]["body"], "id")?;
        let event = get_after(&api, &format!("/v1/events/{event}"), &reply).await?.expect(200)?;
        assert_eq!(event["type"], "a.b");

        // The record of each tells the command, the caller and the one request they came with.
        let trail = get_after(&api, "/v1/audit?resource=user&outcome=success", &reply).await?.expect(200)?;
        let entries = trail["data"].as_array().context("entries")?;
        assert_eq!(entries.len(), 3);
        for entry in &entries[..2] {
            assert_eq!(text(entry, "request_id")?, reply.header("x-request-id"));
            assert!(text(entry, "actor")?.starts_with("key_"));
        }
        Ok(())
    }

    /// Commands on one thing keep their order; asked for, all do.
    async fn commands_on_one_thing_keep_their_order(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let (_, made) = execute(&api, &[registration("ada@example.org"), registration("bob@example.org")]).await?;
        let ids = [text(&made[0]["body"], "id")?, text(&made[1]["body"], "id")?];
        let renaming = |number: usize| {
            let data = json!({ "name": format!("Name {number}") });
            json!({ "command": "UpdateUser", "id": ids[number % 2], "data": data })
        };
        let commands: Vec<_> = (0..100).map(renaming).collect();
        let (reply, results) = execute(&api, &commands).await?;
        for start in [0, 1] {
            let places = results.iter().skip(start).step_by(2).map(sequence).collect::<Result<Vec<_>, _>>()?;
            assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
        }
        let shown = get_after(&api, &format!("/v1/users/{}", ids[1]), &reply).await?.expect(200)?;
        assert_eq!(shown["name"], "Name 99");

        let commands: Vec<_> = (0..20).map(|number| registration(&format!("user{number}@example.org"))).collect();
        let body = json!({ "commands": commands, "ordered": true });
        let body = api.post("/v1/commands", &body).await?.expect(200)?;
        let results = body["results"].as_array().context("results")?;
        let places = results.iter().map(sequence).collect::<Result<Vec<_>, _>>()?;
        assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
        Ok(())
    }

    /// A thousand go in one call; none or more do not, and a broken one spoils its call before anything happens.
    async fn a_thousand_commands_go_in_one_call(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let mut commands: Vec<_> = (0..1_000).map(|number| registration(&format!("user{number}@example.org"))).collect();
        let (reply, results) = execute(&api, &commands).await?;
        assert!(results.iter().all(|result| result["status"] == 201));
        let mut ids: Vec<_> = results.iter().map(|result| result["body"]["id"].to_string()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 1_000, "each draws its own id");
        let page = get_after(&api, "/v1/users?limit=200", &reply).await?.expect(200)?;
        assert_eq!(page["data"].as_array().map(Vec::len), Some(200));

        commands.push(registration("late@example.org"));
        let refused = api.post("/v1/commands", &json!({ "commands": commands })).await?;
        assert_eq!(refused.problem(422)?, "invalid_body");
        let none = api.post("/v1/commands", &json!({ "commands": [] })).await?;
        assert_eq!(none.problem(422)?, "invalid_body");
        for broken in [json!(["RegisterUser"]), json!({ "comand": "RegisterUser" }), json!({ "data": {} })] {
            let body = json!({ "commands": [registration("late@example.org"), broken] });
            let refused = api.post("/v1/commands", &body).await?;
            assert_eq!(refused.problem(422)?, "invalid_body");
            assert!(text(&refused.json()?["errors"][0], "path")?.starts_with("commands[1]"));
        }
        api.post("/v1/users", &json!({ "email": "late@example.org", "name": "L" })).await?.expect(201)?;
        Ok(())
    }

    /// What changes something of a tenant is in the list, and nothing else is.
    async fn the_list_has_every_command_of_a_tenant(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let list = api.get("/v1/commands").await?.expect(200)?;
        let listed: Vec<(&str, &str)> = list["data"].as_array().context("commands")?.iter()
            .map(|row| Ok((text(row, "method")?, text(row, "path")?)))
            .collect::<anyhow::Result<_>>()?;
        let document = api.get("/openapi.json").await?.expect(200)?;
        let mut wanted = Vec::new();
        for (path, item) in document["paths"].as_object().context("paths")? {
            for (method, operation) in item.as_object().context("a path")? {
                let need = text(operation, "x-permission")?;
                let content = &operation["requestBody"]["content"];
                let json = content.is_null() || content.get("application/json").is_some();
                let many = path.ends_with("/bulk") || path == "/v1/commands";
                if method != "get" && need.contains('.') && json && !many {
                    wanted.push((method.to_uppercase(), path.as_str()));
                }
            }
        }
        assert!(wanted.len() >= 10);
        assert_eq!(wanted.len(), listed.len());
        for (method, path) in &wanted {
            assert!(listed.contains(&(method.as_str(), path)), "{method} {path} is not listed");
        }
        assert_eq!(api.call(Method::PUT, "/v1/commands", None, &[]).await?.status, 405);
        Ok(())
    }
}
