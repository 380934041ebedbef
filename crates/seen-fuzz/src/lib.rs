//! Every decoder of bytes that somebody else made, as one function each that says what must hold whatever the bytes are: that
//! it never panics, what it accepts is written and read again as the same, an error says what is wrong, and memory is
//! bounded by what came.
//!
//! They run in two ways. `cargo test -p seen-fuzz` feeds each its seeds, seeds that were damaged, and plain garbage, and
//! counts memory. `scripts/fuzz` feeds them what libFuzzer finds by coverage (`fuzz_targets/`, one program each).

mod api;
#[cfg(feature = "server")]
mod binary_log;
mod change;
mod entry;
mod link;
mod map;
#[cfg(feature = "server")]
mod parquet;
#[cfg(feature = "server")]
mod server;
mod stream;
mod token;

/// A decoder, and what must hold of it.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, which is that of its file in `fuzz_targets/` too.
    pub name: &'static str,
    /// Feeds it. Panics if something does not hold.
    pub run: fn(&[u8]),
    /// Bytes that it accepts, or nearly.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Most bytes of memory that one run may hold at a time, whatever it is fed...
    pub memory_bytes: usize,
    /// ...and more for each byte of that.
    pub memory_per_byte: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    api::FILTER,
    api::MARK,
    api::STREAM,
    api::OTHER_CALLS,
    token::TOKEN,
    link::LINK,
    map::MAP,
    entry::ENTRY,
    stream::TRANSFER_FRAMES,
    #[cfg(feature = "server")]
    stream::TRANSFER_STREAM,
    change::CHANGE_JSON,
    change::CHANGE_BINARY,
    change::CHANGE_SEEN,
    change::AVRO_SCHEMA,
    #[cfg(feature = "server")]
    server::COMMIT_LOG,
    #[cfg(feature = "server")]
    server::CONFIGURATION,
    #[cfg(feature = "server")]
    server::HISTORY_FILE,
    #[cfg(feature = "server")]
    parquet::HISTORY_PARQUET,
    #[cfg(feature = "server")]
    binary_log::BINARY_LOG,
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}

/// Feeds the target of this name: the body of each program in `fuzz_targets/`.
///
/// # Panics
/// If something does not hold, or there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let found = target(name).unwrap_or_else(|| panic!("there is no target {name}"));
    (found.run)(data);
}

/// Some bytes off the front of what there is to feed; what is missing is 0.
fn take<const N: usize>(data: &mut &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    let (front, rest) = data.split_at(data.len().min(N));
    taken[..front.len()].copy_from_slice(front);
    *data = rest;
    taken
}

/// The same bytes with the checksum that they should end with. Otherwise nothing behind a checksum would ever be reached.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    [bytes, &crc32fast::hash(bytes).to_le_bytes()].concat()
}
