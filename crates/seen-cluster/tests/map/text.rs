//! The map's text.

use proptest::prelude::*;
use seen_cluster::map::{MapDraft, MapError, PoolDraft, Slot, SlotMap, SlotNumber, key_check};
use seen_filter::{SlotKey, UserId, VirtualSet, VirtualSlot};

use super::plan::members;
use super::world::{KEY, every_virtual_slot, feed, owners, replica, slot, two_slots};

const EXAMPLE: &str = include_str!("example.toml");

#[test]
fn the_example_means_what_it_says() {
    let map = SlotMap::parse(EXAMPLE).unwrap();
    assert_eq!((map.epoch.get(), map.cluster), (7, 0x9f1c_0000_0000_0001));
    assert_eq!((map.slot_key, &map.settings[..]), (KEY, &[0xaa, 0xbb][..]));
    assert_eq!((map.tag_for("push_sent"), map.tag_for("other")), ("push", "feed"));
    let feed = map.pool("feed").unwrap();
    assert_eq!(feed.slots().len(), 2);
    assert_eq!(feed.owner(VirtualSlot::new(2047)).number, SlotNumber::new(0));
    assert_eq!(feed.owner(VirtualSlot::new(2048)).number, SlotNumber::new(1));
    let first = &feed.slots()[0];
    assert_eq!(first.incoming.to_string(), "2048-2100");
    assert_eq!(first.followed().to_string(), "0-2100");
    assert_eq!(first.replicas, [replica("10.0.0.1:7430", 50), replica("replica-1.seen:7430", 100)]);
    assert_eq!(feed.slots()[1].dns.as_deref(), Some("seen-feed-1.seen.svc:7430"));
    let push = map.pool("push").unwrap().slot(SlotNumber::new(9)).unwrap();
    assert_eq!(push.srv.as_deref(), Some("_link._tcp.seen-push.seen.svc"));
    assert!(map.pool("offline").is_none() && map.is_changing());
    assert_eq!(map.virtual_slot(UserId::new(5)), KEY.virtual_slot(UserId::new(5)));
}

/// The error of the example with one text in place of another.
fn error_with(old: &str, new: &str) -> MapError {
    assert!(EXAMPLE.contains(old), "{old:?} is not in the example");
    SlotMap::parse(&EXAMPLE.replacen(old, new, 1)).expect_err(new)
}

#[test]
fn whatever_is_wrong_is_told_with_its_place_its_value_and_the_limit() {
    let long = format!("\"{}\"", "t".repeat(49));
    let cases: &[(&str, &str, &str)] = &[
        ("epoch = 7", "epoch = 0", "epoch = \"0\": from 1 to 4294967295"),
        ("epoch = 7", "epoch = -1", "line 1: epoch = \"-1\": from 0 to 4294967295"),
        ("epoch = 7", "epoch = 4294967296", "line 1: epoch = \"4294967296\": from 0 to 4294967295"),
        ("epoch = 7", "", "missing field `epoch`"),
        ("epoch = 7", "epoch = 7\nepok = 1", "line 2: unknown field `epok`"),
        ("weight = 50", "wieght = 50", "line 18: unknown field `wieght`"),
        ("9f1c000000000001", "9f1c", "line 2: cluster = \"9f1c\": 16 hexadecimal digits"),
        ("9f1c000000000001", "0000000000000000", "cluster = \"0\": 0 is no cluster"),
        ("3210\"", "32\"", "line 3: slot_key: 32 hexadecimal digits"),
        ("00000000000000bb", "x", "line 4: settings = \"x\": 16 hexadecimal digits"),
        ("default_pool = \"feed\"", "default_pool = \"f\"", "default_pool = \"f\": no pool has"),
        ("push_sent = \"push\"", "a = \"b\"", "namespace_pools.a = \"b\": no pool has this tag"),
        ("tag = \"push\"", "tag = \"feed\"", "line 27: pool.tag = \"feed\": two pools"),
        ("tag = \"push\"", "tag = \"\"", "line 27: pool.tag: 1 to 48 letters"),
        ("\"push\"\n[[", &format!("{long}\n[["), "1 to 48 letters"),
        ("tag = \"push\"", "tag = \"a b\"", "line 27: pool.tag = \"a b\": 1 to 48 letters"),
        ("number = 1", "number = 0", "line 22: pool.feed.slot.number = \"0\": two slots"),
        ("number = 1", "number = 65536", "pool.feed.slot.number = \"65536\": from 0 to 65535"),
        ("\"0-2047\"", "\"0-2046\"", "line 10: pool.feed.slot.virtual: no slot owns 2047; all of"),
        ("\"0-2047\"", "\"0-2048\"", "line 22: pool.feed.slot.1.virtual = \"2048\": another slot"),
        (
            "\"0-2047\"",
            "\"0-4096\"",
            "line 15: pool.feed.slot.0.virtual = \"0-4096\": \"4096\" is no",
        ),
        ("\"0-2047\"", "\"9-1\"", "pool.feed.slot.0.virtual = \"9-1\": \"9-1\" ends before"),
        ("\"0-2047\"", "\"0-9,9\"", "pool.feed.slot.0.virtual = \"0-9,9\": 9 is in it twice"),
        ("\"2048-2100\"", "\"7\"", "line 13: pool.feed.slot.0.incoming = \"7\": the slot owns"),
        (
            "incoming",
            "leaving = \"3\"\nincoming",
            "pool.feed.slot.0.leaving = \"3\": the slot owns",
        ),
        (
            "weight = 50",
            "weight = 10001",
            "line 18: pool.feed.slot.0.replicas.weight = \"10001\": ",
        ),
        (
            "weight = 50",
            "weight = -1",
            "line 18: pool.feed.slot.0.replicas.weight = \"-1\": from 0",
        ),
        ("10.0.0.1:7430", "10.0.0.1", "line 18: pool.feed.slot.0.replicas.address = \"10.0.0.1\""),
        ("10.0.0.1:7430", "a:0", "port from 1 to 65535"),
        ("10.0.0.1:7430", "a:+9", "port from 1 to 65535"),
        ("10.0.0.1:7430", "::1:9", "an IPv6 address stands in []"),
        ("10.0.0.1:7430", "[::x]:9", "\"::x\" is no IPv6 address"),
        ("10.0.0.1:7430", "replica-1.seen:7430", "pool.feed.slot.0 names it, too"),
        ("10.0.0.1:7430", "[2001:db8::1]:7430", "line 29: pool.push.slot.9.replicas = \"[2001:"),
        ("dns = \"seen-feed-1.seen.svc:7430\"", "", "line 22: pool.feed.slot.1.replicas: at least"),
        ("svc:7430\"", "svc\"", "pool.feed.slot.1.dns = \"seen-feed-1.seen.svc\": host:port"),
        ("_link._tcp", "_link/_tcp", "pool.push.slot.9.srv = \"_link/_tcp"),
    ];
    for (old, new, expected) in cases {
        let told = error_with(old, new).to_string();
        assert!(told.contains(expected), "{new:?}: {told:?} has no {expected:?}");
    }
    assert!(!error_with("3210\"", "32\"").to_string().contains("0123"), "the key is no secret");
}

