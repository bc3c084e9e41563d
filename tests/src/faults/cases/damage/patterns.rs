//! What can befall the log's files on NATS' disk while the server does not run, one after the other.

use super::files::{
    Files, Place, add_rubbish, change_checksum, change_length, change_sequence, flip_bit, invert,
    repeat_record, swap_records, take_out, zero,
};

/// What must have been before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// The log is in several files: it was written while files were small.
    SmallFiles,
    /// A copy was taken in the middle of the run.
    Copy,
}

/// How the server ended before the harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Killed, it reads all of its files when it is started.
    Killed,
    /// In order it wrote an index, and believes in that later.
    Stopped,
}

/// One of the harms.
#[derive(Clone, Copy)]
pub(super) struct Pattern {
    pub(super) name: &'static str,
    pub(super) ended: Ended,
    pub(super) before: Before,
    pub(super) harm: fn(&mut Files<'_>) -> anyhow::Result<()>,
}

const fn killed(name: &'static str, harm: fn(&mut Files<'_>) -> anyhow::Result<()>) -> Pattern {
    Pattern {
        name,
        ended: Ended::Killed,
        before: Before::Nothing,
        harm,
    }
}

const fn stopped(name: &'static str, harm: fn(&mut Files<'_>) -> anyhow::Result<()>) -> Pattern {
    Pattern {
        ended: Ended::Stopped,
        ..killed(name, harm)
    }
}

const fn several(pattern: Pattern) -> Pattern {
    Pattern {
        before: Before::SmallFiles,
        ..pattern
    }
}

const fn copied(pattern: Pattern) -> Pattern {
    Pattern {
        before: Before::Copy,
        ..pattern
    }
}

/// All of them; a run takes the one whose turn it is by its seed.
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method of a type with a lifetime is not a function of every lifetime"
)]
pub(super) const PATTERNS: &[Pattern] = &[
    killed("a bit of the first record flipped", |files| {
        files.record(Place::First, flip_bit)
    }),
    killed("a bit of a middle record flipped", |files| {
        files.record(Place::Middle, flip_bit)
    }),
    killed("a bit of the last record flipped", |files| {
        files.record(Place::Last, flip_bit)
    }),
    stopped("a bit of the first record flipped beside a good index", |files| {
        files.record(Place::First, flip_bit)
    }),
    stopped("a bit of a middle record flipped beside a good index", |files| {
        files.record(Place::Middle, flip_bit)
    }),
    killed("16 bytes inverted", |files| {
        files.change(Place::Last, |bytes, dice| {
            invert(bytes, 16, dice);
            Ok(())
        })
    }),
    stopped("16 bytes inverted beside a good index", |files| {
        files.change(Place::Last, |bytes, dice| {
            invert(bytes, 16, dice);
            Ok(())
        })
    }),
    killed("a stretch of 512 bytes zeroed", |files| {
        files.change(Place::Last, |bytes, dice| {
            zero(bytes, 512, dice);
            Ok(())
        })
    }),
    stopped("a stretch of 4096 bytes zeroed beside a good index", |files| {
        files.change(Place::Last, |bytes, dice| {
            zero(bytes, 4096, dice);
            Ok(())
        })
    }),
    killed("the file cut by a few bytes", |files| {
        files.change(Place::Last, |bytes, dice| {
            let few = usize::try_from(dice.number(1..30))?;
            bytes.truncate(bytes.len().saturating_sub(few));
            Ok(())
        })
    }),
    stopped("the file cut in half beside a good index", |files| {
        files.change(Place::Last, |bytes, _| {
            bytes.truncate(bytes.len() / 2);
            Ok(())
        })
    }),
    killed("the file cut to nothing", |files| {
        files.change(Place::Last, |bytes, _| {
            bytes.clear();
            Ok(())
        })
    }),
    killed("the file removed", |files| files.remove_block(Place::Last)),
    copied(killed("an older copy of the file put back", |files| {
        files.older_block()
    })),
    copied(stopped(
        "older copies of the file and of the index put back",
        |files| {
            files.older_block()?;
            files.older_index()
        },
    )),
    killed("rubbish appended", |files| {
        files.change(Place::Last, |bytes, dice| {
            add_rubbish(bytes, dice);
            Ok(())
        })
    }),
    killed("a record written again over the next", |files| {
        files.change(Place::Last, |bytes, dice| repeat_record(bytes, dice))
    }),
    stopped("two records swapped beside a good index", |files| {
        files.change(Place::Last, |bytes, dice| swap_records(bytes, dice))
    }),
    killed("a record taken out", |files| {
        files.change(Place::Last, |bytes, dice| take_out(bytes, Place::Middle, dice))
    }),
    killed("the first record taken out", |files| {
        files.change(Place::Last, |bytes, dice| take_out(bytes, Place::First, dice))
    }),
    killed("a checksum changed", |files| {
        files.record(Place::Middle, change_checksum)
    }),
    killed("a record's length changed", |files| {
        files.record(Place::Middle, change_length)
    }),
    stopped("a record's sequence changed beside a good index", |files| {
        files.record(Place::Middle, change_sequence)
    }),
    stopped("the index removed and a bit flipped", |files| {
        files.remove_index()?;
        files.record(Place::Middle, flip_bit)
    }),
    stopped("the index changed", |files| files.change_index()),
    stopped("the index changed and a bit flipped", |files| {
        files.change_index()?;
        files.record(Place::Middle, flip_bit)
    }),
    copied(stopped("an older index put back and a bit flipped", |files| {
        files.older_index()?;
        files.record(Place::Middle, flip_bit)
    })),
    several(killed("of several files a bit of the first flipped", |files| {
        files.change(Place::First, |bytes, dice| {
            flip_bit(bytes, dice);
            Ok(())
        })
    })),
    several(killed("of several files a middle one cut in half", |files| {
        files.change(Place::Middle, |bytes, _| {
            bytes.truncate(bytes.len() / 2);
            Ok(())
        })
    })),
    several(killed("of several files the first removed", |files| {
        files.remove_block(Place::First)
    })),
    several(stopped(
        "of several files a middle one removed beside a good index",
        |files| files.remove_block(Place::Middle),
    )),
    several(stopped(
        "of several files the last removed beside a good index",
        |files| files.remove_block(Place::Last),
    )),
    several(killed("of several files two swapped", |files| {
        files.swap_blocks()
    })),
    copied(killed("an older copy of the stream put back", |files| {
        files.older_folder()
    })),
    killed("the stream's folder removed", |files| files.remove_folder()),
    killed("the stream's configuration changed", |files| files.change_meta()),
    killed("the stream's configuration removed", |files| files.remove_meta()),
];
