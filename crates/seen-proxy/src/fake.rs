//! Replicas of the tests: they do as they are told, and remember what they were sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use seen_api::Call;
use seen_cluster::link::{Answer, Link, LinkChange, LinkEvents, NotSent, Outgoing, RequestId};
use seen_cluster::map::{
    Epoch, MapDraft, PoolDraft, ReplicaAddress, ResolvedMap, ResolvedPool, ResolvedReplica,
    ResolvedSlot, Slot, SlotMap, SlotNumber, name_hash,
};
use seen_filter::hash::VIRTUAL_SLOTS;
use seen_filter::verdicts::Verdicts;
use seen_filter::{HASH_VERSION, SlotKey, VirtualSet, VirtualSlot};
use seen_proto::message::{decode, encode};
use seen_proto::model::{PushCall, PushRows, Quality};
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1::{self, LinkLane, UserAnswer};
use seen_proto::wire::encode_filter_response;

use crate::directory::Connector;
use crate::replica::Target;

/// The settings of all replicas.
const SETTINGS: u64 = 77;

/// A map with pools, each with so many slots of so many replicas.
pub fn map(epoch: u32, pools: &[(&str, u16, u16)]) -> ResolvedMap {
    let pools = pools.iter().enumerate().map(|(at, (tag, slots, replicas))| PoolDraft {
        tag: (*tag).to_owned(),
        slots: (0..*slots).map(|number| slot(at, number, *slots, *replicas)).collect(),
    });
    let mut draft = MapDraft {
        epoch: Epoch::new(epoch),
        cluster: 0xc1,
        slot_key: SlotKey::from_words((3, 4)),
        settings: vec![SETTINGS],
        namespace_pools: BTreeMap::new(),
        default_pool: "feed".to_owned(),
        pools: pools.collect(),
    };
    if draft.pools.iter().any(|pool| pool.tag == "push") {
        draft.namespace_pools.insert("push_sent".to_owned(), "push".to_owned());
    }
    resolve(SlotMap::new(draft).expect("a valid map"))
}

fn slot(pool: usize, number: u16, slots: u16, replicas: u16) -> Slot {
    let owned: VirtualSet =
        (0..VIRTUAL_SLOTS).filter(|at| at % slots == number).map(VirtualSlot::new).collect();
    let address = |replica: u16| format!("10.{pool}.{number}.{replica}:7430");
    let replica = |at: u16| ReplicaAddress { address: address(at), weight: 100 };
    let replicas = (0..replicas).map(replica).collect();
    Slot { number: SlotNumber::new(number), owned, replicas, ..Slot::default() }
}

/// The map with the addresses that stand in it.
pub fn resolve(map: SlotMap) -> ResolvedMap {
    let pools = map.pools().iter().map(|pool| {
        let slots = pool.slots().iter().map(|slot| {
            let replicas: Vec<ResolvedReplica> = slot.replicas.iter().map(resolved).collect();
            let weights = replicas.iter().map(|r| (r.name_hash, r.weight)).collect();
            ResolvedSlot { number: slot.number, replicas, weights }
        });
        ResolvedPool { pool: pool.clone(), slots: slots.collect() }
    });
    let pools = pools.collect();
    let revision = map.epoch.get().into();
    ResolvedMap { map: Arc::new(map), revision, pools }
}

fn resolved(replica: &ReplicaAddress) -> ResolvedReplica {
    ResolvedReplica {
        name: replica.address.as_str().into(),
        name_hash: name_hash(&replica.address),
        address: replica.address.parse().expect("an address"),
        weight: replica.weight,
    }
}

/// Who the map says is there.
pub fn target(map: &ResolvedMap, tag: &str, slot: usize, replica: usize) -> Target {
    let pool = map.pool(tag).expect("known");
    let slot = &pool.slots[slot];
    let replica = &slot.replicas[replica];
    Target {
        pool: tag.into(),
        slot: slot.number,
        name: replica.name.clone(),
        address: replica.address,
    }
}

/// Whoever is there says that.
pub fn identity(map: &ResolvedMap, target: &Target) -> v1::ReplicaIdentity {
    v1::ReplicaIdentity {
        incarnation: name_hash(&target.name),
        program: "test".to_owned(),
        cluster: map.map.cluster,
        pool: target.pool.to_string(),
        slot: target.slot.get().into(),
        hash_version: HASH_VERSION.into(),
        settings: SETTINGS,
        slot_key_check: map.map.key_check(),
    }
}

/// What a replica does with a request.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Answers at once.
    Answers,
    /// Answers at once, flagged for this reason.
    Flags(v1::DegradedReason),
    /// Answers after so long.
    After(Duration),
    /// Never answers.
    Silent,
    /// Answers with an error.
    Fails(ErrorKind),
    /// Takes none.
    Refuses(NotSent),
}

/// One lane of one replica.
pub struct FakeLink {
    pub target: Target,
    pub lane: LinkLane,
    pub events: Arc<dyn LinkEvents>,
    pub mode: Mutex<Mode>,
    /// False: it gives no sign of life.
    pub lives: AtomicBool,
    pub sent: Mutex<Vec<Outgoing>>,
    /// The bodies of what may have been done.
    pub done: Mutex<Vec<Bytes>>,
}

