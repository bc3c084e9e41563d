//! Refused commands and shown secrets.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use domain::Commit;
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::service::Tidings;

use crate::world::{entries, tenant, text};

async fn limited_key(api: &Api, service: &Tidings, scopes: &[&str]) -> anyhow::Result<(String, Api)> {
    let issued = api
        .post("/v1/api-keys", &json!({ "name": "limited", "scopes": scopes }))
        .await?
        .expect(201)?;
    Ok((
        text(&issued, "id")?.to_owned(),
        service.tenant(text(&issued, "api_key")?)?,
    ))
}

/// The operations of the document whose success shows something that is a secret by its name.
fn showing(document: &Value) -> anyhow::Result<BTreeSet<String>> {
    let secret = |schema: &Value| {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => {
                &document["components"]["schemas"][reference.rsplit('/').next().unwrap_or_default()]
            }
            None => schema,
        };
        let text = schema.to_string();
        [
            "\"secret\":",
            "\"api_key\":",
            "\"token\":",
            "/IssuedApiKey\"",
            "/Invited\"",
            "/InvitationResult\"",
            "/ShownKey\"",
        ]
        .iter()
        .any(|mark| text.contains(mark))
    };
    let mut found = BTreeSet::new();
    for item in document["paths"].as_object().context("paths")?.values() {
        for operation in item.as_object().context("a path")?.values() {
            let responses = operation["responses"].as_object().context("responses")?;
            let successes = responses.iter().filter(|(status, _)| status.starts_with('2'));
            for (_, response) in successes {
                if secret(&response["content"]["application/json"]["schema"]) {
                    found.insert(text(operation, "operationId")?.to_owned());
                }
            }
        }
    }
    Ok(found)
}

/// Every operation that shows a secret, called once.
async fn show_all(service: &Tidings, id: &str, api: &Api) -> anyhow::Result<BTreeSet<String>> {
    let mut called = BTreeSet::new();
    let mut call = |operation: &str, reply: Reply| -> anyhow::Result<Value> {
        ensure!(matches!(reply.status, 200 | 201), "{operation}: {}", reply.status);
        called.insert(operation.to_owned());
        reply.json()
    };
    let none = json!({});
    call(
        "provision_tenant",
        service
            .admin()?
            .post("/v1/tenants", &json!({ "name": "Third", "slug": "third" }))
            .await?,
    )?;
    let owner = format!("/v1/tenants/{id}/api-keys");
    call("issue_owner_key", service.admin()?.post(&owner, &none).await?)?;
    let key = call(
        "issue_api_key",
        api.post("/v1/api-keys", &json!({ "name": "k" })).await?,
    )?;
    let rotate = format!("/v1/api-keys/{}/rotate", text(&key, "id")?);
    call("rotate_api_key", api.post(&rotate, &none).await?)?;
    let new = json!({ "url": "http://127.0.0.1:1/", "event_types": ["*"] });
    let endpoint = call("create_endpoint", api.post("/v1/endpoints", &new).await?)?;
    let rotate = format!("/v1/endpoints/{}/rotate-secret", text(&endpoint, "id")?);
    call("rotate_endpoint_secret", api.post(&rotate, &none).await?)?;
    let new = json!({ "name": "GitHub", "verification": { "scheme": "github" } });
    let source = call("create_source", api.post("/v1/sources", &new).await?)?;
    let rotate = format!("/v1/sources/{}/rotate-secret", text(&source, "id")?);
    call("rotate_source_secret", api.post(&rotate, &none).await?)?;
    let invited = call(
        "invite_user",
        api.post("/v1/invitations", &json!({ "email": "a@example.org" }))
            .await?,
    )?;
    let resend = format!("/v1/invitations/{}/resend", text(&invited, "id")?);
    call("resend_invitation", api.post(&resend, &none).await?)?;
    let bulk = json!({ "invitations": [{ "email": "b@example.org" }] });
    call("invite_users", api.post("/v1/invitations/bulk", &bulk).await?)?;
    Ok(called)
}

