//! Users and requests that nobody has to store: which items a user has read follows from the user's
//! number, so that both sides of a connection know it.

use bytes::Bytes;
use seen_filter::build::Builder;
use seen_filter::state::UserState;
use seen_filter::{Item, UnixMillis};

/// The history that is asked and marked.
pub(super) const NAMESPACE: &str = "feed_read";
/// The items' kind.
pub(super) const KIND: u8 = 1;
/// Candidates of a question, half of them read.
pub(super) const CANDIDATES: usize = 400;
/// Different histories; user `u` has a copy of number `u % HISTORIES` in memory of its own. What a
/// check costs depends on which memory is touched, not on whether two users have read the same.
pub(super) const HISTORIES: u64 = 256;
/// Different questions about one history.
const PAGES: u64 = 4;
/// Numbers of items that were not read begin here, of marked ones there.
const UNREAD_FROM: u64 = 1 << 24;
const MARKED_FROM: u64 = 1 << 28;
/// Bytes before a gRPC message.
pub(super) const PREFIX_BYTES: usize = 5;

/// Pseudo-random numbers (SplitMix64): the same in every run.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

/// The id of the `n`-th item of a history.
pub(super) fn read_id(history: u64, n: u64) -> u64 {
    (history << 32) | n
}

/// One user's state: the first `items` items of a history.
pub(super) fn state(mut builder: Builder, history: u64, items: u64) -> UserState {
    for n in 0..items {
        builder.push(Item::new(KIND, read_id(history, n)), UnixMillis::new(0), 0);
    }
    builder.finish()
}

/// Candidates for a user: at even positions read ones, drawn from all that the user has read, and
/// at odd ones unread ones.
pub(super) fn candidates(history: u64, page: u64, items: u64) -> Vec<u64> {
    let mut random = Random::new(history * PAGES + page);
    let mut one = |at: usize| match at % 2 {
        0 => read_id(history, random.below(items)),
        _ => read_id(history, UNREAD_FROM + random.below(1 << 20)),
    };
    (0..CANDIDATES).map(&mut one).collect()
}

/// Filters of pseudo-random users, another one each time.
#[derive(Debug)]
pub(super) struct Filters {
    bodies: Vec<Vec<u8>>,
    users: u64,
    random: Random,
}

impl Filters {
    /// About users 0 to `users`, each of whom has read `items` items.
    pub fn new(users: u64, items: u64, seed: u64) -> Self {
        let body = |at: u64| filter_body(&candidates(at / PAGES, at % PAGES, items));
        let bodies = (0..HISTORIES * PAGES).map(body).collect();
        Self { bodies, users: users.max(1), random: Random::new(seed) }
    }

    /// The next request, its gRPC prefix included.
    pub fn next(&mut self) -> Bytes {
        let mut out = Vec::with_capacity(self.bodies.first().map_or(0, Vec::len));
        self.put(&mut out);
        out.into()
    }

    /// Appends the next request.
    pub fn put(&mut self, out: &mut Vec<u8>) {
        let user = self.random.below(self.users);
        let page = self.random.below(PAGES);
        let body = &self.bodies[((user % HISTORIES) * PAGES + page) as usize];
        // The user is the first field: a key of one byte, then eight bytes.
        let (head, rest) = body.split_at(PREFIX_BYTES + 1);
        out.extend_from_slice(head);
        out.extend_from_slice(&user.to_le_bytes());
        out.extend_from_slice(&rest[8..]);
    }
}

/// A `FilterRequest` of user 0, with its gRPC prefix.
fn filter_body(ids: &[u64]) -> Vec<u8> {
    let mut group = vec![0x08, KIND, 0x12];
    put_varint(&mut group, ids.len() as u64 * 8);
    ids.iter().for_each(|id| group.extend_from_slice(&id.to_le_bytes()));
    let mut message = user_and_namespace(0);
    message.push(0x1a);
    put_varint(&mut message, group.len() as u64);
    message.extend_from_slice(&group);
    with_prefix(&message)
}

/// FilterUsers messages: a few items for many pseudo-random users.
#[derive(Debug)]
pub(super) struct Pushes {
    users: u64,
    random: Random,
}

