//! The kept corpus, through the targets that fuzzing runs: what was found once is tried with every build.

#![expect(
    clippy::unwrap_used,
    reason = "what a test prepares must succeed, in its helpers too"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use hostile::TARGETS;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

fn names(folder: PathBuf) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn what_was_kept_holds() {
    for (name, target) in TARGETS {
        let folder = corpus().join(name);
        let files = names(folder.clone());
        assert!(files.len() >= 3, "{name} has a corpus of {} only", files.len());
        for file in files {
            let bytes = std::fs::read(folder.join(&file)).unwrap();
            println!("{name}/{file}");
            target(&bytes);
            // What is a little shorter is another input of the same kind.
            for length in (0..bytes.len()).step_by(bytes.len() / 64 + 1) {
                target(&bytes[..length]);
            }
        }
    }
}

/// A target has a corpus and a program for the fuzzer, and there are no others.
#[test]
fn every_target_is_complete() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(corpus()), targets);
    let programs = names(corpus().join("../fuzz_targets"));
    let programs: BTreeSet<_> = programs
        .iter()
        .map(|file| file.trim_end_matches(".rs").to_owned())
        .collect();
    assert_eq!(programs, targets);
}