for_each_engine! {
    /// Each refusal is told with who, what, on what, why, in which request and from where; what is nobody's is not.
    async fn refused_commands_are_told(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (_, api) = tenant(&service, "acme").await?;
        let (_, other) = tenant(&service, "other").await?;
        let ada = json!({ "email": "ada@example.org", "name": "Ada" });
        let user = api.post("/v1/users", &ada).await?.expect(201)?;
        let user = text(&user, "id")?;
        let (reader_id, reader) = limited_key(&api, &service, &["users.read.tenant"]).await?;

        let headers = [("x-request-id", "req-taken"), ("correlation-id", "order-7")];
        let taken = api.call(Method::POST, "/v1/users", Some(&ada), &headers).await?;
        assert_eq!(taken.problem(409)?, "email_taken");
        let path = format!("/v1/users/{user}");
        assert_eq!(reader.call(Method::PATCH, &path, Some(&json!({ "name": "B" })), &[]).await?.problem(403)?, "forbidden");
        assert_eq!(api.call(Method::PATCH, &path, Some(&json!({ "name": "" })), &[]).await?.problem(422)?, "invalid_body");
        assert_eq!(other.call(Method::PATCH, &path, Some(&json!({ "name": "B" })), &[]).await?.problem(404)?, "not_found");
        assert_eq!(reader.get("/v1/audit").await?.problem(403)?, "forbidden");
        // Nothing of these: reads of what is not there, strangers, and events that do not fit.
        assert_eq!(api.get("/v1/users/usr_01ARZ3NDEKTSV4RRFFQ69G5FAV").await?.problem(404)?, "not_found");
        assert_eq!(service.anyone()?.post("/v1/users", &ada).await?.problem(401)?, "unauthenticated");
        assert_eq!(api.post("/v1/events", &json!({ "type": "a b" })).await?.problem(422)?, "invalid_body");
        let commands = json!({ "commands": [
            { "command": "RegisterUser", "data": ada },
            { "command": "RegisterUser", "data": { "email": "bob@example.org", "name": "Bob" } },
            { "command": "RemoveUser", "id": "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV" },
        ] });
        let results = api.post("/v1/commands", &commands).await?.expect(200)?["results"].take();
        assert_eq!((&results[0]["status"], &results[1]["status"], &results[2]["status"]), (&json!(409), &json!(201), &json!(404)));

        let told = entries(&api, "action=command.refused", 5).await?;
        assert_eq!(told.len(), 5, "{told:?}");
        let of = |command: &str, problem: &str| {
            let found = told.iter().find(|row| row["command"] == command && row["data"]["problem"] == problem);
            found.with_context(|| format!("{command} {problem} is not in {told:?}"))
        };
        let row = told.iter().find(|row| row["request_id"] == "req-taken").context("the request")?;
        assert_eq!((&row["command"], &row["data"]["problem"], &row["data"]["status"]), (&json!("RegisterUser"), &json!("email_taken"), &json!(409)));
        assert_eq!((&row["correlation_id"], &row["origin"]), (&json!("order-7"), &json!("127.0.0.1")));
        assert_eq!((&row["resource_type"], &row["resource_id"]), (&json!("user"), &json!("")));
        let forbidden = of("UpdateUser", "forbidden")?;
        assert_eq!((&forbidden["actor"], &forbidden["resource_id"]), (&json!(reader_id), &json!(user)));
        of("UpdateUser", "invalid_body")?;
        of("RemoveUser", "not_found")?;
        let read = entries(&api, "action=read.refused", 1).await?;
        assert_eq!((read.len(), &read[0]["command"], &read[0]["actor"]), (1, &json!("ListAudit"), &json!(reader_id)));
        let others = entries(&other, "action=command.refused", 1).await?;
        assert_eq!((others.len(), &others[0]["data"]["problem"]), (1, &json!("not_found")));
        Ok(())
    }

    /// Every answer that shows a secret is told before it is given, in the trail of the tenant whose secret it is; also
    /// what is answered again, and what many commands in one call show.
    async fn shown_secrets_are_told(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let (id, api) = tenant(&service, "acme").await?;
        let called = show_all(&service, &id, &api).await?;
        let document = service.anyone()?.get("/openapi.json").await?.expect(200)?;
        assert_eq!(called, showing(&document)?, "an operation shows a secret that no test looks at");

        let key = json!({ "name": "keyed" });
        let headers = [("idempotency-key", "k1")];
        let first = api.call(Method::POST, "/v1/api-keys", Some(&key), &headers).await?.expect(201)?;
        let again = api.call(Method::POST, "/v1/api-keys", Some(&key), &headers).await?;
        assert_eq!(again.header("idempotent-replayed"), "true");
        let new = json!({ "url": "http://127.0.0.1:1/", "event_types": ["*"] });
        let create = json!({ "command": "CreateEndpoint", "data": new });
        let commands = json!({ "commands": [create, create, { "command": "IssueApiKey", "data": key }] });
        let headers = [("idempotency-key", "k2"), ("x-request-id", "req-many")];
        for _ in 0..2 {
            let many = api.call(Method::POST, "/v1/commands", Some(&commands), &headers).await?.expect(200)?;
            ensure!(many["results"].as_array().is_some_and(|all| all.iter().all(|one| one["status"] == 201)), "{many}");
        }
        // The last answer is given: what it showed is in the log, whatever happens to the process now.
        service.kill().await?;
        let mut told = Vec::new();
        for record in service.events().await? {
            let Ok(commit) = Commit::decode(&record.payload) else { continue };
            if commit.tenant.as_str() == id && commit.aggregate == "access" {
                told.extend(commit.events.into_iter().filter(|event| event.event_type == "secret.shown"));
            }
        }
        let count = |command: &str, again: bool| {
            let of = |event: &&domain::EventRecord| event.data["command"] == command && event.data["again"] == again;
            told.iter().filter(of).count()
        };
        for command in ["ProvisionTenant", "IssueOwnerKey", "RotateApiKey", "CreateEndpoint", "RotateEndpointSecret", "InviteUser", "ResendInvitation", "InviteUsers"] {
            assert_eq!(count(command, false), 1, "{command}: {told:?}");
        }
        assert_eq!((count("IssueApiKey", false), count("IssueApiKey", true)), (2, 1));
        assert_eq!((count("ExecuteCommands", false), count("ExecuteCommands", true)), (3, 3));
        let text_of_key = text(&first, "api_key")?;
        ensure!(told.iter().all(|event| !event.data.to_string().contains(text_of_key)), "the secret itself is told");

        service.restart().await?;
        let api = service.tenant(api.key().context("key")?)?;
        let rows = entries(&api, "action=secret.shown&limit=200", told.len()).await?;
        let many = rows.iter().find(|row| row["request_id"] == "req-many").context("many")?;
        assert_eq!((&many["data"]["secret"], &many["resource_type"]), (&json!("api_key"), &json!("api_key")));
        ensure!(rows.iter().any(|row| row["actor"] == "platform-admin" && row["command"] == "ProvisionTenant"), "{rows:?}");
        Ok(())
    }

    /// Refusals that wait when the process is asked to end are written before it does; too many are counted.
    async fn a_flood_of_refusals_is_counted_and_kept_at_the_end(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let (id, api) = tenant(&service, "acme").await?;
        let bad = json!({ "command": "RemoveUser", "id": "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV" });
        let commands = json!({ "commands": vec![bad; 1_000] });
        api.post("/v1/commands", &commands).await?.expect(200)?;
        let limit = json!({ "name": "slow", "scopes": ["*"], "rate_limit": { "requests": 1, "per_seconds": 600 } });
        let issued = api.post("/v1/api-keys", &limit).await?.expect(201)?;
        let slow = service.tenant(text(&issued, "api_key")?)?;
        for _ in 0..4 {
            slow.get("/v1/users").await?;
        }
        service.terminate().await?;
        let (mut refused, mut dropped, mut limited, mut commits) = (0, 0, 0, 0);
        for record in service.events().await? {
            let Ok(commit) = Commit::decode(&record.payload) else { continue };
            if commit.tenant.as_str() != id || commit.aggregate != "access" {
                continue;
            }
            commits += 1;
            for event in commit.events {
                let count = || event.data["count"].as_u64().unwrap_or_default();
                match event.event_type.as_str() {
                    "command.refused" => refused += 1,
                    "access.dropped" => dropped += count(),
                    "access.limited" => limited += count(),
                    _ => {}
                }
            }
        }
        assert_eq!((refused + dropped, limited), (1_000, 3));
        ensure!(dropped > 0 && refused >= 100, "{refused} refusals and {dropped} more");
        ensure!(commits <= 20, "a flood made {commits} commits");
        Ok(())
    }
}