/// Users of one message, and items.
pub(super) const PUSH_USERS: u64 = 1_000;
pub(super) const PUSH_ITEMS: u64 = 10;

impl Pushes {
    /// About users 0 to `users`.
    pub fn new(users: u64, seed: u64) -> Self {
        Self { users: users.max(1), random: Random::new(seed) }
    }

    /// Appends the next message, its gRPC prefix included.
    pub fn put(&mut self, out: &mut Vec<u8>) {
        let mut group = vec![0x08, KIND, 0x12];
        put_varint(&mut group, PUSH_ITEMS * 8);
        (0..PUSH_ITEMS).for_each(|n| group.extend_from_slice(&(UNREAD_FROM + n).to_le_bytes()));
        let mut message = user_and_namespace(self.random.next());
        message.push(0x1a);
        put_varint(&mut message, group.len() as u64);
        message.extend_from_slice(&group);
        message.push(0x22);
        put_varint(&mut message, PUSH_USERS * 8);
        for _ in 0..PUSH_USERS {
            message.extend_from_slice(&self.random.below(self.users).to_le_bytes());
        }
        out.extend(with_prefix(&message));
    }
}

/// Marks of items that nobody has marked before.
#[derive(Debug)]
pub(super) struct Marks {
    users: u64,
    items: u64,
    next: u64,
    random: Random,
}

impl Marks {
    /// Marks of `items` items each, for pseudo-random users 0 to `users`.
    pub fn new(users: u64, items: u64, seed: u64) -> Self {
        // Different seeds never mark the same item.
        let next = MARKED_FROM + (seed << 29);
        Self { users: users.max(1), items, next, random: Random::new(seed) }
    }

    /// The next request, its gRPC prefix included.
    pub fn next(&mut self) -> Bytes {
        let user = self.random.below(self.users);
        let first = self.next;
        self.next += self.items;
        Bytes::from(mark_body(user, first..first + self.items))
    }
}

/// A `MarkRequest`, with its gRPC prefix.
pub(super) fn mark_body(user: u64, ids: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut message = user_and_namespace(user);
    for id in ids {
        message.extend_from_slice(&[0x1a, 11, 0x08, KIND, 0x11]);
        message.extend_from_slice(&id.to_le_bytes());
    }
    with_prefix(&message)
}

fn user_and_namespace(user: u64) -> Vec<u8> {
    let mut message = vec![0x09];
    message.extend_from_slice(&user.to_le_bytes());
    message.push(0x12);
    put_varint(&mut message, NAMESPACE.len() as u64);
    message.extend_from_slice(NAMESPACE.as_bytes());
    message
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn with_prefix(message: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    out
}

#[cfg(test)]
mod tests {
    use seen_proto::message::decode;
    use seen_proto::model::PushCall;
    use seen_proto::v1;
    use seen_proto::wire::{FilterCall, MarkCall};

    use super::*;

    #[test]
    fn the_requests_are_what_the_service_reads() {
        let mut filters = Filters::new(1_000, 5_000, 1);
        let request = filters.next();
        let call = FilterCall::parse(&request[PREFIX_BYTES..]).expect("a filter");
        assert_eq!((call.candidates, call.namespaces.as_slice()), (CANDIDATES, &[NAMESPACE][..]));
        assert!(call.user.get() < 1_000);
        let mut push = Vec::new();
        Pushes::new(1_000, 1).put(&mut push);
        let push: v1::FilterUsersRequest =
            decode(Bytes::from(push).slice(PREFIX_BYTES..)).expect("a push");
        let call = PushCall::try_from(push).expect("a push within the bounds");
        assert_eq!((call.users.len(), call.items.len()), (1_000, 10));
        let mut marks = Marks::new(1_000, 10, 1);
        let (first, second) = (marks.next(), marks.next());
        let ids = |raw: &Bytes| -> Vec<u64> {
            let call = MarkCall::parse(&raw[PREFIX_BYTES..]).expect("a mark");
            assert_eq!(call.namespace, NAMESPACE);
            call.items().map(|(item, _)| item.id.get()).collect()
        };
        assert_eq!(ids(&first).len(), 10);
        assert!(ids(&first).iter().all(|id| !ids(&second).contains(id)));
    }
}
