//! Exports of a real history, falsified in every way that can be thought of; `tidings audit verify` must find each.

use std::process::Command;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::for_each_engine;

use crate::outsider;
use crate::world::{World, text};

/// Makes a line agree with itself again, as a careful forger does.
fn seal(line: &mut Value) -> anyhow::Result<()> {
    line["leaf_hash"] = json!(outsider::leaf(line)?.to_string());
    Ok(())
}

/// Numbers the leaves anew.
fn renumber(lines: &mut [Value]) {
    for (number, line) in lines.iter_mut().enumerate() {
        line["leaf"] = json!(number);
    }
}

type Falsify = fn(&mut Vec<Value>, &Value) -> anyhow::Result<()>;

/// A name, one kind that must be among the findings, and what is done. The second argument is another tenant's record.
const FALSIFICATIONS: &[(&str, &str, Falsify)] = &[
    ("a changed byte", "changed", |lines, _| {
        let mut bytes = outsider::payload(&lines[40])?;
        *bytes.last_mut().context("bytes")? ^= 1;
        lines[40]["payload"] = json!(STANDARD.encode(bytes));
        Ok(())
    }),
    ("a changed byte, with care", "rewritten", |lines, _| {
        let mut bytes = outsider::payload(&lines[40])?;
        *bytes.last_mut().context("bytes")? ^= 1;
        lines[40]["payload"] = json!(STANDARD.encode(bytes));
        seal(&mut lines[40])
    }),
    ("a readable part that lies", "changed", |lines, _| {
        lines[40]["record"]["v"] = json!(2);
        Ok(())
    }),
    ("a removed record", "removed", |lines, _| {
        lines.remove(40);
        Ok(())
    }),
    ("a removed record, with care", "removed", |lines, _| {
        lines.remove(40);
        renumber(lines);
        Ok(())
    }),
    ("the first record removed", "removed", |lines, _| {
        lines.remove(0);
        Ok(())
    }),
    ("a record twice", "added", |lines, _| {
        lines.insert(41, lines[40].clone());
        Ok(())
    }),
    ("a record twice, with care", "rewritten", |lines, _| {
        lines.insert(41, lines[40].clone());
        renumber(lines);
        Ok(())
    }),
    ("a record at the end", "added", |lines, _| {
        let mut added = lines[40].clone();
        added["leaf"] = json!(lines.len());
        added["position"] = json!("e0-999999");
        seal(&mut added)?;
        lines.push(added);
        Ok(())
    }),
    ("two records in another order", "reordered", |lines, _| {
        lines.swap(40, 41);
        Ok(())
    }),
    (
        "two records in another order, renumbered",
        "reordered",
        |lines, _| {
            lines.swap(40, 41);
            renumber(lines);
            Ok(())
        },
    ),
    (
        "two records in another order, with care",
        "rewritten",
        |lines, _| {
            let (one, other) = (lines[40]["position"].clone(), lines[41]["position"].clone());
            lines.swap(40, 41);
            renumber(lines);
            (lines[40]["position"], lines[41]["position"]) = (one, other);
            seal(&mut lines[40])?;
            seal(&mut lines[41])
        },
    ),
    ("a truncated tail", "removed", |lines, _| {
        lines.truncate(lines.len() - 3);
        Ok(())
    }),
    ("nothing at all", "removed", |lines, _| {
        lines.clear();
        Ok(())
    }),
    ("swapped subjects", "changed", |lines, _| swap(lines, "subject")),
    ("swapped message ids", "changed", |lines, _| {
        swap(lines, "message_id")
    }),
    ("swapped payloads", "changed", |lines, _| swap(lines, "payload")),
    ("swapped positions", "changed", |lines, _| swap(lines, "position")),
    ("swapped leaf hashes", "changed", |lines, _| {
        swap(lines, "leaf_hash")
    }),
    ("swapped leaf numbers", "reordered", |lines, _| {
        swap(lines, "leaf")
    }),
    ("another tenant's record", "foreign", |lines, foreign| {
        let leaf = lines[40]["leaf"].clone();
        lines[40] = foreign.clone();
        lines[40]["leaf"] = leaf;
        Ok(())
    }),
    ("a line that is no record", "unreadable", |lines, _| {
        lines[40] = json!({ "leaf": 40 });
        Ok(())
    }),
    ("a field more", "unreadable", |lines, _| {
        lines[40]["approved_by"] = json!("nobody");
        Ok(())
    }),
];

fn swap(lines: &mut [Value], field: &str) -> anyhow::Result<()> {
    // Two lines apart, so that both are commits or claims of their own.
    let (one, other) = (lines[40][field].clone(), lines[42][field].clone());
    anyhow::ensure!(one != other, "nothing is swapped");
    (lines[40][field], lines[42][field]) = (other, one);
    Ok(())
}

