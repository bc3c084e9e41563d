//! Proofs, as an outsider sees them: every one is verified with another project's code, from what is documented.

#[path = "proofs/exports.rs"]
mod exports;
#[path = "proofs/forger.rs"]
mod forger;
#[path = "proofs/outsider.rs"]
mod outsider;
#[path = "proofs/rewritten.rs"]
mod rewritten;
#[path = "proofs/world.rs"]
mod world;

use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use world::{World, text};

for_each_engine! {
    /// Each record of a history of some hundreds, in the newest tree and in an older one; claims too.
    async fn every_record_is_proved(engine: Engine) {
        let world = World::start(engine).await?;
        world.users(0..150).await?;
        let (before, _) = world.checkpoint().await?;
        let before = outsider::open(&before, &world.key().await?)?;
        world.users(150..200).await?;
        let lines = world.export("").await?;
        assert_eq!(lines.len() as u64, outsider::open(&world.checkpoint().await?.0, &world.key().await?)?.size());
        assert!(lines.iter().any(|line| line["subject"].as_str().is_some_and(|subject| subject.starts_with("uq."))));
        for line in lines.iter().step_by(7).chain(lines.last()) {
            let position = text(line, "position")?;
            let proof = world.api.get(&format!("/v1/audit/proof/{position}")).await?.expect(200)?;
            let checkpoint = outsider::open(text(&proof, "checkpoint")?, &world.key().await?)?;
            outsider::included(&proof, checkpoint.size(), *checkpoint.hash())?;
            assert_eq!(&proof["record"], line);
            let older = format!("/v1/audit/proof/{position}?size={}", before.size());
            let older = world.api.get(&older).await?;
            if line["leaf"].as_u64() < Some(before.size()) {
                outsider::included(&older.expect(200)?, before.size(), *before.hash())?;
            } else {
                assert_eq!(older.problem(400)?, "invalid_query");
            }
        }
        // A proof of one record is none of another.
        let mut proof = world.api.get("/v1/audit/proof/e0-1").await?;
        if proof.status == 404 {
            proof = world.api.get(&format!("/v1/audit/proof/{}", text(&lines[0], "position")?)).await?;
        }
        let mut proof = proof.expect(200)?;
        let (size, root) = (before.size(), *before.hash());
        proof["record"]["message_id"] = json!("another");
        assert!(outsider::included(&proof, size, root).is_err());
        Ok(())
    }

    /// Between any two checkpoints, and never between one and another history.
    async fn a_log_that_grew_is_consistent(engine: Engine) {
        let world = World::start(engine).await?;
        let key = world.key().await?;
        let mut kept = Vec::new();
        for round in 0..4 {
            world.users(round * 20..round * 20 + 20).await?;
            kept.push(outsider::open(&world.checkpoint().await?.0, &key)?);
        }
        for (number, before) in kept.iter().enumerate() {
            for after in &kept[number..] {
                let path = format!("/v1/audit/consistency?from={}&to={}", before.size(), after.size());
                let proof = world.api.get(&path).await?.expect(200)?;
                outsider::consistent(&proof, before, after)?;
                if before.size() < after.size() {
                    assert!(outsider::consistent(&proof, after, before).is_err());
                }
            }
        }
        let newest = world.api.get(&format!("/v1/audit/consistency?from={}", kept[0].size())).await?.expect(200)?;
        outsider::consistent(&newest, &kept[0], &kept[3])?;
        Ok(())
    }

    /// What cannot be proved is said so, and whose it is stays unknown.
    async fn what_cannot_be_proved_is_refused(engine: Engine) {
        let world = World::start(engine).await?;
        let other = World::another(&world.service, "other").await?;
        let foreign = other.post("/v1/users", &json!({ "email": "x@example.org", "name": "X" })).await?;
        let foreign = foreign.header("tidings-position").to_owned();
        let get = async |path: String| world.api.call(Method::GET, &path, None, &[("tidings-at-least", &foreign)]).await;
        let nobodys = get("/v1/audit/proof/e0-999999".to_owned()).await?;
        assert_eq!(nobodys.problem(404)?, "not_found");
        let anothers = get(format!("/v1/audit/proof/{foreign}")).await?;
        assert_eq!(anothers.problem(404)?, "not_found");
        let detail = |reply: &tests::http::Reply| -> anyhow::Result<Value> { Ok(reply.json()?["detail"].clone()) };
        assert_eq!(detail(&nobodys)?, detail(&anothers)?);
        for path in ["/v1/audit/proof/m0-1", "/v1/audit/proof/e1-1", "/v1/audit/proof/x", "/v1/audit/proof/e0-0"] {
            assert_eq!(get(path.to_owned()).await?.problem(404)?, "not_found", "{path}");
        }
        let own = world.export("").await?;
        let position = text(&own[1], "position")?;
        for path in [
            format!("/v1/audit/proof/{position}?size=1"),
            format!("/v1/audit/proof/{position}?size=99999"),
            format!("/v1/audit/proof/{position}?size=x"),
            "/v1/audit/consistency".to_owned(),
            "/v1/audit/consistency?from=0".to_owned(),
            "/v1/audit/consistency?from=3&to=2".to_owned(),
            "/v1/audit/consistency?from=99999".to_owned(),
            "/v1/audit/log?size=99999".to_owned(),
            "/v1/audit/log?from=99999".to_owned(),
        ] {
            assert_eq!(get(path.clone()).await?.problem(400)?, "invalid_query", "{path}");
        }
        Ok(())
    }

    /// Checkpoint, key and export of one tenant do not serve for another, and every process signs with one key.
    async fn each_tenant_has_its_own_tree(engine: Engine) {
        let mut world = World::start(engine).await?;
        world.users(0..3).await?;
        let other = World::another(&world.service, "other").await?;
        let key = world.key().await?;
        let others = other.get("/v1/audit/checkpoint/key").await?;
        let others = String::from_utf8(others.body.to_vec())?;
        assert_ne!(key, others.trim());
        let foreign = world::after(&other, "/v1/audit/checkpoint").await?;
        assert!(outsider::open(&foreign, &key).is_err());
        outsider::open(&foreign, others.trim())?;
        let before = outsider::open(&world.checkpoint().await?.0, &key)?;
        world.restart().await?;
        assert_eq!(world.key().await?, key);
        let after = outsider::open(&world.checkpoint().await?.0, &key)?;
        assert_eq!((after.size(), after.hash()), (before.size(), before.hash()));
        Ok(())
    }
}
