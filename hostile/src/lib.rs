//! What must hold of every decoder that meets foreign bytes, whatever the bytes.
//!
//! A target is a function of bytes that panics where something does not hold: that a decoder answers at all, and that
//! what it accepts is written as it was read, or leads to nothing it should not. [`TARGETS`] names them. `fuzz/` lets
//! libFuzzer look for bytes; the test `replay` runs every target on the corpus that is kept from that, with every build.
//!
//! Some decoders are private to their crates. Their files are taken in here as they are, so that what is fuzzed is what
//! runs.

mod names;
mod pages;
mod records;
mod requests;
mod rows;

#[path = "../../gateway/src"]
#[allow(
    dead_code,
    unused_imports,
    reason = "of the gateway's files only decoders are used; their tests use the rest"
)]
mod gateway {
    pub(crate) mod inbound;

    #[path = "auth/key/form.rs"]
    pub(crate) mod key;

    #[path = "routes/user_files/cut.rs"]
    pub(crate) mod cut;
}

#[path = "../../projections/src/page"]
mod page {
    pub(crate) mod cursor;
}

/// A target: what must hold of any bytes.
pub type Target = fn(&[u8]);

/// Every target by the name of its folder in `fuzz/corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("record", records::record),
    ("position", names::position),
    ("name", names::name),
    ("type_filter", names::type_filter),
    ("content_filter", names::content_filter),
    ("address", names::address),
    ("cursor", pages::cursor),
    ("token", requests::token),
    ("signature", requests::signature),
    ("import", rows::import),
];

/// Runs the target of a name.
///
/// # Panics
///
/// Where something does not hold, and where there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let Some((_, target)) = target else {
        panic!("there is no target {name}");
    };
    target(bytes);
}

/// The text that bytes are, where they are one.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
