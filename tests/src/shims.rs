//! Libraries that stand before a function of the C library, for one process (`LD_PRELOAD`), built with the C compiler
//! that the build itself needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

/// Builds one of this name from its source, in a folder.
pub(crate) fn build(folder: &Path, name: &str, source: &str) -> anyhow::Result<PathBuf> {
    let file = folder.join(format!("{name}.c"));
    std::fs::write(&file, source)?;
    let library = library(folder, name);
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(&file)
        .arg("-ldl")
        .output()?;
    let said = String::from_utf8_lossy(&built.stderr).into_owned();
    ensure!(built.status.success(), "cc: {said}");
    Ok(library)
}

/// Where one of this name lies.
pub(crate) fn library(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.so"))
}
