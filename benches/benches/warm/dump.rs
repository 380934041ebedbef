//! A dump of users as `seen dump` writes it, made from what their rows in storage are known to be: a replica brought so many
//! users by builds would read storage for minutes. Its head and positions are those of a real dump of the same replica.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use seen_filter::build::Builder;
use seen_filter::hash::HashKey;
use seen_filter::sizing::Sizing;
use seen_filter::transfer;
use seen_filter::{Item, NamespaceId, NamespaceSettings, UnixMillis, UserId};
use seen_replica::warm::{BytesSource, End, EndKind, FrameKind, FrameSource, Header};
use seen_store::{SqliteOptions, SqliteStore};

use super::{KIND, NAMESPACE};

/// First bytes of frames of entries.
const HEADER: u8 = 1;
const ENTRIES: u8 = 2;
/// Before an entry's own bytes.
const ENTRY_HEAD_BYTES: usize = 15;
/// A frame is ended before it is longer.
const PAYLOAD_BYTES_MAX: usize = 61_000;
/// As replicas count how often a user was asked for, up to 3.
const HEATS: u64 = 4;

/// The items that a user has read: each is only this user's.
pub fn items(user: u64, items: u64) -> std::ops::Range<u64> {
    user * items..(user + 1) * items
}

/// The key that a store's items are hashed with.
pub async fn key(store: &Path) -> HashKey {
    let options = SqliteOptions {
        path: store.to_owned(),
        create: false,
        read_only: true,
        beside_writers: true,
        ..SqliteOptions::default()
    };
    let namespaces = vec![NamespaceSettings::new(NamespaceId::new(0), NAMESPACE)];
    let store = SqliteStore::open(options, namespaces).await.expect("the store");
    let key = store.hash_key();
    store.close().await;
    key
}

/// Writes a dump of these users. `like` is a dump of at least one of them.
pub async fn write(like: &Path, out: &Path, key: &HashKey, (users, items_each): (u64, u64)) {
    let (mut header, entry) = head_and_entry(like, key).await;
    header.users = users;
    header.hot_users = users - users.div_ceil(HEATS);
    let mut file = Dump { file: BufWriter::new(File::create(out).expect("a file")) };
    file.frame(FrameKind::Entry, &[&[HEADER][..], &header.encode()].concat());
    let settings = NamespaceSettings::new(NamespaceId::new(0), NAMESPACE);
    let sizing = Sizing::new(settings.false_positive_rate, settings.newest_max);
    let (mut payload, mut checksum, mut bytes) = (vec![ENTRIES], crc32fast::Hasher::new(), 0);
    for user in 0..users {
        let mut builder = Builder::new(key, &sizing);
        items(user, items_each)
            .for_each(|id| builder.push(Item::new(KIND, id), UnixMillis::new(0), 0));
        let head = transfer::Header { user: UserId::new(user), ..entry };
        let encoded = transfer::encode(&builder.finish(), &head, key).expect("not too large");
        if payload.len() + ENTRY_HEAD_BYTES + encoded.len() > PAYLOAD_BYTES_MAX {
            checksum.update(&payload);
            file.frame(FrameKind::Entry, &payload);
            payload.truncate(1);
        }
        payload.extend(entry.namespace.get().to_le_bytes());
        payload.extend(user.to_le_bytes());
        payload.push((user % HEATS) as u8);
        payload.extend((encoded.len() as u32).to_le_bytes());
        payload.extend(&encoded);
        bytes += encoded.len() as u64;
    }
    checksum.update(&payload);
    file.frame(FrameKind::Entry, &payload);
    let end = End { users, bytes, checksum: checksum.finalize(), ..End::empty(EndKind::Complete) };
    file.frame(FrameKind::End, &end.encode());
    file.file.flush().expect("written");
}

/// What a dump begins with, and of its first entry what says whose it is and how far it is.
async fn head_and_entry(dump: &Path, key: &HashKey) -> (Header, transfer::Header) {
    let bytes = std::fs::read(dump).expect("a dump");
    let mut source = BytesSource(&bytes[..]);
    let mut next = async || source.next().await.expect("a dump").expect("a frame").1;
    let header = Header::decode(&next().await[1..]).expect("a head");
    let entries = next().await;
    let len = &entries[ENTRY_HEAD_BYTES + 1 - size_of::<u32>()..=ENTRY_HEAD_BYTES];
    let len = u32::from_le_bytes(len.try_into().expect("four bytes")) as usize;
    let entry = &entries[1 + ENTRY_HEAD_BYTES..][..len];
    (header, transfer::decode(entry, key).expect("an entry").0)
}

struct Dump {
    file: BufWriter<File>,
}

impl Dump {
    /// Writes a frame: its length, which counts the kind, then the kind.
    fn frame(&mut self, kind: FrameKind, payload: &[u8]) {
        let len = (payload.len() + 1) as u32;
        let head = [&len.to_le_bytes()[..], &[kind as u8]].concat();
        self.file.write_all(&head).and_then(|()| self.file.write_all(payload)).expect("written");
    }
}
