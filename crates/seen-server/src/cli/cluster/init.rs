//! `seen cluster init`: the first map of slots, for the store that is configured.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use seen_cluster::map::{
    Epoch, MapDraft, PoolDraft, ReplicaAddress, Slot, SlotMap, SlotNumber, WEIGHT_DEFAULT,
};
use seen_filter::hash::VIRTUAL_SLOTS;
use seen_filter::{VirtualSet, VirtualSlot};

use super::place::{Placed, placed};
use crate::cli::{CliError, ConfigSources, print};
use crate::config::Config;
use crate::node;
use crate::runtime;

/// Arguments of `seen cluster init`.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// Where the configuration is read from: the store is opened, and made if it is the embedded one
    #[command(flatten)]
    sources: ConfigSources,
    /// A replica, as in feed/0=10.0.0.7:7430; a slot needs one of these, --dns or --srv
    #[arg(long, value_name = "POOL/SLOT=HOST:PORT", value_parser = placed)]
    replica: Vec<Placed>,
    /// A name whose addresses are a slot's replicas, as in feed/0=seen-feed-0.seen.svc:7430
    #[arg(long, value_name = "POOL/SLOT=HOST:PORT", value_parser = placed)]
    dns: Vec<Placed>,
    /// A name whose SRV records are a slot's replicas
    #[arg(long, value_name = "POOL/SLOT=NAME", value_parser = placed)]
    srv: Vec<Placed>,
    /// The pool of requests that name none, and whose namespace has none [default: the first named]
    #[arg(long, value_name = "POOL")]
    default_pool: Option<String>,
    /// The pool of a namespace's requests that name none, as in push_sent=push
    #[arg(long, value_name = "NAMESPACE=POOL", value_parser = pair)]
    namespace_pool: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=');
    let (name, pool) =
        split.ok_or_else(|| format!("{text:?} is not of the form namespace=pool"))?;
    Ok((name.to_owned(), pool.to_owned()))
}

/// What a first map is to hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Pool, slot, and where the replica is.
    pub replicas: Vec<(String, u16, String)>,
    /// Pool, slot, and a name that stands for replicas.
    pub dns: Vec<(String, u16, String)>,
    /// Pool, slot, and a name that has SRV records.
    pub srv: Vec<(String, u16, String)>,
    /// The pool of requests that name none.
    pub default_pool: String,
    /// The pools of some namespaces.
    pub namespace_pools: BTreeMap<String, String>,
}

/// Prints the map.
///
/// # Errors
/// A store that cannot be opened, or slots that make no map.
pub fn run(args: InitArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.clone().load()?.config;
    let wanted = wanted(args)?;
    let control = runtime::control()?;
    let map = control.block_on(made(&config, wanted))?;
    print(&map.to_toml())?;
    Ok(ExitCode::SUCCESS)
}

fn wanted(args: InitArgs) -> Result<Wanted, CliError> {
    let plain = |all: Vec<Placed>| -> Vec<(String, u16, String)> {
        all.into_iter().map(|one| (one.pool, one.slot, one.value)).collect()
    };
    let first = args.replica.first().or(args.dns.first()).or(args.srv.first());
    let Some(first) = first.map(|one| one.pool.clone()) else {
        return Err("no replica is named; give --replica, --dns or --srv for each slot".into());
    };
    Ok(Wanted {
        default_pool: args.default_pool.unwrap_or(first),
        replicas: plain(args.replica),
        dns: plain(args.dns),
        srv: plain(args.srv),
        namespace_pools: args.namespace_pool.into_iter().collect(),
    })
}

/// The first map of a store's cluster.
///
/// # Errors
/// As [`run`].
pub(crate) async fn made(config: &Config, wanted: Wanted) -> Result<SlotMap, CliError> {
    let identity = node::store_identity(config).await?;
    let draft = MapDraft {
        epoch: Epoch::new(1),
        cluster: identity.cluster,
        slot_key: identity.slot_key,
        settings: vec![identity.settings],
        namespace_pools: wanted.namespace_pools.clone(),
        default_pool: wanted.default_pool.clone(),
        pools: pools(wanted)?,
    };
    Ok(SlotMap::new(draft)?)
}

fn pools(wanted: Wanted) -> Result<Vec<PoolDraft>, CliError> {
    let mut slots = Slots::new();
    for (pool, number, address) in wanted.replicas {
        let replica = ReplicaAddress { address, weight: WEIGHT_DEFAULT };
        slot(&mut slots, &pool, number).replicas.push(replica);
    }
    for (pool, number, name) in wanted.dns {
        let before = slot(&mut slots, &pool, number).dns.replace(name);
        refuse_second(&pool, number, "--dns", before)?;
    }
    for (pool, number, name) in wanted.srv {
        let before = slot(&mut slots, &pool, number).srv.replace(name);
        refuse_second(&pool, number, "--srv", before)?;
    }
    let mut pools: BTreeMap<String, Vec<Slot>> = BTreeMap::new();
    for ((pool, _), slot) in slots {
        pools.entry(pool).or_default().push(slot);
    }
    let drafts = pools.into_iter().map(|(tag, mut slots)| {
        share_out(&mut slots);
        PoolDraft { tag, slots }
    });
    Ok(drafts.collect())
}

/// Slots by pool and number.
type Slots = BTreeMap<(String, u16), Slot>;

fn slot<'a>(slots: &'a mut Slots, pool: &str, number: u16) -> &'a mut Slot {
    let empty = || Slot { number: SlotNumber::new(number), ..Slot::default() };
    slots.entry((pool.to_owned(), number)).or_insert_with(empty)
}

fn refuse_second(
    pool: &str,
    number: u16,
    flag: &str,
    before: Option<String>,
) -> Result<(), CliError> {
    match before {
        None => Ok(()),
        Some(_) => {
            Err(format!("{flag}: {pool}/{number} is named twice; a slot has one name").into())
        }
    }
}

/// Gives each slot an equal range of the virtual slots.
fn share_out(slots: &mut [Slot]) {
    let count = slots.len();
    let end = |at: usize| (usize::from(VIRTUAL_SLOTS) * at / count) as u16;
    for (at, slot) in slots.iter_mut().enumerate() {
        slot.owned = (end(at)..end(at + 1)).map(VirtualSlot::new).collect::<VirtualSet>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_share_all_virtual_slots_evenly() {
        let one = |slot: u16| ("feed".to_owned(), slot, format!("127.0.0.1:{}", 7_000 + slot));
        let wanted = Wanted { replicas: vec![one(0), one(1), one(2), one(2)], ..Wanted::default() };
        let made = pools(wanted).expect("pools");
        assert_eq!(made.len(), 1);
        let owned: Vec<usize> = made[0].slots.iter().map(|slot| slot.owned.len()).collect();
        assert_eq!(owned, [1_365, 1_365, 1_366]);
        assert_eq!(made[0].slots[2].replicas.len(), 2);
    }
}
