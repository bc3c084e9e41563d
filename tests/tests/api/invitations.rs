//! `/v1/invitations`: asked, reminded, taken back, accepted once.

use std::time::Duration;

use anyhow::Context;
use commands::{ClaimKey, Dispatcher, Settings};
use domain::invitation::{Invitation, InvitationCommand};
use domain::{Actor, Meta, TenantId, Timestamp};
use futures::FutureExt;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::service::Tidings;

use crate::world::{get_after, tenant, text, until};

async fn invite(api: &Api, email: &str) -> anyhow::Result<(String, String)> {
    let body = api
        .post("/v1/invitations", &json!({ "email": email }))
        .await?
        .expect(201)?;
    Ok((text(&body, "id")?.to_owned(), text(&body, "token")?.to_owned()))
}

async fn accept(api: &Api, token: &str) -> anyhow::Result<Reply> {
    api.post(
        "/v1/invitations/accept",
        &json!({ "token": token, "name": "Ada" }),
    )
    .await
}

async fn ids(api: &Api, path: &str, after: &Reply) -> anyhow::Result<Vec<String>> {
    let page = get_after(api, path, after).await?.expect(200)?;
    let rows = page["data"].as_array().context("rows")?;
    rows.iter().map(|row| Ok(text(row, "id")?.to_owned())).collect()
}

fn detail(reply: &Reply) -> anyhow::Result<String> {
    Ok(text(&reply.json()?, "detail")?.to_owned())
}

