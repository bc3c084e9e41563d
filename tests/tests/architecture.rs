//! The crates know exactly whom `ARCHITECTURE.md` says they know: the arrows of `cargo metadata`, compared.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

/// Who may know whom outside of tests. The three in the middle are siblings: they meet only through the log.
const ARROWS: [(&str, &[&str]); 7] = [
    ("domain", &[]),
    ("broker", &[]),
    ("commands", &["domain", "broker"]),
    ("projections", &["domain", "broker"]),
    ("delivery", &["domain", "broker"]),
    (
        "gateway",
        &["commands", "projections", "delivery", "domain", "broker"],
    ),
    // What fuzzing runs; it takes single files of the others besides.
    ("hostile", &["domain", "delivery"]),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Nothing for a normal one, else `dev` or `build`.
    kind: Option<String>,
    /// Where it lies, for a crate of this workspace.
    path: Option<String>,
}

#[test]
fn crates_know_only_whom_they_may() -> anyhow::Result<()> {
    let found = arrows()?;
    let known: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    let planned: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).chain(["tests"]).collect();
    assert_eq!(
        known, planned,
        "a crate came or went: say in `ARROWS` whom it may know"
    );
    for (name, allowed) in ARROWS {
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        let of_crate: BTreeSet<&str> = found[name].iter().map(String::as_str).collect();
        let extra: Vec<_> = of_crate.difference(&allowed).collect();
        assert!(extra.is_empty(), "{name} knows {extra:?} and must not");
    }
    Ok(())
}

/// The crates of this workspace, each with those of them it depends on, tests aside.
fn arrows() -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(tests::tools::repository())
        .output()?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("what cargo metadata says")?;
    let of = |package: Package| {
        let normal = package
            .dependencies
            .into_iter()
            .filter(|d| d.path.is_some() && d.kind.is_none());
        (package.name, normal.map(|d| d.name).collect())
    };
    Ok(metadata.packages.into_iter().map(of).collect())
}
