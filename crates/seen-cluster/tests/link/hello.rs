//! Who may talk to whom, as a table.

use seen_cluster::link::{HelloExpectation, VERSION_MAX, VERSION_MIN, check_hello, negotiate};
use seen_proto::v1::{LinkHello, LinkLane, ReplicaIdentity};

use crate::pair::{hello, identity};

const LANES: [LinkLane; 2] = [LinkLane::Filters, LinkLane::Push];

fn answer(hello: &LinkHello, identity: &ReplicaIdentity) -> Result<u32, (String, String)> {
    let refused = check_hello(hello, &HelloExpectation { identity, lanes: &LANES });
    refused.map_err(|refusal| {
        assert_eq!(refusal.identity.as_ref(), Some(identity));
        (refusal.reason, refusal.message)
    })
}

#[test]
fn a_hello_that_fits_is_welcome() {
    assert_eq!(answer(&hello(), &identity()), Ok(VERSION_MAX));
    let tool = LinkHello {
        version_min: 1,
        version_max: 1,
        lane: LinkLane::Filters as i32,
        ..LinkHello::default()
    };
    assert_eq!(answer(&tool, &identity()), Ok(1), "who names nothing expects nothing");
    let keyless = ReplicaIdentity { slot_key_check: 0, ..identity() };
    assert_eq!(answer(&hello(), &keyless), Ok(1), "a replica without a map has no key to compare");
    let both = LinkHello { settings: vec![1, identity().settings], ..hello() };
    assert_eq!(answer(&both, &identity()), Ok(1), "while settings change both are named");
}

#[test]
fn what_does_not_fit_is_refused_with_what_was_expected_and_what_came() {
    type Change = fn(&mut LinkHello);
    let cases: [(&str, Change, [&str; 2]); 12] = [
        ("VERSION", |hello| (hello.version_min, hello.version_max) = (2, 3), ["1 to 1", "2 to 3"]),
        ("VERSION", |hello| (hello.version_min, hello.version_max) = (2, 1), ["1 to 1", "2 to 1"]),
        ("VERSION", |hello| (hello.version_min, hello.version_max) = (0, 0), ["1 to 1", "0 to 0"]),
        ("CLUSTER", |hello| hello.cluster = 0xabc, ["000000000000c105", "0000000000000abc"]),
        ("POOL", |hello| hello.pool = "push".into(), ["\"feed\"", "\"push\""]),
        ("SLOT", |hello| hello.slot = 4, ["slot 3", "slot 4"]),
        ("HASH", |hello| hello.hash_version = 9, ["version 1", "version 9"]),
        ("HASH", |hello| hello.slot_key_check = 8, ["0000000000000005", "0000000000000008"]),
        ("SETTINGS", |hello| hello.settings = vec![7], ["0000000000000006", "0000000000000007 is"]),
        (
            "SETTINGS",
            |hello| hello.settings = (7..13).collect(),
            ["0000000000000006", "and 2 more"],
        ),
        ("LANE", |hello| hello.lane = 3, ["LINK_LANE_FILTERS, LINK_LANE_PUSH", "lane 3"]),
        ("LANE", |hello| hello.lane = 0, ["LINK_LANE_FILTERS, LINK_LANE_PUSH", "lane 0"]),
    ];
    for (expected, change, parts) in cases {
        let mut wrong = hello();
        change(&mut wrong);
        let (reason, message) = answer(&wrong, &identity()).expect_err(expected);
        assert_eq!(reason, expected, "{message}");
        for part in parts {
            assert!(message.contains(part), "{message:?} has no {part:?}");
        }
    }
}

#[test]
fn a_hostile_name_is_not_repeated_in_full() {
    let pool = "ö".repeat(10_000);
    let (_, message) = answer(&LinkHello { pool, ..hello() }, &identity()).unwrap_err();
    assert!(message.len() < 400, "{} bytes", message.len());
}

#[test]
fn the_newest_common_version_is_spoken() {
    let cases = [
        ((1, 1), Some(1)),
        ((1, 9), Some(VERSION_MAX)),
        ((0, 1), Some(1)),
        ((2, 9), None),
        ((0, 0), None),
        ((1, 0), None),
    ];
    assert_eq!((VERSION_MIN, VERSION_MAX), (1, 1), "the cases below are of these");
    for ((low, high), expected) in cases {
        assert_eq!(negotiate(low, high), expected, "{low} to {high}");
    }
}