#[test]
fn limits_are_held_on_both_sides() {
    let with = |change: &dyn Fn(&mut MapDraft)| {
        let mut draft = two_slots().to_draft();
        change(&mut draft);
        SlotMap::new(draft).map_err(|error| error.to_string())
    };
    let slots = |count: u16| {
        let slot =
            |number| slot(number, "", &[&format!("10.1.{}.{}:1", number / 256, number % 256)]);
        let mut slots: Vec<Slot> = (0..count).map(slot).collect();
        slots[0].owned = VirtualSet::ALL;
        with(&|draft| draft.pools[0].slots = slots.clone())
    };
    assert!(slots(1_024).is_ok());
    assert_eq!(slots(1_025).unwrap_err(), "pool.feed.slot = \"1025\": at most 1024");
    let replicas = |count: u16| {
        let replicas: Vec<_> = (0..count).map(|at| replica(&format!("r{at}:1"), at)).collect();
        with(&|draft| draft.pools[0].slots[0].replicas = replicas.clone())
    };
    assert!(replicas(64).is_ok());
    assert_eq!(replicas(65).unwrap_err(), "pool.feed.slot.0.replicas = \"65\": at most 64");
    let weight = |weight| with(&|draft| draft.pools[0].slots[0].replicas[0].weight = weight);
    assert!(weight(10_000).is_ok());
    assert!(weight(10_001).unwrap_err().ends_with("from 0 to 10000"));
    let tag = |length| {
        with(&|draft| {
            draft.default_pool = "t".repeat(length);
            draft.pools[0].tag = "t".repeat(length);
        })
    };
    assert!(tag(48).is_ok() && tag(1).is_ok());
    assert!(tag(49).is_err() && tag(0).is_err());
    let settings = |count| with(&|draft| draft.settings = (0..count).collect());
    assert!(settings(64).is_ok());
    assert!(settings(65).unwrap_err().contains("at most 64"));
    assert!(with(&|draft| draft.pools.clear()).unwrap_err().contains("at least 1 pool"));
}

#[test]
fn a_text_that_is_too_long_is_refused_before_it_is_read() {
    let text = format!("{EXAMPLE}{}", "#".repeat(16 << 20));
    assert!(SlotMap::parse(&text).unwrap_err().to_string().contains("at most 16777216"));
}

#[test]
fn a_first_map_is_even() {
    let members = [members(&["a:1"]), members(&["b:1", "c:1"]), members(&["d:1"])];
    let draft = MapDraft { pools: vec![PoolDraft::even("feed", &members)], ..feed(1, Vec::new()) };
    let map = SlotMap::new(draft).unwrap();
    let owned = map.pool("feed").unwrap().slots().iter().map(|slot| slot.owned.to_string());
    assert_eq!(owned.collect::<Vec<_>>(), ["0-1365", "1366-2730", "2731-4095"]);
}

