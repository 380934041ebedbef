//! The proxy of one serving thread: calls in, requests out, answers back.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use seen_api::{Call, CallMeta, Calls, Reply, Tracer};
use seen_cluster::link::{Answer, LinkChange, LinkEvents, RequestId};
use seen_cluster::map::{Epoch, MapHandle, ResolvedMap};
use seen_filter::Tick;
use seen_proto::status::ApiError;
use seen_proto::v1;
use seen_proto::wire::RouteCall;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::directory::Connector;
use crate::flight::{Effect, Effects, Sink};
use crate::health::Health;
use crate::limit::Class;
use crate::options::{Clock, ProxyOptions};
use crate::replica::{Lane, Replica, ReplicaId};
use crate::route;
use crate::spans::Asked;
use crate::state::{Ask, State};

/// A look that comes later than this was held up by this process, not by the replicas.
const LATE_US: u64 = 10_000;

/// The proxy of one serving thread. Clones are the same one.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    clock: Clock,
    tracer: Tracer,
    /// Something is due sooner than it is looked at.
    wake: Notify,
    map: Arc<MapHandle>,
    connector: Arc<dyn Connector>,
}

impl Proxy {
    /// A proxy that knows nobody yet: see [`run`](Self::run).
    pub fn new(
        options: ProxyOptions,
        clock: Clock,
        map: Arc<MapHandle>,
        connector: Arc<dyn Connector>,
    ) -> Self {
        let tracer = options.tracer.clone();
        let state = Mutex::new(State::new(options, clock.now()));
        let wake = Notify::new();
        Self { shared: Arc::new(Shared { state, clock, tracer, wake, map, connector }) }
    }

    /// Connects to the replicas of the map. [`run`](Self::run) does so, too; whoever calls before it finds them by this. To be
    /// called on the thread whose calls it answers.
    pub fn connect(&self) {
        let (map, state) = (self.shared.map.current(), self.shared.state.lock());
        let known = state.net.table.as_ref().map(|table| table.resolved.revision);
        drop(state);
        if known != Some(map.revision) {
            self.shared.follow(map);
        }
    }

    /// Connects to the replicas of the map, follows its changes, and looks at what is due. To be run on the thread whose
    /// calls it answers; never ends.
    pub async fn run(self) {
        let shared = &self.shared;
        let mut revisions = shared.map.revisions();
        revisions.mark_unchanged();
        self.connect();
        let tick = shared.state.lock().net.options.tick();
        let mut tick_at = Instant::now() + tick;
        let mut published = true;
        loop {
            let next = shared.next_look(tick_at);
            tokio::select! {
                biased;
                changed = revisions.changed(), if published => match changed {
                    Ok(()) => shared.follow(shared.map.current()),
                    // Whoever published maps is gone: the last one stays.
                    Err(_) => published = false,
                },
                () = shared.wake.notified() => {}
                () = sleep_until(next) => {
                    shared.sweep();
                    let now = Instant::now();
                    if now >= tick_at {
                        let late = now - tick_at;
                        tick_at = now + tick;
                        shared.tick(late.as_micros() as u64);
                    }
                }
            }
        }
    }

    /// The replicas that it knows, as the admin service shows them.
    pub fn replicas(&self) -> Vec<v1::ReplicaView> {
        let now = self.shared.clock.now();
        let state = self.shared.state.lock();
        let replicas = state.net.replicas.iter().flatten();
        replicas.filter(|replica| replica.retires.is_none()).map(|r| r.view(now)).collect()
    }

    /// The epoch of the map that it routes by; 0 = none yet.
    pub fn epoch(&self) -> Epoch {
        let state = self.shared.state.lock();
        state.net.table.as_ref().map_or(Epoch::default(), |table| table.resolved.map.epoch)
    }

    /// True if any replica answers, if only because nobody else does. A pool without one is no reason to send nobody here: the
    /// others' users would suffer for it.
    pub fn is_ready(&self) -> bool {
        let now = self.shared.clock.now();
        let state = self.shared.state.lock();
        let unready = |replica: &Replica| replica.heard.health(now) == Health::Unready;
        let answers = |replica: &Replica| replica.serves || unready(replica);
        let serves = |id: &ReplicaId| state.net.replica(*id).is_some_and(answers);
        state.net.table.as_ref().is_some_and(|table| {
            table
                .pools
                .iter()
                .flat_map(|pool| &pool.slots)
                .flat_map(|slot| &slot.replicas)
                .any(serves)
        })
    }

    /// True once every replica of the map was connected to, or could not be: until then nobody knows whom there is to ask, and
    /// a call would be answered that no replica can be reached.
    pub fn has_tried_all(&self) -> bool {
        let state = self.shared.state.lock();
        let mut replicas = state.net.replicas.iter().flatten();
        state.net.table.is_some() && replicas.all(|replica| replica.tried == [true, true])
    }

    /// How many requests are under way.
    pub fn in_flight(&self) -> usize {
        self.shared.state.lock().in_flight()
    }
}

impl Calls for Proxy {
    fn call(&self, call: Call, meta: &CallMeta, body: Bytes, reply: Box<dyn Reply>) {
        let shared = &self.shared;
        let now = shared.clock.now();
        let span = shared.tracer.server(call, meta.trace.as_ref());
        let reply = span.with_reply(reply);
        let asked = Asked { call, meta, span: &span };
        asked.describe(&body);
        let mut out = Effects::new();
        let begun = match call {
            Call::FilterUsers => shared.state.lock().begin_users(now, asked, body, reply, &mut out),
            _ => shared.begin(now, asked, body, reply, &mut out),
        };
        match begun {
            Ok(()) => shared.run(out),
            Err((error, reply)) => {
                self.refused(&error);
                reply.send(Err(error));
            }
        }
    }

