//! A search around the kept corpus with every build, on any compiler: its files changed a little in many ways, all of
//! them drawn from one seed, so that a build tries what the build before it tried. libFuzzer, which sees where its inputs
//! come to, looks further: `fuzz/run`.
//!
//! More, and others: `TIDINGS_SEARCH_INPUTS=1000000 TIDINGS_SEARCH_SEED=7 cargo test -p hostile --test search`.

#![expect(
    clippy::unwrap_used,
    reason = "what a test prepares must succeed, in its helpers too"
)]

use std::path::PathBuf;

use hostile::TARGETS;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// How many inputs each target is given, unless somebody asks for more.
const INPUTS: u64 = 15_000;
/// How many changes an input differs by at most.
const CHANGES: usize = 6;
/// The longest input.
const LONGEST: usize = 64 * 1024;

/// What decoders tend to trip over.
const WORDS: [&[u8]; 24] = [
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\0",
    b"\r\n",
    b"\xff",
    b"\xef\xbb\xbf",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"null",
    b"..",
    b"%00",
    b"::1",
    b"@",
    b"=",
    b"\xf0\x9f\x92\xa9",
];

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(name);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    // In the order of their names: the seed alone decides.
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// A piece of some bytes, of any length.
fn piece(bytes: &[u8], draw: &mut StdRng) -> std::ops::Range<usize> {
    let from = draw.random_range(0..=bytes.len());
    let longest = (bytes.len() - from).min(1 << draw.random_range(0..10));
    from..from + draw.random_range(0..=longest)
}

/// Changes the bytes in one of the ways there are.
fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], draw: &mut StdRng) {
    let range = piece(bytes, draw);
    let place = range.start;
    match draw.random_range(0..7) {
        0 if place < bytes.len() => bytes[place] ^= 1 << draw.random_range(0..8),
        1 if place < bytes.len() => bytes[place] = draw.random(),
        2 => drop(bytes.drain(range)),
        3 => {
            let copy = bytes[range].to_vec();
            let times = draw.random_range(1..8);
            bytes.splice(place..place, copy.repeat(times));
        }
        4 => {
            let word = WORDS[draw.random_range(0..WORDS.len())];
            bytes.splice(range, word.iter().copied());
        }
        5 => {
            let other = &others[draw.random_range(0..others.len())];
            let theirs = piece(other, draw);
            bytes.splice(range, other[theirs].iter().copied());
        }
        _ => bytes.truncate(place),
    }
    bytes.truncate(LONGEST);
}

#[test]
fn what_is_near_the_corpus_holds() {
    let inputs = setting("TIDINGS_SEARCH_INPUTS", INPUTS);
    let seed = setting("TIDINGS_SEARCH_SEED", 1);
    for (name, target) in TARGETS {
        let kept = corpus(name);
        let mut draw = StdRng::seed_from_u64(seed);
        for number in 0..inputs {
            let mut input = kept[draw.random_range(0..kept.len())].clone();
            for _ in 0..draw.random_range(1..=CHANGES) {
                change(&mut input, &kept, &mut draw);
            }
            // A file of these bytes in the corpus keeps the finding.
            assert!(
                std::panic::catch_unwind(|| target(&input)).is_ok(),
                "{name}, input {number} of seed {seed}: {}",
                input.escape_ascii()
            );
        }
    }
}
