//! What a map is to become, as flags say it.

use seen_filter::VirtualSet;
use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use seen_cluster::map::plan::{Members, Plan, PlanOptions, Target, Wish, plan};
use seen_cluster::map::{ReplicaAddress, SlotMap, SlotNumber, WEIGHT_DEFAULT};

use super::place::{Placed, placed, slot_of};
use crate::cli::CliError;

/// What is wished. What is so already changes nothing.
#[derive(Debug, Clone, Args)]
pub(super) struct WishArgs {
    /// There is a slot with this replica, and with the others that are named for it: a new one takes an even share of its
    /// pool's users
    #[arg(long, value_name = "POOL/SLOT=HOST:PORT", value_parser = placed)]
    slot: Vec<Placed>,
    /// There is no such slot
    #[arg(long, value_name = "POOL/SLOT", value_parser = slot_of)]
    no_slot: Vec<(String, u16)>,
    /// The slot has this replica, with this weight (100 where none is given)
    #[arg(long, value_name = "POOL/SLOT=HOST:PORT[@WEIGHT]", value_parser = placed)]
    replica: Vec<Placed>,
    /// The slot has no such replica
    #[arg(long, value_name = "POOL/SLOT=HOST:PORT", value_parser = placed)]
    no_replica: Vec<Placed>,
    /// The slot owns these virtual slots, beside what it owns, as in feed/1=100-199
    #[arg(long, value_name = "POOL/SLOT=RANGES", value_parser = placed)]
    owns: Vec<Placed>,
    /// All slots of the pool own the same number
    #[arg(long, value_name = "POOL")]
    even: Vec<String>,
    /// Replicas have these settings of namespaces (seen status names a replica's); may be given several times
    #[arg(long, value_name = "HEX")]
    settings: Vec<String>,
    /// The map is this one, whatever its epoch; leaves no room for other wishes
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

impl WishArgs {
    /// How the map comes to that.
    ///
    /// # Errors
    /// A wish that is none, or is about something that does not exist.
    pub(super) fn plan(&self, from: &SlotMap) -> Result<Plan, CliError> {
        Ok(plan(from, &self.target()?, &PlanOptions::default())?)
    }

    fn target(&self) -> Result<Target, CliError> {
        let wishes = self.wishes()?;
        match &self.to {
            None => Ok(Target::Wishes(wishes)),
            Some(_) if !wishes.is_empty() => {
                Err("--to is a whole map; leave the other wishes out".into())
            }
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("--to {}: {error}", path.display()))?;
                Ok(Target::Map(Box::new(SlotMap::parse(&text)?)))
            }
        }
    }

    fn wishes(&self) -> Result<Vec<Wish>, CliError> {
        let mut wishes = Vec::new();
        let mut slots: BTreeMap<(String, u16), Members> = BTreeMap::new();
        for one in &self.slot {
            let members = slots.entry((one.pool.clone(), one.slot)).or_default();
            members.replicas.push(replica(&one.value)?);
        }
        for ((tag, slot), members) in slots {
            wishes.push(Wish::Slot { tag, slot: SlotNumber::new(slot), members });
        }
        for (tag, slot) in self.no_slot.clone() {
            wishes.push(Wish::NoSlot { tag, slot: SlotNumber::new(slot) });
        }
        for Placed { pool: tag, slot, value } in self.replica.clone() {
            let (slot, replica) = (SlotNumber::new(slot), replica(&value)?);
            wishes.push(Wish::Replica { tag, slot, replica });
        }
        for Placed { pool: tag, slot, value: address } in self.no_replica.clone() {
            wishes.push(Wish::NoReplica { tag, slot: SlotNumber::new(slot), address });
        }
        for Placed { pool: tag, slot, value } in self.owns.clone() {
            let virtuals = VirtualSet::parse(&value).map_err(|error| format!("--owns: {error}"))?;
            wishes.push(Wish::Owns {
                tag,
                slot: SlotNumber::new(slot),
                virtuals: Box::new(virtuals),
            });
        }
        wishes.extend(self.even.iter().map(|tag| Wish::Even { tag: tag.clone() }));
        if !self.settings.is_empty() {
            let digests =
                self.settings.iter().map(|text| digest(text)).collect::<Result<_, _>>()?;
            wishes.push(Wish::Settings(digests));
        }
        Ok(wishes)
    }
}

fn replica(text: &str) -> Result<ReplicaAddress, CliError> {
    let (address, weight) = match text.rsplit_once('@') {
        None => (text, WEIGHT_DEFAULT),
        Some((address, weight)) => {
            let weight = weight.parse();
            (address, weight.map_err(|_| format!("{text:?}: the weight is no number up to 10000"))?)
        }
    };
    Ok(ReplicaAddress { address: address.to_owned(), weight })
}

fn digest(text: &str) -> Result<u64, CliError> {
    let read = u64::from_str_radix(text, 16);
    Ok(read.map_err(|_| format!("--settings {text:?}: not 16 hexadecimal digits"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read() {
        let read = |text: &str| replica(text).map(|one| (one.address, one.weight)).ok();
        assert_eq!(read("[::1]:7430"), Some(("[::1]:7430".to_owned(), 100)));
        assert_eq!(read("a:7430@25"), Some(("a:7430".to_owned(), 25)));
        assert_eq!(read("a:7430@x"), None);
    }
}