impl FakeLink {
    pub fn set(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }

    pub fn sent(&self) -> usize {
        self.sent.lock().len()
    }

    /// What was sent last.
    pub fn last(&self) -> Outgoing {
        self.sent.lock().last().cloned().expect("something was sent")
    }

    /// Stops the signs of life, and answers.
    pub fn freeze(&self) {
        self.lives.store(false, Ordering::Relaxed);
        self.set(Mode::Silent);
    }

    pub fn state(&self, ready: bool) {
        let state = v1::ReplicaState { ready, ..Default::default() };
        self.events.changed(LinkChange::State(state));
    }

    pub fn down(&self) {
        self.events.changed(LinkChange::Down("lost".to_owned()));
    }

    pub fn answer(&self, request: &Outgoing) {
        self.events.answered(request.id, Answer::Message(answer_to(request, None)));
    }
}

/// What a replica answers: all candidates are unread; users are answered in full.
fn answer_to(request: &Outgoing, flagged: Option<v1::DegradedReason>) -> Bytes {
    let quality = match flagged {
        None => Quality::Filtered { rate: 0.01 },
        Some(reason) => Quality::Degraded { rate: 0.0, reason, unknown: 1 },
    };
    match Call::from_number(request.call) {
        Some(Call::Filter) => {
            let mut out = Vec::new();
            encode_filter_response(&mut out, &Verdicts::first(1), &quality, b"t");
            out.into()
        }
        Some(Call::FilterUsers) => {
            let asked: v1::FilterUsersRequest = decode(request.body.clone()).expect("a question");
            let call = PushCall::try_from(asked).expect("valid");
            let mut rows = PushRows::new(&call);
            for (at, user) in call.users.iter().enumerate() {
                // The row tells whose it is.
                let bits = (0..call.items.len()).filter(|item| user.get() >> item & 1 == 1);
                rows.set(at, UserAnswer::Filtered, bits);
            }
            let result = v1::filter_users_response::Result::Users(rows.finish(quality));
            encode(&v1::FilterUsersResponse { request_id: 0, result: Some(result) })
        }
        _ => Bytes::from_static(b"done"),
    }
}

impl Link for FakeLink {
    fn submit(&self, request: &Outgoing) -> Result<(), NotSent> {
        let mode = self.mode.lock().clone();
        if let Mode::Refuses(why) = mode {
            return Err(why);
        }
        self.sent.lock().push(request.clone());
        if !matches!(mode, Mode::Fails(ErrorKind::Unavailable | ErrorKind::Overloaded)) {
            self.done.lock().push(request.body.clone());
        }
        let (id, events): (RequestId, _) = (request.id, self.events.clone());
        match mode {
            Mode::Answers => self.answer(request),
            Mode::Flags(reason) => {
                events.answered(id, Answer::Message(answer_to(request, Some(reason))));
            }
            Mode::After(delay) => {
                let answer = answer_to(request, None);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    events.answered(id, Answer::Message(answer));
                });
            }
            Mode::Fails(kind) => events.answered(id, Answer::Error(ApiError::new(kind, "no"))),
            Mode::Silent | Mode::Refuses(_) => {}
        }
        Ok(())
    }
}

/// All links that were made.
#[derive(Default)]
pub struct FakeNet {
    pub links: Mutex<Vec<Arc<FakeLink>>>,
}

impl FakeNet {
    /// The link of this lane to the replica with this name.
    pub fn link(&self, name: &str, lane: LinkLane) -> Arc<FakeLink> {
        let links = self.links.lock();
        let mut named = links.iter().rev().filter(|link| &*link.target.name == name);
        named.find(|link| link.lane == lane).cloned().expect("a link")
    }

    /// Opens all links that are not open yet, as `map` has them.
    pub fn all_up(&self, map: &ResolvedMap) {
        for link in self.all() {
            up(&link, map);
        }
    }

    pub fn all(&self) -> Vec<Arc<FakeLink>> {
        self.links.lock().clone()
    }

    /// Gives a sign of life of all that live.
    pub fn live(&self) {
        for link in self.all().iter().filter(|link| link.lives.load(Ordering::Relaxed)) {
            link.events.changed(LinkChange::Life);
        }
    }
}

/// Opens a link.
pub fn up(link: &FakeLink, map: &ResolvedMap) {
    let identity = identity(map, &link.target);
    let state = v1::ReplicaState { ready: true, ..Default::default() };
    link.events.changed(LinkChange::Up { identity, state, credit_bytes: 1 << 20 });
}

impl Connector for FakeNet {
    fn connect(
        &self,
        target: &Target,
        lane: LinkLane,
        events: Arc<dyn LinkEvents>,
    ) -> Arc<dyn Link> {
        let link = Arc::new(FakeLink {
            target: target.clone(),
            lane,
            events,
            mode: Mutex::new(Mode::Answers),
            lives: AtomicBool::new(true),
            sent: Mutex::new(Vec::new()),
            done: Mutex::new(Vec::new()),
        });
        self.links.lock().push(link.clone());
        link
    }
}
