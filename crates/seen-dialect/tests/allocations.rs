//! A record that claims to hold more than it does makes nobody set memory aside for it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use seen_dialect::{Decoder, Dialect, FollowedTable, Record};

thread_local! {
    /// The largest piece of memory that this thread was given.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Watched;

fn note(layout: Layout) {
    // A thread that ends may have no such place any more.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
}

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(Layout::from_size_align(size, layout.align()).unwrap_or(layout));
        // SAFETY: the pointer came from `System`, with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// 2^63-1 as a length of protobuf and, halved, of Avro; and a big-endian one.
const HUGE: [u8; 10] = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
const HUGE_BE: [u8; 8] = [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

fn claims() -> Vec<Vec<u8>> {
    let starts: [&[u8]; 8] = [
        b"\x0dSEEN\x10\x01\x1a",
        b"\x0dSEEN\x10\x01\x4a",
        &[8, 0, 16, 1, 26],
        &[8, 0, 16, 1, 26, 6, 10, 4, 10],
        &[22, 6, 6, 2],
        &[22, 6, 6, 2, 8, b't', b'e', b's', b't', 18],
        &[22, 4, 4, 2, 8],
        &[0, 0, 0, 0, 1],
    ];
    let mut all: Vec<_> = starts.iter().map(|start| [start, &HUGE[..]].concat()).collect();
    let row = br"test\x12feed_read";
    all.push([&[22, 6, 6, 2, 8][..], row, &[0; 12], &[2], &HUGE].concat());
    all.push([&1_u64.to_be_bytes()[..], &HUGE_BE].concat());
    all.push(b"{\"u\":".repeat(200));
    all.push(b"[".repeat(2_000));
    all
}

#[test]
fn memory_is_bounded_by_what_is_there() {
    let tables = || vec![FollowedTable::own("test", "feed_read")];
    let schema = r#"{"type":"record","name":"feed_read","namespace":"default.test","fields":[
        {"name":"a","type":{"type":"array","items":"null"}},{"name":"user_id","type":"string"}]}"#;
    let any = Dialect::ALL.into_iter().map(Some).chain([None]);
    for forced in any {
        for claim in claims() {
            for (key, value) in
                [(None, Some(&claim)), (Some(&claim), Some(&claim)), (Some(&claim), None)]
            {
                let mut decoder = Decoder::new(tables(), forced);
                decoder.schemas().add(1, schema).expect("a schema");
                let mut out = Vec::new();
                let record = Record {
                    key: key.map(Vec::as_slice),
                    value: value.map(Vec::as_slice),
                    ..Record::default()
                };
                LARGEST.set(0);
                decoder.decode(&record, &mut out);
                let largest = LARGEST.get();
                assert!(!out.is_empty());
                assert!(
                    largest <= 4_096 + 64 * claim.len(),
                    "{largest} bytes: {forced:?} {claim:02x?}"
                );
            }
        }
    }
}
