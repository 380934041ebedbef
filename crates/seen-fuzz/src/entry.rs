//! A user's entry, as one replica hands it to another or to a file.

use seen_filter::transfer::{Header, decode, encode};
use seen_filter::{
    CommitStamp, Domain, Generation, HashKey, Item, Kernel, Kind, NamespaceId, PackedIds, Sizing,
    Timeline, TransferError, UserEpoch, UserId, UserState, Verdicts,
};

use crate::{Target, sealed};

/// The key of all entries here.
pub(crate) fn key() -> HashKey {
    HashKey::new(1, [7; 16])
}

pub(crate) const ENTRY: Target = Target {
    name: "entry",
    run: all,
    seeds,
    // Growth takes a new layer of its own size.
    memory_bytes: 1 << 20,
    memory_per_byte: 16,
};

fn all(raw: &[u8]) {
    entry(raw);
    entry(&sealed(raw));
    let mut whole = encode(&UserState::EMPTY, &header(), &key()).expect("small");
    whole.truncate(56);
    whole.extend((raw.len() as u64).to_le_bytes());
    whole.extend(raw);
    entry(&sealed(&whole));
}

/// Bytes are what [`encode`] wrote or an error that says why not; a state that was accepted answers as any other.
fn entry(raw: &[u8]) {
    let key = key();
    let (header, state) = match decode(raw, &key) {
        Ok(read) => read,
        Err(error) => {
            assert!(error.to_string().starts_with("transfer: "), "{error}");
            let wrong =
                matches!(error, TransferError::Truncated { have, needed } if have >= needed);
            assert!(!wrong, "{error}");
            return;
        }
    };
    let written = encode(&state, &header, &key).expect("it was as large");
    assert_eq!(written.len(), raw.len());
    let (same, again) = decode(&written, &key).expect("what was written");
    assert_eq!(same, header);
    assert_eq!(encode(&again, &header, &key).as_deref(), Ok(&written[..]));
    used(state, &key);
}

/// Every kernel answers alike, and what is marked is seen.
fn used(mut state: UserState, key: &HashKey) {
    let sizing = Sizing::new(0.01, None);
    let ids: Vec<u8> = (0..300_u64).flat_map(|id| (id * id).to_le_bytes()).collect();
    let ids = PackedIds::new(&ids).expect("whole ids");
    let mut plain = Verdicts::new();
    state.check(&key.with_kernel(Kernel::PLAIN), Kind::new(1), ids, 0, &mut plain);
    for kernel in Kernel::available() {
        let mut verdicts = Verdicts::new();
        state.check(&key.with_kernel(kernel), Kind::new(1), ids, 0, &mut verdicts);
        assert_eq!(verdicts, plain, "{kernel:?}");
    }
    let before: Vec<u64> = plain.ones().filter_map(|at| ids.iter().nth(at)).collect();
    assert!(state.estimated_rate().is_finite() && state.promised_rate().is_finite());
    assert!(state.describe().len() < 256);
    state.rebuild_due(&sizing);
    state.oldest_bucket();
    for id in 0..40 {
        state.insert(key, &sizing, Item::new(1, 1_000_000 + id), 3);
    }
    let seen = |id: u64| state.contains(key, Item::new(1, id));
    assert!((0..40).all(|id| seen(1_000_000 + id)), "a mark is not seen");
    assert!(before.into_iter().all(seen), "a mark took another away");
}

fn header() -> Header {
    Header {
        namespace: NamespaceId::new(0),
        user: UserId::new(9),
        user_epoch: UserEpoch::new(0),
        generation: Generation::new(1),
        position: Some(CommitStamp::new(Domain::new(1), Timeline::new(1), 5)),
    }
}

/// Entries of every form.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let (key, sizing) = (key(), Sizing::new(0.01, None));
    let of = |items: u64| {
        let mut state = UserState::EMPTY;
        for id in 0..items {
            state.insert(&key, &sizing, Item::new((id % 3) as u8, id), 1);
        }
        encode(&state, &header(), &key).expect("small")
    };
    let whole = [0, 1, 16, 17, 300].map(of);
    let unsealed = whole.clone().map(|bytes| bytes[..bytes.len() - 4].to_vec());
    let bodies = whole.clone().map(|bytes| bytes[64..bytes.len() - 4].to_vec());
    whole.into_iter().chain(unsealed).chain(bodies).collect()
}
