//! What happened in a run, in order: as a hash always, in words when one seed is looked at.

use std::fmt::{self, Write};
use std::sync::Mutex;

use super::Clock;
use super::memory::lock;

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    clock: Clock,
    told: Mutex<Told>,
    aloud: bool,
}

#[derive(Debug)]
struct Told {
    hash: u64,
    lines: u64,
    line: String,
}

impl Trace {
    /// An empty one; `aloud` prints each line as it comes.
    pub fn new(clock: Clock, aloud: bool) -> Self {
        Self {
            clock,
            aloud,
            told: Mutex::new(Told {
                // FNV-1a's offset basis.
                hash: 0xcbf2_9ce4_8422_2325,
                lines: 0,
                line: String::new(),
            }),
        }
    }

    /// Notes what somebody does now.
    pub fn note(&self, who: &str, what: fmt::Arguments<'_>) {
        let mut told = lock(&self.told);
        let Told { hash, lines, line } = &mut *told;
        line.clear();
        // Writing to a string cannot fail.
        let _ = write!(line, "{:>7} {who} {what}", self.clock.passed().as_millis());
        for byte in line.bytes() {
            *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        *lines += 1;
        if self.aloud {
            eprintln!("{line}");
        }
    }

    /// The hash of everything noted, and how much that was. Two runs with the same hash did the same.
    pub fn hash(&self) -> (u64, u64) {
        let told = lock(&self.told);
        (told.hash, told.lines)
    }
}