for_each_engine! {
    /// A token makes one user, with the invitation's address and roles, and needs no key.
    async fn an_invitation_is_accepted_once(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, anyone) = (tenant(&service, "acme").await?, service.anyone()?);
        let role = api.post("/v1/roles", &json!({ "name": "Readers", "permissions": ["users.read.tenant"] })).await?;
        let role = text(&role.expect(201)?, "id")?.to_owned();
        let new = json!({ "email": "Ada@example.org", "name": "Ada L", "roles": [role] });
        let made = api.post("/v1/invitations", &new).await?;
        let body = made.expect(201)?;
        let (path, token) = (format!("/v1/invitations/{}", text(&body, "id")?), text(&body, "token")?);
        assert!(token.starts_with("tdi_"));
        let shown = get_after(&api, &path, &made).await?.expect(200)?;
        assert_eq!((text(&shown, "status")?, text(&shown, "email")?), ("pending", "Ada@example.org"));
        assert_eq!((&shown["roles"], shown.get("token")), (&json!([role]), None), "the token is shown once");

        let accepted = anyone.post("/v1/invitations/accept", &json!({ "token": token })).await?;
        let user = text(&accepted.expect(201)?, "user")?.to_owned();
        let registered = get_after(&api, &format!("/v1/users/{user}"), &accepted).await?.expect(200)?;
        assert_eq!((text(&registered, "email")?, text(&registered, "name")?), ("Ada@example.org", "Ada L"));
        let holders = get_after(&api, &format!("/v1/users?role={role}"), &accepted).await?.expect(200)?;
        assert_eq!(holders["data"][0]["id"], json!(user));
        let shown = get_after(&api, &path, &accepted).await?.expect(200)?;
        assert_eq!((text(&shown, "status")?, text(&shown, "user")?), ("accepted", user.as_str()));
        let trail = get_after(&api, "/v1/audit?action=user.registered", &accepted).await?.expect(200)?;
        assert!(text(&trail["data"][0], "actor")?.starts_with("inv_"), "the invited person acted");

        let again = accept(&anyone, token).await?;
        assert_eq!(again.problem(410)?, "invitation_gone");
        assert!(detail(&again)?.contains("accepted"));
        assert_eq!(api.post("/v1/invitations", &new).await?.problem(409)?, "email_taken");
        assert_eq!(api.post(&format!("{path}/resend"), &json!({})).await?.problem(409)?, "not_possible");
        assert_eq!(api.post(&format!("{path}/revoke"), &json!({})).await?.problem(409)?, "not_possible");
        Ok(())
    }

    /// Whatever is wrong about a token, the answer is the same.
    async fn a_token_proves_itself_or_nothing(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, anyone) = (tenant(&service, "acme").await?, service.anyone()?);
        let (id, token) = invite(&api, "ada@example.org").await?;
        let resent = api.post(&format!("/v1/invitations/{id}/resend"), &json!({})).await?;
        let newer = text(&resent.expect(200)?, "token")?.to_owned();
        assert_ne!(newer, token);
        let mut last = newer.clone();
        last.replace_range(newer.len() - 2.., "AA");
        let mut other_invitation = newer.clone();
        other_invitation.replace_range(30..56, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        let mut other_tenant = newer.clone();
        other_tenant.replace_range(4..30, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        let mut answers = Vec::new();
        for wrong in [token.as_str(), &last, &other_invitation, &other_tenant, "tdi_", "nonsense"] {
            let refused = accept(&anyone, wrong).await?;
            assert_eq!(refused.problem(401).context(wrong.to_owned())?, "unauthenticated");
            answers.push(detail(&refused)?);
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
        let nameless = anyone.post("/v1/invitations/accept", &json!({ "token": newer })).await?;
        assert_eq!(nameless.problem(422)?, "invalid_body");
        accept(&anyone, &newer).await?.expect(201)?;
        Ok(())
    }

    /// One address, one pending invitation; it is free again once that is revoked.
    async fn an_address_is_invited_once_at_a_time(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, anyone) = (tenant(&service, "acme").await?, service.anyone()?);
        let (id, token) = invite(&api, "ada@example.org").await?;
        let twice = api.post("/v1/invitations", &json!({ "email": "ADA@example.org" })).await?;
        assert_eq!(twice.problem(409)?, "already_invited");
        assert!(detail(&twice)?.contains(&id), "the pending one is named");
        let revoked = api.post(&format!("/v1/invitations/{id}/revoke"), &json!({})).await?;
        assert_eq!(revoked.status, 204);
        let gone = accept(&anyone, &token).await?;
        assert_eq!(gone.problem(410)?, "invitation_gone");
        assert!(detail(&gone)?.contains("revoked"));
        let (newer, _) = invite(&api, "ADA@example.org").await?;
        let last = api.post(&format!("/v1/invitations/{newer}/resend"), &json!({})).await?;
        assert_eq!(ids(&api, "/v1/invitations", &last).await?, [newer.clone(), id.clone()]);
        assert_eq!(ids(&api, "/v1/invitations?status=pending", &last).await?, *std::slice::from_ref(&newer));
        assert_eq!(ids(&api, "/v1/invitations?status=revoked", &last).await?, *std::slice::from_ref(&id));
        assert_eq!(api.get("/v1/invitations?status=odd").await?.problem(400)?, "invalid_query");
        assert_eq!(api.get(&format!("/v1/invitations/{newer}")).await?.expect(200)?["sent"], 2);

        let other = tenant(&service, "other").await?;
        invite(&other, "ada@example.org").await?;
        for call in ["resend", "revoke"] {
            let foreign = other.post(&format!("/v1/invitations/{id}/{call}"), &json!({})).await?;
            assert_eq!(foreign.problem(404)?, "not_found");
        }
        let user = json!({ "email": "ada@example.org", "name": "Ada" });
        other.post("/v1/users", &user).await?.expect(201)?;
        Ok(())
    }

    /// Nobody hands on what they have not: not by inviting, and not by sending again what others invited to.
    async fn an_invitation_gives_no_more_than_the_inviter_has(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let role = api.post("/v1/roles", &json!({ "name": "Editors", "permissions": ["users.write.tenant"] })).await?;
        let role = text(&role.expect(201)?, "id")?.to_owned();
        let scopes = json!(["invitations.*.tenant", "roles.grant.tenant"]);
        let key = api.post("/v1/api-keys", &json!({ "name": "inviter", "scopes": scopes })).await?.expect(201)?;
        let inviter = service.tenant(text(&key, "api_key")?)?;
        let editor = json!({ "email": "ada@example.org", "roles": [role] });
        let made = api.post("/v1/invitations", &editor).await?.expect(201)?;
        let resend = format!("/v1/invitations/{}/resend", text(&made, "id")?);
        for (path, body) in [
            ("/v1/invitations", json!({ "email": "bob@example.org", "roles": [role] })),
            ("/v1/invitations/bulk", json!({ "invitations": [{ "email": "bob@example.org", "roles": [role] }] })),
            (&resend, json!({})),
        ] {
            let refused = inviter.post(path, &body).await?;
            assert_eq!(refused.problem(403).context(path.to_owned())?, "forbidden");
            assert!(detail(&refused)?.contains("users.write.tenant"), "what is too much is named");
        }
        let (id, _) = invite(&inviter, "bob@example.org").await?;
        inviter.post(&format!("/v1/invitations/{id}/resend"), &json!({})).await?.expect(200)?;
        Ok(())
    }

    /// Many people at once, each with a result of their own, in order.
    async fn people_are_invited_in_bulk(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, anyone) = (tenant(&service, "acme").await?, service.anyone()?);
        api.post("/v1/users", &json!({ "email": "user@example.org", "name": "U" })).await?.expect(201)?;
        let (pending, _) = invite(&api, "pending@example.org").await?;
        let mut people: Vec<Value> = (0..200).map(|n| json!({ "email": format!("p{n}@example.org") })).collect();
        people.insert(3, json!({ "email": "user@example.org" }));
        people.insert(7, json!({ "email": "PENDING@example.org" }));
        let sent = api.post("/v1/invitations/bulk", &json!({ "invitations": people })).await?;
        let body = sent.expect(200)?;
        let results = body["results"].as_array().context("results")?;
        assert_eq!(results.len(), 202);
        assert_eq!((&results[3]["status"], &results[3]["code"]), (&json!("rejected"), &json!("email_taken")));
        assert_eq!(results[7]["code"], "already_invited");
        assert!(text(&results[7], "detail")?.contains(&pending));
        let invited = results.iter().filter(|result| result["status"] == "invited").count();
        assert_eq!(invited, 200);
        let first = get_after(&api, &format!("/v1/invitations/{}", text(&results[8], "id")?), &sent).await?;
        assert_eq!(first.expect(200)?["email"], "p6@example.org", "results stand in the order of the body");
        accept(&anyone, text(&results[201], "token")?).await?.expect(201)?;

        let wrong = json!({ "invitations": [{ "email": "x@example.org" }, { "email": "nobody" }] });
        let refused = api.post("/v1/invitations/bulk", &wrong).await?;
        assert_eq!(refused.problem(422)?, "invalid_body");
        assert_eq!(refused.json()?["errors"][0]["path"], "invitations[1].email");
        let role = json!({ "invitations": [{ "email": "x@example.org", "roles": ["rol_01ARZ3NDEKTSV4RRFFQ69G5FAV"] }] });
        let refused = api.post("/v1/invitations/bulk", &role).await?;
        assert_eq!(refused.json()?["errors"][0]["path"], "invitations[0].roles[0]");
        invite(&api, "x@example.org").await?;
        Ok(())
    }

    /// Many take up one token, and somebody registers the address besides: one user comes of it, and the invitation
    /// is used up if and only if that user is its own.
    async fn racing_acceptances_make_one_user(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, anyone) = (tenant(&service, "acme").await?, service.anyone()?);
        for round in 0..5 {
            let email = format!("ada{round}@example.org");
            let (id, token) = invite(&api, &email).await?;
            let user = json!({ "email": email, "name": "Ada" });
            let mut calls = vec![];
            for _ in 0..10 {
                calls.push(accept(&anyone, &token).boxed());
            }
            calls.push(async { api.post("/v1/users", &user).await }.boxed());
            let replies = futures::future::try_join_all(calls).await?;
            let won: Vec<_> = replies.iter().filter(|reply| reply.status == 201).collect();
            assert_eq!(won.len(), 1, "{:?}", replies.iter().map(|reply| reply.status).collect::<Vec<_>>());
            let by_invitation = won[0].json()?.get("user").cloned();
            let found = get_after(&api, &format!("/v1/users?email={email}"), won[0]).await?.expect(200)?;
            assert_eq!(found["data"].as_array().map(Vec::len), Some(1));
            let shown = get_after(&api, &format!("/v1/invitations/{id}"), won[0]).await?.expect(200)?;
            let status = if by_invitation.is_some() { "accepted" } else { "pending" };
            assert_eq!((text(&shown, "status")?, shown.get("user").filter(|user| !user.is_null())), (status, by_invitation.as_ref()));
        }
        Ok(())
    }

    /// The clock alone ends an invitation, in reads as in acceptance; its address can then be invited anew, and only
    /// until then can it be sent again.
    async fn what_is_too_late_is_expired_everywhere(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let key = api.key().context("key")?.to_owned();
        let (first, token) = invite(&api, "ada@example.org").await?;
        let (second, _) = invite(&api, "bob@example.org").await?;
        let (open, _) = invite(&api, "cleo@example.org").await?;
        let tenant = format!("ten_{}", &token[4..30]).parse()?;
        service.terminate().await?;
        for id in [&first, &second] {
            let_time_pass(&service, &tenant, id).await?;
        }
        service.restart().await?;

        let (api, anyone) = (service.tenant(&key)?, service.anyone()?);
        let late = accept(&anyone, &token).await?;
        assert_eq!(late.problem(410)?, "invitation_gone");
        assert!(detail(&late)?.contains("expired"));
        let shown = until(&api, &format!("/v1/invitations/{first}"), |shown| shown["sent"] == 2).await?;
        assert_eq!(shown["status"], "expired");
        let resent = api.post(&format!("/v1/invitations/{second}/resend"), &json!({})).await?;
        resent.expect(200)?;
        let pending = ids(&api, "/v1/invitations?status=pending", &resent).await?;
        assert_eq!(pending, [open, second.clone()]);
        assert_eq!(ids(&api, "/v1/invitations?status=expired", &resent).await?, *std::slice::from_ref(&first));

        let anew = api.post("/v1/invitations", &json!({ "email": "ADA@example.org" })).await?;
        let body = anew.expect(201)?;
        let noted = get_after(&api, &format!("/v1/audit?resource={first}"), &anew).await?.expect(200)?;
        assert_eq!(noted["data"][0]["action"], "invitation.expired");
        assert_eq!(ids(&api, "/v1/invitations?status=expired", &anew).await?, *std::slice::from_ref(&first));
        let again = api.post(&format!("/v1/invitations/{first}/resend"), &json!({})).await?;
        assert_eq!(again.problem(409)?, "not_possible");
        accept(&anyone, text(&body, "token")?).await?.expect(201)?;
        Ok(())
    }
}

/// Makes an invitation too late while the service is down: it was sent again, with the same token, long ago.
async fn let_time_pass(service: &Tidings, tenant: &TenantId, id: &str) -> anyhow::Result<()> {
    let engine = service.engine().await?;
    // Sending again claims nothing, so that any key does.
    let dispatcher = Dispatcher::new(&*engine, Settings::new(ClaimKey::new([0; 32])));
    let loaded = dispatcher.load::<Invitation>(tenant, id, Duration::ZERO).await?;
    let token = loaded.aggregate.terms().context("an invitation")?.token.clone();
    let command = InvitationCommand::Resend {
        token,
        expires_at: Timestamp::from_millis(1_700_000_000_000),
    };
    let meta = Meta {
        command_id: format!("late-{id}"),
        command: "ResendInvitation".to_owned(),
        actor: Actor::System("test".to_owned()),
        request_id: None,
        origin: None,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        at: Timestamp::from_millis(1_699_000_000_000),
    };
    dispatcher
        .execute::<Invitation>(tenant, id, command, meta)
        .await?;
    engine.close().await;
    Ok(())
}
