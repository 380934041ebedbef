//! Who may talk to whom.

use seen_proto::v1::{self, LinkLane};

use super::{VERSION_MAX, VERSION_MIN};
use crate::sabotage::defends;

/// What whoever is said hello to is, and takes.
#[derive(Clone, Copy, Debug)]
pub struct HelloExpectation<'a> {
    /// Who it is.
    pub identity: &'a v1::ReplicaIdentity,
    /// Which lanes it serves.
    pub lanes: &'a [LinkLane],
}

/// The newest version that this end and another one speak.
pub fn negotiate(version_min: u32, version_max: u32) -> Option<u32> {
    newest_common((VERSION_MIN, VERSION_MAX), (version_min, version_max))
}

/// The newest version that is in both ranges, of which the first and the last are given.
pub fn newest_common(one: (u32, u32), other: (u32, u32)) -> Option<u32> {
    let version = one.1.min(other.1);
    let speaks = |(low, high): (u32, u32)| (low..=high).contains(&version);
    (speaks(one) && speaks(other)).then_some(version)
}

/// A refusal: a stable name, and for people what was expected, what came and what to do.
pub fn refusal(
    reason: &str,
    message: impl Into<String>,
    identity: &v1::ReplicaIdentity,
) -> v1::LinkRefusal {
    let (reason, message) = (reason.to_owned(), message.into());
    v1::LinkRefusal { reason, message, identity: Some(identity.clone()) }
}

/// Checks a hello. Gives the version of the link to speak.
///
/// # Errors
/// The refusal to send, with what was expected and what came.
#[expect(clippy::result_large_err, reason = "once a connection")]
pub fn check_hello(
    hello: &v1::LinkHello,
    expected: &HelloExpectation<'_>,
) -> Result<u32, v1::LinkRefusal> {
    let identity = expected.identity;
    let refused = |reason: &str, message: String| refusal(reason, message, identity);
    let (low, high) = (hello.version_min, hello.version_max);
    let version = negotiate(low, high).ok_or_else(|| {
        let message = format!(
            "this replica speaks versions {VERSION_MIN} to {VERSION_MAX} of the link, the caller {low} to {high}; upgrade the older one"
        );
        refused("VERSION", message)
    })?;
    if hello.cluster != 0 && hello.cluster != identity.cluster {
        let message = format!(
            "this replica is of cluster {:016x}, and cluster {:016x} was meant; one of both has another storage or another map",
            identity.cluster, hello.cluster
        );
        return Err(refused("CLUSTER", message));
    }
    if !hello.pool.is_empty() && hello.pool != identity.pool {
        let message = format!(
            "this replica is of pool {:?}, and pool {:?} was meant; correct its address in the map, or the replica's own pool",
            shown(&identity.pool),
            shown(&hello.pool)
        );
        return Err(refused("POOL", message));
    }
    if hello.slot_known && hello.slot != identity.slot {
        let message = format!(
            "this replica is of slot {} of pool {:?}, and slot {} was meant; correct its address in the map, or the replica's own slot",
            identity.slot,
            shown(&identity.pool),
            hello.slot
        );
        return Err(refused("SLOT", message));
    }
    check_hash(hello, identity).map_err(|message| refused("HASH", message))?;
    if !hello.settings.is_empty() && !hello.settings.contains(&identity.settings) {
        let message = format!(
            "this replica's namespaces have the settings {:016x}, and {} counted on; bring the configurations together, or name both in the map while they change",
            identity.settings,
            settings(&hello.settings)
        );
        return Err(refused("SETTINGS", message));
    }
    if !expected.lanes.iter().any(|lane| *lane as i32 == hello.lane) {
        let lanes: Vec<&str> = expected.lanes.iter().map(LinkLane::as_str_name).collect();
        let lanes = lanes.join(", ");
        let message = format!("this replica serves {lanes}, and lane {} was meant", hello.lane);
        return Err(refused("LANE", message));
    }
    Ok(version)
}

fn check_hash(hello: &v1::LinkHello, identity: &v1::ReplicaIdentity) -> Result<(), String> {
    if !defends("hash.checked") {
        return Ok(());
    }
    let routes = hello.slot_key_check != 0;
    if (routes || hello.hash_version != 0) && hello.hash_version != identity.hash_version {
        return Err(format!(
            "this replica hashes users by version {}, the caller by version {}; upgrade the older one",
            identity.hash_version, hello.hash_version
        ));
    }
    if routes && identity.slot_key_check != 0 && hello.slot_key_check != identity.slot_key_check {
        return Err(format!(
            "this replica spreads users by another slot key (check {:016x}, the caller's {:016x}); both must have the slot_key of one map",
            identity.slot_key_check, hello.slot_key_check
        ));
    }
    Ok(())
}

/// Checks a welcome: what is behind an address must be what was meant, whatever that itself makes of it.
#[expect(clippy::result_large_err, reason = "once a connection")]
pub(super) fn check_welcome(
    hello: &v1::LinkHello,
    welcome: &v1::LinkWelcome,
) -> Result<v1::ReplicaIdentity, v1::LinkRefusal> {
    let identity = welcome.identity.clone().unwrap_or_default();
    if !(hello.version_min..=hello.version_max).contains(&welcome.version) {
        let message = format!(
            "the replica speaks version {} of the link, this end {} to {}; upgrade the older one",
            welcome.version, hello.version_min, hello.version_max
        );
        return Err(refusal("VERSION", message, &identity));
    }
    let lane = LinkLane::try_from(hello.lane).unwrap_or(LinkLane::Unspecified);
    check_hello(hello, &HelloExpectation { identity: &identity, lanes: &[lane] })?;
    Ok(identity)
}

/// The start of a name that another process sent.
fn shown(name: &str) -> &str {
    &name[..name.floor_char_boundary(48)]
}

/// The first few settings, for people.
fn settings(all: &[u64]) -> String {
    let shown: Vec<String> = all.iter().take(4).map(|one| format!("{one:016x}")).collect();
    let more =
        if all.len() > 4 { format!(" and {} more are", all.len() - 4) } else { " is".into() };
    shown.join(", ") + &more
}
