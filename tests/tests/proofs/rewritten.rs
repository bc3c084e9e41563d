//! History rewritten under the running service: found by the service as long as it remembers, and by whoever has kept
//! a checkpoint for ever.

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::Commit;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::service::Engine;
use tlog_tiles::check_tree;

use crate::world::{World, text};
use crate::{forger, outsider};

/// A renaming in the middle of the history, and the same record with another name.
fn forged(lines: &[Value]) -> anyhow::Result<(usize, u64, Vec<u8>)> {
    let renaming = |line: &Value| line["record"]["events"][0]["type"] == "user.renamed";
    let chosen = lines.iter().position(renaming).context("nobody was renamed")?;
    let mut commit = Commit::decode(&outsider::payload(&lines[chosen])?)?;
    commit.events[0].data["to"] = json!("Mallory");
    commit.events[0].data["name"] = json!("Mallory");
    let position: domain::Position = text(&lines[chosen], "position")?.parse()?;
    Ok((chosen, position.sequence, commit.encode()))
}

for_each_engine! {
    async fn history_rewritten_under_the_running_service_is_found(engine: Engine) {
        let mut world = World::start(engine).await?;
        world.users(0..20).await?;
        let key = world.key().await?;
        let (note, kept) = world.checkpoint().await?;
        let before = outsider::open(&note, &key)?;
        let mut lines = world.export("").await?;
        let tenant = text(&lines[0], "subject")?.split('.').nth(1).context("a tenant")?.to_owned();
        let (chosen, sequence, payload) = forged(&lines)?;
        let position = format!("e0-{sequence}");

        // The log and its archive: the tree tells which record it was.
        forger::rewrite_log(&mut world.service, sequence, &payload).await?;
        let of_kept = format!("/v1/audit/proof/{position}?size={}", before.size());
        assert_eq!(world.api.get(&of_kept).await?.problem(500)?, "history_changed");
        let verdict = world.verify(&world.export("").await?, &[&kept], &key)?;
        assert_eq!(verdict.code, Some(1));
        assert!(verdict.text.contains(&format!("{position} is not the record whose leaf hash")), "{}", verdict.text);

        // The database too, with care: nothing in it tells, but the service knows what it signed.
        lines[chosen]["payload"] = json!(STANDARD.encode(&payload));
        forger::rewrite_tree(&world.service, &tenant, &lines).await?;
        let consistency = format!("/v1/audit/consistency?from={}", before.size());
        for path in [&of_kept, &consistency] {
            assert_eq!(world.api.get(path).await?.problem(500)?, "history_changed", "{path}");
        }
        // A stream that was made anew is told by its age too.
        for path in ["/v1/audit/checkpoint", &format!("/v1/audit/proof/{position}")] {
            let refused = world.api.get(path).await?.json()?;
            let code = text(&refused, "code")?;
            let untrusted = engine == Engine::Cluster && code == "log_untrusted";
            assert!(untrusted || code == "history_changed", "{path}: {refused}");
        }
        assert!(world.service.output().contains("HISTORY WAS REWRITTEN"));
        let rewritten = world.export("").await?;
        let verdict = world.verify(&rewritten, &[&kept], &key)?;
        assert_eq!(verdict.code, Some(1));
        assert_eq!(verdict.kinds()?, ["rewritten"]);

        // A process that remembers nothing signs it, once the read database does not tell it of another log. Who kept
        // the checkpoint still finds it.
        world.service.terminate().await?;
        forger::forget_log(&world.service).await?;
        world.restart().await?;
        let (_, now) = world.checkpoint().await?;
        assert_eq!(world.verify(&rewritten, &[&now], &key)?.code, Some(0));
        let verdict = world.verify(&rewritten, &[&now, &kept], &key)?;
        assert_eq!((verdict.code, verdict.kinds()?), (Some(1), vec!["rewritten".to_owned()]));
        world.users(20..25).await?;
        let proof = world.api.get(&consistency).await?.expect(200)?;
        ensure!(text(&proof["from"], "root")? != before.hash().to_string(), "the root is the old one");
        let after = outsider::open(&world.checkpoint().await?.0, &key)?;
        ensure!(outsider::consistent(&proof, &before, &after).is_err(), "it was believed");
        // The proof itself holds between the two forged trees.
        let hashes: Vec<_> = proof["hashes"].as_array().context("hashes")?.iter()
            .map(|hash| Ok(tlog_tiles::Hash::parse_hash(hash.as_str().context("a hash")?)?))
            .collect::<anyhow::Result<_>>()?;
        let from = tlog_tiles::Hash::parse_hash(text(&proof["from"], "root")?)?;
        check_tree(&hashes, after.size(), *after.hash(), before.size(), from)?;
        Ok(())
    }
}
