//! Every limit of the API, in one place. The head of `proto/seen/v1/seen.proto` states the same
//! numbers; a test keeps the two in step.

/// Largest message, as sent, in bytes. The largest useful one (a FilterUsers message with unpacked
/// users) takes about 95,000; the rest is room for fields of later versions. It also bounds the time
/// that walking a hostile message may hold a serving thread.
pub const MESSAGE_BYTES_MAX: usize = 262_144;
/// Most namespaces that one Filter or FilterUsers message may name.
pub const NAMESPACES_MAX: usize = 8;
/// Most ids that one Filter may ask about, all groups together.
pub const CANDIDATES_MAX: usize = 1_000;
/// Most item groups of one call. Bounds the walk over groups that are empty.
pub const GROUPS_MAX: usize = 1_000;
/// Most items of one Mark.
pub const MARK_ITEMS_MAX: usize = 1_000;
/// Most items of one Unmark, all groups together.
pub const UNMARK_ITEMS_MAX: usize = 1_000;
/// Most items of one FilterUsers message, all groups together.
pub const PUSH_ITEMS_MAX: usize = 100;
/// Most users of one FilterUsers message.
pub const PUSH_USERS_MAX: usize = 10_000;
/// Highest kind of an item.
pub const KIND_MAX: u32 = 255;
/// Latest time that an item may be marked with, in milliseconds since 1970-01-01 UTC: the end of the
/// year 9999, which every database's date type can hold.
pub const MARKED_AT_MS_MAX: u64 = 253_402_300_799_999;
/// Longest session token, in bytes. One that the server wrote takes at most
/// [`TOKEN_FRAME_BYTES_MAX`]; the rest is room for tokens that a caller joined.
pub const TOKEN_BYTES_MAX: usize = 1_024;
/// Longest session token that the server writes after a merge, in bytes.
pub const TOKEN_FRAME_BYTES_MAX: usize = 512;
/// Most elements of a merged token; with more it collapses to one wildcard.
pub const TOKEN_ELEMENTS_MAX: usize = 8;
/// Most rows of one History page.
pub const PAGE_ROWS_MAX: usize = 1_000;
/// Rows of one History page where the caller asks for none.
pub const PAGE_ROWS_DEFAULT: usize = 100;
/// Longest page token, in bytes.
pub const PAGE_TOKEN_BYTES_MAX: usize = 64;
/// Time to answer where the caller sends no deadline, in milliseconds.
pub const TIMEOUT_MS_DEFAULT: u32 = 90;
/// The same for FilterUsers, whose cold users need storage, in milliseconds.
pub const PUSH_TIMEOUT_MS_DEFAULT: u32 = 1_000;
/// The same for Forget, which removes every row of a user, in milliseconds.
pub const FORGET_TIMEOUT_MS_DEFAULT: u32 = 30_000;
/// Longest time that a message may allow for its answer, in milliseconds.
pub const TIMEOUT_MS_MAX: u32 = 60_000;

const _: () = assert!(CANDIDATES_MAX <= seen_filter::history::ITEMS_PER_CALL_MAX);
const _: () = assert!(MARK_ITEMS_MAX <= seen_filter::history::ITEMS_PER_CALL_MAX);
const _: () = assert!(UNMARK_ITEMS_MAX <= seen_filter::history::ITEMS_PER_CALL_MAX);
const _: () = assert!(PAGE_ROWS_MAX <= seen_filter::history::PAGE_ROWS_MAX);
const _: () = assert!(2 * TOKEN_FRAME_BYTES_MAX <= TOKEN_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    /// The limits that callers can run into, by name.
    const PUBLISHED: [(&str, u64); 17] = [
        ("MESSAGE_BYTES_MAX", MESSAGE_BYTES_MAX as u64),
        ("NAMESPACES_MAX", NAMESPACES_MAX as u64),
        ("CANDIDATES_MAX", CANDIDATES_MAX as u64),
        ("GROUPS_MAX", GROUPS_MAX as u64),
        ("MARK_ITEMS_MAX", MARK_ITEMS_MAX as u64),
        ("UNMARK_ITEMS_MAX", UNMARK_ITEMS_MAX as u64),
        ("PUSH_ITEMS_MAX", PUSH_ITEMS_MAX as u64),
        ("PUSH_USERS_MAX", PUSH_USERS_MAX as u64),
        ("KIND_MAX", KIND_MAX as u64),
        ("TOKEN_BYTES_MAX", TOKEN_BYTES_MAX as u64),
        ("PAGE_ROWS_MAX", PAGE_ROWS_MAX as u64),
        ("PAGE_ROWS_DEFAULT", PAGE_ROWS_DEFAULT as u64),
        ("PAGE_TOKEN_BYTES_MAX", PAGE_TOKEN_BYTES_MAX as u64),
        ("TIMEOUT_MS_DEFAULT", TIMEOUT_MS_DEFAULT as u64),
        ("PUSH_TIMEOUT_MS_DEFAULT", PUSH_TIMEOUT_MS_DEFAULT as u64),
        ("FORGET_TIMEOUT_MS_DEFAULT", FORGET_TIMEOUT_MS_DEFAULT as u64),
        ("TIMEOUT_MS_MAX", TIMEOUT_MS_MAX as u64),
    ];

    #[test]
    fn the_proto_file_states_the_same_limits() {
        let proto = include_str!("../../../proto/seen/v1/seen.proto");
        let stated: Vec<(&str, u64)> = proto
            .lines()
            .filter_map(|line| {
                let mut words = line.strip_prefix("//   ")?.split_whitespace();
                let name = words.next().filter(|name| name.contains('_'))?;
                let value = words.next()?.replace(',', "").parse().ok()?;
                Some((name, value))
            })
            .collect();
        assert_eq!(stated, PUBLISHED);
    }
}
