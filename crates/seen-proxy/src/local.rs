//! A replica in the same process: the same proxy, the same interface, and no socket.
//!
//! A request goes as it would go over a link, with all that stands around it; the replica reads that by the code that reads
//! what comes over sockets. Such a replica is as alive as whoever asks it, and there is no other one: it is never silent, never left
//! out, and nobody is moved away from it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use seen_api::Reply;
use seen_api::reply::unanswered;
use seen_cluster::link::{Answer, Link, LinkChange, LinkEvents, NotSent, Outgoing, RequestId};
use seen_cluster::map::{
    Epoch, MapDraft, MapError, PoolDraft, ReplicaAddress, ResolvedMap, ResolvedPool,
    ResolvedReplica, ResolvedSlot, Slot, SlotMap, SlotNumber, name_hash,
};
use seen_filter::{SlotKey, VirtualSet};
use seen_proto::status::ApiError;
use seen_proto::v1::{self, LinkLane};

use crate::directory::Connector;
use crate::replica::Target;

/// More than any replica takes at once: there is no wire whose credit could be spent.
const CREDIT_BYTES: u64 = u64::MAX;
/// The replica's name in the map and in the metrics. It has no address.
const NAME: &str = "local";
/// What stands in its place in a map, where there must be an address.
const ADDRESS: &str = "local:1";
const WEIGHT: u16 = 100;

/// Makes links to the replica of this process, whatever the map's address says.
pub struct LocalConnector<A> {
    /// Who the replica is.
    pub identity: v1::ReplicaIdentity,
    /// Answers a request, at once or later, as the replica's end of a link does.
    pub answer: A,
}

impl<A> Connector for LocalConnector<A>
where
    A: Fn(&Outgoing, Box<dyn Reply>) + Clone + Send + Sync + 'static,
{
    fn connect(
        &self,
        _target: &Target,
        _lane: LinkLane,
        events: Arc<dyn LinkEvents>,
    ) -> Arc<dyn Link> {
        // Whoever ends sees to it that what comes until then is answered.
        let state = v1::ReplicaState { ready: true, ..Default::default() };
        let identity = self.identity.clone();
        events.changed(LinkChange::Up { identity, state, credit_bytes: CREDIT_BYTES });
        Arc::new(LocalLink { answer: self.answer.clone(), events })
    }
}

/// The map of a process that is alone: one replica, which owns everybody.
///
/// # Errors
/// The identity's pool is no tag, or it has no cluster.
pub fn map_of_one(
    identity: &v1::ReplicaIdentity,
    slot_key: SlotKey,
) -> Result<ResolvedMap, MapError> {
    let number = SlotNumber::default();
    let slot = Slot {
        number,
        owned: VirtualSet::ALL,
        replicas: vec![ReplicaAddress { address: ADDRESS.to_owned(), weight: WEIGHT }],
        ..Slot::default()
    };
    let map = SlotMap::new(MapDraft {
        epoch: Epoch::new(1),
        cluster: identity.cluster,
        slot_key,
        settings: vec![identity.settings],
        namespace_pools: Default::default(),
        default_pool: identity.pool.clone(),
        pools: vec![PoolDraft { tag: identity.pool.clone(), slots: vec![slot] }],
    })?;
    let resolved = |pool: &Arc<_>| {
        let (name_hash, address) = (name_hash(NAME), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let replica = ResolvedReplica { name: NAME.into(), name_hash, address, weight: WEIGHT };
        let weights = vec![(name_hash, WEIGHT)];
        let slots = vec![ResolvedSlot { number, replicas: vec![replica], weights }];
        ResolvedPool { pool: Arc::clone(pool), slots }
    };
    let pools = map.pools().iter().map(resolved).collect();
    Ok(ResolvedMap { map: Arc::new(map), revision: 1, pools })
}

struct LocalLink<A> {
    answer: A,
    events: Arc<dyn LinkEvents>,
}

impl<A: Fn(&Outgoing, Box<dyn Reply>) + Send + Sync> Link for LocalLink<A> {
    fn submit(&self, request: &Outgoing) -> Result<(), NotSent> {
        let reply = LocalReply { id: request.id, events: Some(self.events.clone()) };
        (self.answer)(request, Box::new(reply));
        Ok(())
    }

    fn is_local(&self) -> bool {
        true
    }
}

struct LocalReply {
    id: RequestId,
    /// Taken once it is answered, or nobody waits.
    events: Option<Arc<dyn LinkEvents>>,
}

impl LocalReply {
    fn tell(&mut self, answer: Answer) {
        if let Some(events) = self.events.take() {
            events.answered(self.id, answer);
        }
    }
}

impl Reply for LocalReply {
    fn send(mut self: Box<Self>, answer: Result<Bytes, ApiError>) {
        self.tell(answer.map_or_else(Answer::Error, Answer::Message));
    }

    fn poll_abandoned(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(events) = &self.events else { return Poll::Ready(()) };
        let over = events.poll_abandoned(self.id, cx);
        if over.is_ready() {
            self.events = None;
        }
        over
    }
}

impl Drop for LocalReply {
    /// Whoever dropped it will not answer.
    fn drop(&mut self) {
        self.tell(Answer::Error(unanswered()));
    }
}

#[cfg(test)]
mod tests;
