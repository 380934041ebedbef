//! From a file's text to a map.

use std::collections::BTreeMap;

use seen_filter::{SlotKey, VirtualSet};
use serde::Deserialize;
use toml::Spanned;

use super::check::{Place, check};
use super::{
    Epoch, MAP_BYTES_MAX, MapDraft, MapError, PoolDraft, ReplicaAddress, Slot, SlotMap, SlotNumber,
    WEIGHT_DEFAULT,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMap {
    epoch: Spanned<i64>,
    cluster: Spanned<String>,
    slot_key: Spanned<String>,
    #[serde(default)]
    settings: Vec<Spanned<String>>,
    default_pool: String,
    #[serde(default)]
    namespace_pools: BTreeMap<String, String>,
    pool: Vec<Spanned<RawPool>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPool {
    tag: String,
    slot: Vec<Spanned<RawSlot>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSlot {
    number: Spanned<i64>,
    #[serde(rename = "virtual")]
    owned: Option<Spanned<String>>,
    incoming: Option<Spanned<String>>,
    leaving: Option<Spanned<String>>,
    #[serde(default)]
    replicas: Vec<Spanned<RawReplica>>,
    dns: Option<String>,
    srv: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReplica {
    address: String,
    weight: Option<Spanned<i64>>,
}

/// The map that a text describes.
pub(super) fn parse(text: &str) -> Result<SlotMap, MapError> {
    if text.len() > MAP_BYTES_MAX {
        let problem = format!("{} bytes; at most {MAP_BYTES_MAX}", text.len());
        return Err(MapError::file(problem));
    }
    let lines = Lines(text);
    let raw: RawMap = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| lines.of(span.start));
        MapError::file(error.message().replace('\n', "; ")).on_line(line)
    })?;
    let draft = lines.draft(&raw)?;
    check(draft).map_err(|wrong| {
        let line = lines.of_place(&raw, wrong.place);
        wrong.error.on_line(line)
    })
}

/// The text, to find lines in.
struct Lines<'a>(&'a str);

impl Lines<'_> {
    /// The line of a place in the text, from 1.
    fn of(&self, at: usize) -> usize {
        self.0.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
    }

    fn of_place(&self, raw: &RawMap, place: Place) -> Option<usize> {
        let pool = |pool: usize| raw.pool.get(pool);
        let slot = |at: usize, slot: usize| pool(at)?.get_ref().slot.get(slot);
        let start = match place {
            Place::Top => return None,
            Place::Pool(at) => pool(at)?.span().start,
            Place::Slot(at, slot_at) => slot(at, slot_at)?.span().start,
            Place::Replica(at, slot_at, replica) => {
                slot(at, slot_at)?.get_ref().replicas.get(replica)?.span().start
            }
        };
        Some(self.of(start))
    }

    /// Reads a value of the file; what is wrong with it gets its line.
    fn read<T, V: AsRef<T>, R>(
        &self,
        value: &Spanned<V>,
        read: impl FnOnce(&T) -> Result<R, MapError>,
    ) -> Result<R, MapError>
    where
        T: ?Sized,
    {
        let line = Some(self.of(value.span().start));
        read(value.get_ref().as_ref()).map_err(|error| error.on_line(line))
    }

    fn number<N: TryFrom<i64>>(
        &self,
        field: &str,
        value: &Spanned<i64>,
        limit: u64,
    ) -> Result<N, MapError> {
        let line = Some(self.of(value.span().start));
        let number = *value.get_ref();
        let fits = u64::try_from(number).is_ok_and(|number| number <= limit);
        let wrong = || MapError::at(field, number, format!("from 0 to {limit}")).on_line(line);
        N::try_from(number).ok().filter(|_| fits).ok_or_else(wrong)
    }

    fn draft(&self, raw: &RawMap) -> Result<MapDraft, MapError> {
        let pool = |pool: &Spanned<RawPool>| -> Result<PoolDraft, MapError> {
            let pool = pool.get_ref();
            let slots = pool.slot.iter().map(|slot| self.slot(&pool.tag, slot.get_ref()));
            Ok(PoolDraft { tag: pool.tag.clone(), slots: slots.collect::<Result<_, _>>()? })
        };
        let settings = raw.settings.iter().map(|one| self.read(one, |text| word("settings", text)));
        Ok(MapDraft {
            epoch: Epoch::new(self.number("epoch", &raw.epoch, u32::MAX.into())?),
            cluster: self.read(&raw.cluster, |text| word("cluster", text))?,
            slot_key: self.read(&raw.slot_key, slot_key)?,
            settings: settings.collect::<Result<_, _>>()?,
            namespace_pools: raw.namespace_pools.clone(),
            default_pool: raw.default_pool.clone(),
            pools: raw.pool.iter().map(pool).collect::<Result<_, _>>()?,
        })
    }

    fn slot(&self, tag: &str, raw: &RawSlot) -> Result<Slot, MapError> {
        let name = |what: &str| format!("pool.{tag}.slot.{}.{what}", raw.number.get_ref());
        let set = |what: &str, text: &Option<Spanned<String>>| match text {
            None => Ok(VirtualSet::NONE),
            Some(text) => self.read(text, |text: &str| {
                VirtualSet::parse(text).map_err(|problem| MapError::at(name(what), text, problem))
            }),
        };
        let replica = |replica: &Spanned<RawReplica>| -> Result<ReplicaAddress, MapError> {
            let replica = replica.get_ref();
            let weight = match &replica.weight {
                None => WEIGHT_DEFAULT,
                // The limit is the check's, for all weights alike.
                Some(weight) => self.number(&name("replicas.weight"), weight, u16::MAX.into())?,
            };
            Ok(ReplicaAddress { address: replica.address.clone(), weight })
        };
        let field = format!("pool.{tag}.slot.number");
        Ok(Slot {
            number: SlotNumber::new(self.number(&field, &raw.number, u16::MAX.into())?),
            owned: set("virtual", &raw.owned)?,
            incoming: set("incoming", &raw.incoming)?,
            leaving: set("leaving", &raw.leaving)?,
            replicas: raw.replicas.iter().map(replica).collect::<Result<_, _>>()?,
            dns: raw.dns.clone(),
            srv: raw.srv.clone(),
        })
    }
}

/// 16 hexadecimal digits.
fn word(field: &str, text: &str) -> Result<u64, MapError> {
    hex(text, 16).ok_or_else(|| MapError::at(field, text, "16 hexadecimal digits"))
}

/// 32 hexadecimal digits: the key's two words.
fn slot_key(text: &str) -> Result<SlotKey, MapError> {
    let words = text.split_at_checked(16).and_then(|(a, b)| Some((hex(a, 16)?, hex(b, 16)?)));
    // The value stays out of logs.
    let wrong = || MapError::at("slot_key", "", "32 hexadecimal digits");
    words.map(SlotKey::from_words).ok_or_else(wrong)
}

fn hex(text: &str, digits: usize) -> Option<u64> {
    let fine = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    fine.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}
