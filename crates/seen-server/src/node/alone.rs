//! A process that is alone: the proxy of each serving thread, and the replica behind all of them, without a socket in between.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use seen_api::{Call, CallMeta, Calls, Reply};
use seen_cluster::link::Outgoing;
use seen_cluster::map::{MapError, MapHandle};
use seen_filter::SlotKey;
use seen_proto::status::ApiError;
use seen_proxy::{Clock, Connector, LocalConnector, Proxy, ProxyOptions, map_of_one};
use seen_replica::{Replica, ReplicaCalls};

/// What the proxies of all threads share.
pub struct Alone {
    map: Arc<MapHandle>,
    connector: Arc<dyn Connector>,
    options: ProxyOptions,
    clock: Clock,
    replica: ReplicaCalls,
}

impl Alone {
    /// Proxies to this replica, whose pool has this tag.
    ///
    /// # Errors
    /// The pool is no tag, or the replica has no cluster.
    pub fn new(
        replica: &Arc<Replica>,
        slot_key: SlotKey,
        pool: &str,
        options: ProxyOptions,
    ) -> Result<Self, MapError> {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        let identity = replica.identity(pool.to_owned(), 0, program);
        let (_publisher, map) = MapHandle::new(map_of_one(&identity, slot_key)?);
        let replica = ReplicaCalls::new(Arc::clone(replica)).traced(options.tracer.clone());
        let asked = replica.clone();
        let answer = move |request: &Outgoing, reply: Box<dyn Reply>| asked.answer(request, reply);
        let connector = Arc::new(LocalConnector { identity, answer });
        // The replica's queues are the limit on what waits.
        let options = ProxyOptions { limit_adapts: false, ..options };
        Ok(Self { map, connector, options, clock: Clock::start(), replica })
    }

    /// Who answers the calls of one more thread. To be called in its runtime.
    pub fn calls(&self) -> AloneCalls {
        let options = ProxyOptions { incarnation: rand::random(), ..self.options.clone() };
        let (map, connector) = (Arc::clone(&self.map), Arc::clone(&self.connector));
        let proxy = Proxy::new(options, self.clock, map, connector);
        // At once: a call may come before the task runs.
        proxy.connect();
        tokio::spawn(proxy.clone().run());
        AloneCalls { proxy, replica: self.replica.clone() }
    }
}

/// Who answers the calls of one thread.
#[derive(Clone)]
pub struct AloneCalls {
    proxy: Proxy,
    replica: ReplicaCalls,
}

impl AloneCalls {
    /// The thread's proxy, for looking at.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }
}

impl Calls for AloneCalls {
    fn call(&self, call: Call, meta: &CallMeta, body: Bytes, reply: Box<dyn Reply>) {
        self.proxy.call(call, meta, body, reply);
    }

    fn refused(&self, error: &ApiError) {
        self.replica.refused(error);
    }

    fn stream_begins(&self) -> Option<Box<dyn Any + Send>> {
        self.replica.stream_begins()
    }
}