for_each_engine! {
    async fn every_falsification_of_an_export_is_found(engine: Engine) {
        let world = World::start(engine).await?;
        world.users(0..10).await?;
        let (_, before) = world.checkpoint().await?;
        world.users(10..40).await?;
        let (note, now) = world.checkpoint().await?;
        let (key, lines) = (world.key().await?, world.export("").await?);
        let honest = world.verify(&lines, &[&now, &before], &key)?;
        assert_eq!(honest.code, Some(0), "{}", honest.text);
        assert_eq!(honest.kinds()?, Vec::<String>::new());

        let other = World::another(&world.service, "other").await?;
        let others = crate::world::after(&other, "/v1/audit/log").await?;
        let foreign: Value = serde_json::from_str(others.lines().next().context("a line")?)?;
        for (name, kind, falsify) in FALSIFICATIONS {
            let mut lines = lines.clone();
            falsify(&mut lines, &foreign)?;
            for checkpoints in [&[&now][..], &[&now, &before]] {
                let verdict = world.verify(&lines, checkpoints, &key)?;
                assert_eq!(verdict.code, Some(1), "{name} was believed: {}", verdict.text);
                let kinds = verdict.kinds()?;
                assert!(kinds.iter().any(|found| found == kind), "{name}: {}", verdict.text);
            }
        }

        // Checkpoints are not believed either.
        let size = outsider::open(&note, &key)?.size();
        let forged = world.keep("forged", &note.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size - 1), 1))?;
        let verdict = world.verify(&lines, &[&forged], &key)?;
        assert_eq!((verdict.code, verdict.kinds()?.contains(&"forged".to_owned())), (Some(1), true));
        let foreign = world.keep("foreign", &crate::world::after(&other, "/v1/audit/checkpoint").await?)?;
        let verdict = world.verify(&lines, &[&foreign], &key)?;
        assert_eq!((verdict.code, verdict.kinds()?.contains(&"forged".to_owned())), (Some(1), true));

        // What cannot be read at all is neither true nor false.
        let nothing = world.keep("nothing", "")?;
        assert_eq!(world.verify(&lines, &[&nothing], &key)?.code, Some(2));
        assert_eq!(world.verify(&lines, &[&now], "no key")?.code, Some(2));
        Ok(())
    }

    /// An export up to a checkpoint's size fulfils it although the log has grown.
    async fn an_export_can_end_where_a_checkpoint_does(engine: Engine) {
        let world = World::start(engine).await?;
        world.users(0..200).await?;
        let (note, kept) = world.checkpoint().await?;
        let key = world.key().await?;
        let size = outsider::open(&note, &key)?.size();
        world.users(200..300).await?;
        let lines = world.export(&format!("?size={size}")).await?;
        let verdict = world.verify(&lines, &[&kept], &key)?;
        assert_eq!(verdict.code, Some(0), "{}", verdict.text);
        let longer = world.export("").await?;
        assert_eq!(world.verify(&longer, &[&kept], &key)?.code, Some(1));
        let tail = world.export(&format!("?from={}", size - 5)).await?;
        assert_eq!(tail, longer[usize::try_from(size)? - 5..]);
        assert_eq!(text(&tail[0], "position")?, text(&longer[usize::try_from(size)? - 5], "position")?);
        Ok(())
    }

    /// `tidings audit fetch` takes away what verifies, and writes over nothing that was kept.
    async fn what_is_fetched_verifies_and_stays(engine: Engine) {
        let world = World::start(engine).await?;
        world.users(0..5).await?;
        let folder = world.folder.path().join("kept");
        let fetch = || -> anyhow::Result<Option<i32>> {
            let output = Command::new(tests::service::binary()?)
                .env_clear()
                .env("TIDINGS_API_KEY", world.api.key().context("a key")?)
                .args(["audit", "fetch", "--url", world.service.url(), "--into"])
                .arg(&folder)
                .output()?;
            Ok(output.status.code())
        };
        assert_eq!(fetch()?, Some(0));
        let key = std::fs::read_to_string(folder.join("checkpoint.key"))?;
        assert_eq!(key.trim(), world.key().await?);
        let size = outsider::open(&world.checkpoint().await?.0, key.trim())?.size();
        let checkpoint = folder.join(format!("{size}.checkpoint"));
        let note = std::fs::read_to_string(&checkpoint)?;
        let log = std::fs::read_to_string(folder.join(format!("{size}.jsonl")))?;
        let lines: Vec<Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        assert_eq!(world.verify(&lines, &[&checkpoint], key.trim())?.code, Some(0));
        assert_eq!(fetch()?, Some(0));
        assert_eq!(std::fs::read_to_string(&checkpoint)?, note);
        std::fs::write(&checkpoint, "another checkpoint")?;
        assert_eq!(fetch()?, Some(1));
        assert_eq!(std::fs::read_to_string(&checkpoint)?, "another checkpoint");
        Ok(())
    }
}
