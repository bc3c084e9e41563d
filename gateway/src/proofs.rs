//! What the service says of the state of tenants' logs: signed checkpoints, and the proofs that go with them.
//!
//! Nothing is signed or proved without looking: a checkpoint only over a tree that goes on from the last one signed
//! here and while the log is trusted, a proof only if it holds. Somebody who rewrites the log and the database under the running service meets
//! this; somebody who also replaces the service meets the checkpoints that auditors keep.

use std::sync::Arc;
use std::time::SystemTime;

use broker::{EventLog, Trust};
use domain::proof::{Checkpoint, Hash, Outline, Signer, Verifier, verify_consistency, verify_inclusion};
use domain::{Position, Source, TenantId};
use moka::sync::Cache;
use projections::{LeafRow, TreeSnapshot};
use zeroize::Zeroizing;

use crate::problem::{Problem, ProblemType};

/// The shard whose log holds the events of all tenants.
pub(crate) const SHARD: u16 = 0;

/// Of how many tenants the last checkpoint is remembered.
const REMEMBERED: u64 = 100_000;

/// The last state signed of a tenant's log.
#[derive(Debug, Clone, Copy)]
struct Signed {
    size: u64,
    root: Hash,
}

/// Signs and proves.
pub(crate) struct Proofs {
    secret: Zeroizing<[u8; 32]>,
    log: Arc<dyn EventLog>,
    trust: Trust,
    signed: Cache<TenantId, Signed>,
}

impl Proofs {
    /// With this secret key, over this log of events, which is read whether it is trusted or not.
    pub(crate) fn new(secret: Zeroizing<[u8; 32]>, log: Arc<dyn EventLog>, trust: Trust) -> Self {
        Self {
            secret,
            log,
            trust,
            signed: Cache::new(REMEMBERED),
        }
    }

    /// The log of which all this is.
    pub(crate) fn log(&self) -> &Arc<dyn EventLog> {
        &self.log
    }

    fn signer(&self, tenant: &TenantId) -> Result<Signer, Problem> {
        Signer::new(&Checkpoint::origin_of(tenant, SHARD), &self.secret).map_err(|error| {
            Problem::caused(
                ProblemType::Internal,
                "Nothing can be signed for this tenant.",
                &error,
            )
        })
    }

    /// The key that a tenant's checkpoints are verified with.
    pub(crate) fn verifier(&self, tenant: &TenantId) -> Result<Verifier, Problem> {
        Ok(self.signer(tenant)?.verifier())
    }

    /// Whether the tree goes on from what was signed last; if not, nothing is said of it.
    pub(crate) async fn check(&self, tenant: &TenantId, tree: &mut TreeSnapshot) -> Result<(), Problem> {
        match self.signed.get(tenant) {
            Some(before) => goes_on(tenant, tree, before).await,
            None => Ok(()),
        }
    }

    /// The tree as it is, signed: if the log is trusted and the tree goes on from what was signed last.
    pub(crate) async fn sign(&self, tenant: &TenantId, tree: &mut TreeSnapshot) -> Result<String, Problem> {
        if let Some(why) = self.trust.lost() {
            return Err(Problem::log_untrusted(&why));
        }
        self.check(tenant, tree).await?;
        let state = tree.state();
        let checkpoint = Checkpoint {
            origin: Checkpoint::origin_of(tenant, SHARD),
            size: state.size,
            root: state.root,
            last: Some(position(state.last)),
            at: Some(SystemTime::now().into()),
        };
        let note = checkpoint.sign(&self.signer(tenant)?).map_err(|error| {
            Problem::caused(ProblemType::Internal, "The checkpoint cannot be signed.", &error)
        })?;
        let now = Signed {
            size: state.size,
            root: state.root,
        };
        self.signed.entry(tenant.clone()).and_upsert_with(|known| {
            let known = known.map(moka::Entry::into_value);
            known.filter(|known| known.size > now.size).unwrap_or(now)
        });
        Ok(note)
    }
}

/// A place in the log of events.
pub(crate) fn position(sequence: u64) -> Position {
    Position {
        source: Source::Events,
        shard: SHARD,
        sequence,
    }
}