    fn refused(&self, error: &ApiError) {
        self.shared.state.lock().net.metrics.error(error.kind);
    }
}

impl Shared {
    fn begin(
        &self,
        now: Tick,
        asked: Asked<'_>,
        body: Bytes,
        reply: Box<dyn Reply>,
        out: &mut Effects,
    ) -> Result<(), (ApiError, Box<dyn Reply>)> {
        let Asked { call, meta, .. } = asked;
        let Some(shape) = route::shape(call) else { return Err((route::no_map(), reply)) };
        let routed = RouteCall::parse(shape, &body);
        let mut state = self.state.lock();
        let routed = match routed {
            Ok(routed) => routed,
            // Whoever answers for everybody says what is wrong with it.
            Err(_) if state.net.only_place().is_some() => route::ANYBODY,
            Err(error) => return Err((error.into(), reply)),
        };
        let found = (|| {
            let table = state.net.table.as_ref().ok_or_else(route::no_map)?;
            let pool = route::pool(&table.resolved, &meta.tag, routed.namespace)?;
            let user_hash = table.resolved.map.slot_key.user_hash(routed.user);
            let place = state.net.place(pool, user_hash).ok_or_else(route::no_map)?;
            let tag = table.pools.get(pool).map(|pool| pool.tag.clone());
            Ok((place, tag.ok_or_else(route::no_map)?))
        })();
        let has_token = routed.has_token;
        let (place, tag) = match found {
            Ok(found) => found,
            Err(error) => return Err((error, reply)),
        };
        let class = Class::of(call, &tag);
        if let Err(error) = state.admit(now, class, &tag, 1, 1) {
            return Err((error, reply));
        }
        let ask = Ask {
            call,
            body,
            timeout_us: meta.timeout_us,
            spans: asked.spans(&tag),
            has_token,
            group_moved: None,
            place,
            tag,
            class,
            cost: 1,
        };
        state.begin(now, ask, Sink::Caller(reply), out);
        Ok(())
    }

    /// Does what is to be done. Nothing is locked meanwhile: a link may answer at once, and whoever is answered may call.
    fn run(&self, mut effects: Effects) {
        while !effects.is_empty() {
            let mut more = Effects::new();
            for effect in effects {
                match effect {
                    Effect::Send(link, request, replica) => {
                        if let Err(why) = link.submit(&request) {
                            let now = self.clock.now();
                            let mut state = self.state.lock();
                            state.not_sent(now, replica, request.id.0, why, &mut more);
                        }
                    }
                    Effect::Finish(Sink::Caller(reply), answer) => reply.send(answer),
                    Effect::Finish(Sink::Part(gather, users), answer) => {
                        gather.part(&users, answer)
                    }
                    Effect::Look => {
                        if self.state.lock().wants_look() {
                            self.wake.notify_one();
                        }
                    }
                }
            }
            effects = more;
        }
    }

    /// When to look at what is due, if nobody wakes the task before.
    fn next_look(&self, by: Instant) -> Instant {
        let by_us = self.clock.tick(by);
        let next = self.state.lock().next_look(by_us);
        if next == by_us { by } else { self.clock.instant(next) }
    }

    fn sweep(&self) {
        let mut out = Effects::new();
        self.state.lock().sweep(self.clock.now(), &mut out);
        self.run(out);
    }

    fn tick(&self, late_us: u64) {
        let now = self.clock.now();
        let late_us = if late_us >= LATE_US { late_us } else { 0 };
        let mut state = self.state.lock();
        state.tick(now, late_us);
        let gone = state.net.retire(now);
        drop(state);
        // Links are closed with nothing locked: they may tell of it.
        drop(gone);
    }

    fn follow(self: &Arc<Self>, map: Arc<ResolvedMap>) {
        let epoch = map.map.epoch.get();
        let opened = self.state.lock().net.follow(self.clock.now(), map);
        tracing::info!(epoch, links = opened.len(), "the proxy follows another map");
        for (replica, target) in opened {
            for lane in Lane::ALL {
                let events = Events { proxy: Arc::downgrade(self), replica, lane };
                let link = self.connector.connect(&target, lane.wire(), Arc::new(events));
                self.state.lock().net.opened(replica, lane, link);
            }
        }
    }
}

/// What one link tells.
struct Events {
    proxy: Weak<Shared>,
    replica: ReplicaId,
    lane: Lane,
}

impl LinkEvents for Events {
    fn answered(&self, id: RequestId, answer: Answer) {
        let Some(proxy) = self.proxy.upgrade() else { return };
        let mut out = Effects::new();
        let now = proxy.clock.now();
        proxy.state.lock().answered(now, self.replica, id.0, answer, &mut out);
        proxy.run(out);
    }

    fn changed(&self, change: LinkChange) {
        let Some(proxy) = self.proxy.upgrade() else { return };
        let mut out = Effects::new();
        let now = proxy.clock.now();
        proxy.state.lock().changed(now, self.replica, self.lane, change, &mut out);
        proxy.run(out);
    }

    fn poll_abandoned(&self, id: RequestId, cx: &mut Context<'_>) -> Poll<()> {
        let Some(proxy) = self.proxy.upgrade() else { return Poll::Ready(()) };
        let now = proxy.clock.now();
        let over = proxy.state.lock().poll_abandoned(now, self.replica, id.0, cx);
        // Whoever waited is dropped with nothing locked.
        over.map(drop)
    }
}
