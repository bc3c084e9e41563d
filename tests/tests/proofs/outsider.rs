//! Verification from the documentation alone, with the crates of cloudflare/azul instead of the service's code.

use anyhow::{Context, ensure};
use serde_json::Value;
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{Checkpoint, Hash, check_record, check_tree, record_hash};

use crate::world::text;

/// A checkpoint, once its signature has proved true.
pub(crate) fn open(note: &str, key: &str) -> anyhow::Result<Checkpoint> {
    let verifier = StandardVerifier::new(key)?;
    let note = Note::from_bytes(note.as_bytes())?;
    let (verified, _) = note.verify(&VerifierList::new(vec![Box::new(verifier)]))?;
    ensure!(verified.len() == 1, "it is not signed");
    let checkpoint = Checkpoint::from_bytes(note.text()).map_err(|error| anyhow::anyhow!("{error}"))?;
    ensure!(
        key.starts_with(&format!("{}+", checkpoint.origin())),
        "another origin"
    );
    Ok(checkpoint)
}

/// The leaf hash of a record, as docs/auditing.md says it is made.
pub(crate) fn leaf(record: &Value) -> anyhow::Result<Hash> {
    let mut data = format!(
        "tidings-record/v1\n{}\n{}\n{}\n",
        text(record, "position")?,
        text(record, "subject")?,
        text(record, "message_id")?
    )
    .into_bytes();
    data.extend(payload(record)?);
    Ok(record_hash(&data))
}

/// The bytes of a record.
pub(crate) fn payload(record: &Value) -> anyhow::Result<Vec<u8>> {
    use base64::Engine as _;
    Ok(base64::engine::general_purpose::STANDARD.decode(text(record, "payload")?)?)
}

fn hashes(proof: &Value) -> anyhow::Result<Vec<Hash>> {
    let hashes = proof["hashes"].as_array().context("hashes")?;
    hashes
        .iter()
        .map(|hash| Ok(Hash::parse_hash(hash.as_str().context("a hash")?)?))
        .collect()
}

/// Whether an inclusion proof shows its record in the tree of this size and root.
pub(crate) fn included(proof: &Value, size: u64, root: Hash) -> anyhow::Result<()> {
    let index = proof["leaf_index"].as_u64().context("leaf_index")?;
    ensure!(proof["tree_size"] == size, "the proof is for another size");
    check_record(&hashes(proof)?, size, root, index, leaf(&proof["record"])?)?;
    Ok(())
}

/// Whether a consistency proof leads from one checkpoint to another.
pub(crate) fn consistent(proof: &Value, before: &Checkpoint, after: &Checkpoint) -> anyhow::Result<()> {
    check_tree(
        &hashes(proof)?,
        after.size(),
        *after.hash(),
        before.size(),
        *before.hash(),
    )?;
    Ok(())
}