#[test]
fn keys_are_told_apart_and_not_given_away() {
    let other = SlotKey::from_words((1, 2));
    assert_eq!(two_slots().key_check(), key_check(&KEY));
    assert_ne!(key_check(&other), key_check(&KEY));
    assert!(![0, KEY.words().0, KEY.words().1].contains(&key_check(&KEY)));
    assert!(!format!("{:?}", two_slots()).contains("81985529216486895"), "{:?}", two_slots());
}

#[test]
fn sets_of_virtual_slots_are_read_and_written() {
    for text in ["", "0", "4095", "0-4095", "0-1,3,5-9", "63-64,127-128"] {
        assert_eq!(VirtualSet::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(VirtualSet::parse(" 3 - 5 , 4 ").unwrap_err(), "4 is in it twice");
    assert_eq!(VirtualSet::ALL.to_string(), "0-4095");
    for text in ["-", "1-", "-1", "1,,2", "x", "4096", "+1", "1-2-3", "99999999"] {
        assert!(VirtualSet::parse(text).is_err(), "{text}");
    }
}

prop_compose! {
    /// Any pool: random owners, and members of all sorts.
    fn any_pool(tag: String)(
        count in 1_u16..6,
        owners in prop::collection::vec(any::<u16>(), 64),
        moving in prop::collection::vec(any::<u16>(), 8),
        weights in prop::collection::vec(0_u16..=10_000, 6),
        names in any::<[bool; 2]>(),
    ) -> PoolDraft {
        let mut slots: Vec<Slot> = (0..count).map(|at| Slot {
            number: SlotNumber::new(at * 7),
            replicas: vec![replica(&format!("{tag}-{at}.seen:7430"), weights[usize::from(at)])],
            dns: names[0].then(|| format!("{tag}-{at}.svc:1")),
            srv: names[1].then(|| format!("_link._tcp.{tag}-{at}.svc")),
            ..Slot::default()
        }).collect();
        for virtual_slot in every_virtual_slot() {
            let owner = owners[usize::from(virtual_slot.get() / 64)] % count;
            slots[usize::from(owner)].owned.insert(virtual_slot);
        }
        for (at, moved) in moving.iter().enumerate() {
            let (virtual_slot, to) = (VirtualSlot::new(moved % 4_096), usize::from(moved % count));
            let free = slots.iter().all(|slot| !slot.incoming.contains(virtual_slot));
            if free && !slots[to].followed().contains(virtual_slot) {
                let set = if at % 2 == 0 { &mut slots[to].incoming } else { &mut slots[to].leaving };
                set.insert(virtual_slot);
            }
        }
        PoolDraft { tag: tag.clone(), slots }
    }
}

prop_compose! {
    fn any_map()(
        epoch in 1..=u32::MAX,
        cluster in 1..=u64::MAX,
        words in any::<(u64, u64)>(),
        settings in prop::collection::vec(any::<u64>(), 0..4),
        namespaces in prop::collection::btree_map(any::<String>(), 0_usize..2, 0..4),
        one in any_pool("feed".to_owned()),
        two in any_pool("Push_2.x-y".to_owned()),
    ) -> MapDraft {
        let tags = [one.tag.clone(), two.tag.clone()];
        let namespace_pools = namespaces.into_iter().map(|(name, tag)| (name, tags[tag].clone()));
        MapDraft {
            slot_key: SlotKey::from_words(words),
            cluster,
            settings,
            namespace_pools: namespace_pools.collect(),
            pools: vec![one, two],
            ..feed(epoch, Vec::new())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_map_that_is_written_and_read_is_the_same(draft in any_map()) {
        let map = SlotMap::new(draft).unwrap();
        let text = map.to_toml();
        prop_assert_eq!(&SlotMap::parse(&text).unwrap(), &map, "{}", text);
        prop_assert_eq!(SlotMap::new(map.to_draft()).unwrap(), map);
    }

    #[test]
    fn a_virtual_slot_belongs_to_the_one_slot_that_owns_it(draft in any_map()) {
        let map = SlotMap::new(draft).unwrap();
        for pool in map.pools() {
            let owners = owners(&map, pool.tag());
            for slot in pool.slots() {
                let owned: VirtualSet = every_virtual_slot()
                    .filter(|one| owners[usize::from(one.get())] == slot.number.get())
                    .collect();
                prop_assert_eq!(&owned, &slot.owned);
            }
        }
    }

    #[test]
    fn no_text_does_any_harm(at in 0..EXAMPLE.len(), cut in 0_usize..40, with in ".{0,12}") {
        let start = EXAMPLE.floor_char_boundary(at);
        let end = EXAMPLE.floor_char_boundary((at + cut).min(EXAMPLE.len()));
        let text = format!("{}{with}{}", &EXAMPLE[..start], &EXAMPLE[end.max(start)..]);
        if let Ok(map) = SlotMap::parse(&text) {
            prop_assert_eq!(SlotMap::parse(&map.to_toml()).unwrap(), map);
        }
    }
}