async fn goes_on(tenant: &TenantId, tree: &mut TreeSnapshot, before: Signed) -> Result<(), Problem> {
    let state = tree.state();
    if state.size < before.size {
        tracing::error!(
            tenant.id = %tenant,
            size = state.size,
            signed = before.size,
            "A tree has fewer leaves than were signed: it is being made anew, or records were removed.",
        );
        let detail = format!(
            "The tree has {} of the {} records that were signed already; nothing is signed before it has them again.",
            state.size, before.size
        );
        return Err(Problem::new(ProblemType::Unavailable, detail));
    }
    let extends = if before.size == 0 || before.size == state.size {
        verify_consistency(before.size, before.root, state.size, state.root, &[])
    } else {
        let proof = prove(tree, Outline::consistency(before.size, state.size)).await?;
        verify_consistency(before.size, before.root, state.size, state.root, &proof)
    };
    if extends {
        return Ok(());
    }
    tracing::error!(
        tenant.id = %tenant,
        size = state.size,
        root = %state.root,
        signed_size = before.size,
        signed_root = %before.root,
        "A TENANT'S HISTORY WAS REWRITTEN: its tree does not begin with what this process signed. Nothing is signed for it any more; compare the log and its archive with an older checkpoint.",
    );
    Err(changed(format!(
        "The first {} records are not those of the checkpoint signed before, so nothing is signed. The operator has been told; verify an export with the checkpoints you have kept.",
        before.size
    )))
}

/// What log, tree and signed checkpoints say of each other does not fit together.
pub(crate) fn changed(detail: String) -> Problem {
    Problem::new(ProblemType::HistoryChanged, detail)
}

async fn prove(tree: &mut TreeSnapshot, outline: Option<Outline>) -> Result<Vec<Hash>, Problem> {
    let outline = outline.ok_or_else(Problem::not_found)?;
    let stored = tree.subtrees(&[&outline]).await?;
    stored.prove(&outline).ok_or_else(|| damaged(tree))
}

fn damaged(tree: &TreeSnapshot) -> Problem {
    tracing::error!(
        size = tree.state().size,
        "Rows of a tenant's tree are missing: replay the projection `tree`."
    );
    changed("Parts of the tree are missing, so nothing can be proved.".to_owned())
}

/// The root of the tree of the first `size` leaves.
pub(crate) async fn root(tree: &mut TreeSnapshot, size: u64) -> Result<Hash, Problem> {
    let Some(outline) = Outline::root(size) else {
        return Ok(Hash::EMPTY);
    };
    let stored = tree.subtrees(&[&outline]).await?;
    stored.root(size).ok_or_else(|| damaged(tree))
}

/// The proof that a leaf is in the tree of the first `size` leaves, with the tree's root; it holds.
pub(crate) async fn inclusion(
    tree: &mut TreeSnapshot,
    leaf: LeafRow,
    size: u64,
) -> Result<(Vec<Hash>, Hash), Problem> {
    let whole = tree.state().size == size;
    let proof = prove(tree, Outline::inclusion(leaf.leaf, size)).await?;
    let root = if whole {
        tree.state().root
    } else {
        root(tree, size).await?
    };
    if verify_inclusion(leaf.hash, leaf.leaf, size, &proof, root) {
        return Ok((proof, root));
    }
    tracing::error!(
        position = %position(leaf.sequence),
        leaf = leaf.leaf,
        size,
        "A TENANT'S TREE WAS REWRITTEN: a leaf of it is not in it.",
    );
    Err(changed(format!(
        "The tree does not hold what its leaf {} says, so nothing can be proved of it. The operator has been told.",
        leaf.leaf
    )))
}

/// The proof that the tree of `to` leaves begins with that of `from`, with both roots. Whether it holds for a root
/// kept elsewhere, only who keeps it can tell.
pub(crate) async fn consistency(
    tree: &mut TreeSnapshot,
    from: u64,
    to: u64,
) -> Result<(Vec<Hash>, Hash, Hash), Problem> {
    let proof = prove(tree, Outline::consistency(from, to)).await?;
    Ok((proof, root(tree, from).await?, root(tree, to).await?))
}
