//! A replica in the same process: the same proxy, the same interface, and no socket.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use seen_api::{Call, CallMeta, Calls, Reply, TraceContext};
use seen_cluster::link::{Answer, Link, LinkChange, LinkEvents, NotSent, Outgoing, RequestId};
use seen_proto::status::ApiError;
use seen_proto::v1::{self, LinkLane};

use crate::directory::Connector;
use crate::replica::Target;

/// How often a sign of life is given.
const LIFE: Duration = Duration::from_millis(20);
/// More than any replica takes at once: there is no wire whose credit could be spent.
const CREDIT_BYTES: u64 = u64::MAX;

/// Makes links to a replica of the same process, whatever the map's address says.
pub struct LocalConnector<C> {
    /// The replica.
    pub calls: C,
    /// Who it is.
    pub identity: v1::ReplicaIdentity,
    /// How it fares; asked now and then.
    pub state: Arc<dyn Fn() -> v1::ReplicaState + Send + Sync>,
}

impl<C: Calls> Connector for LocalConnector<C> {
    fn connect(
        &self,
        _target: &Target,
        _lane: LinkLane,
        events: Arc<dyn LinkEvents>,
    ) -> Arc<dyn Link> {
        let link = Arc::new(LocalLink { calls: self.calls.clone(), events: events.clone() });
        let alive = Arc::downgrade(&link);
        let (identity, state) = (self.identity.clone(), self.state.clone());
        tokio::spawn(live(alive, events, identity, state));
        link
    }
}

/// Tells how the replica fares, until its link is dropped.
async fn live<C>(
    alive: Weak<LocalLink<C>>,
    events: Arc<dyn LinkEvents>,
    identity: v1::ReplicaIdentity,
    state: Arc<dyn Fn() -> v1::ReplicaState + Send + Sync>,
) {
    let up = LinkChange::Up { identity, state: state(), credit_bytes: CREDIT_BYTES };
    events.changed(up);
    while alive.strong_count() > 0 {
        tokio::time::sleep(LIFE).await;
        events.changed(LinkChange::State(state()));
    }
}

struct LocalLink<C> {
    calls: C,
    events: Arc<dyn LinkEvents>,
}

impl<C: Calls> Link for LocalLink<C> {
    fn submit(&self, request: &Outgoing) -> Result<(), NotSent> {
        let Some(call) = Call::from_number(request.call) else { return Err(NotSent::Closed) };
        let meta = CallMeta {
            timeout_us: request.timeout_us.into(),
            trace: request.trace.map(trace_of),
            ..CallMeta::default()
        };
        let reply = LocalReply { id: request.id, events: Some(self.events.clone()) };
        self.calls.call(call, &meta, request.body.clone(), Box::new(reply));
        Ok(())
    }
}

fn trace_of(bytes: [u8; seen_cluster::link::message::TRACE_BYTES]) -> TraceContext {
    let mut trace = TraceContext { trace_id: [0; 16], span_id: [0; 8], flags: 0 };
    let (trace_id, rest) = bytes.split_at(trace.trace_id.len());
    let (span_id, flags) = rest.split_at(trace.span_id.len());
    trace.trace_id.copy_from_slice(trace_id);
    trace.span_id.copy_from_slice(span_id);
    trace.flags = flags.first().copied().unwrap_or_default();
    trace
}

struct LocalReply {
    id: RequestId,
    /// Taken once it is answered.
    events: Option<Arc<dyn LinkEvents>>,
}

impl Reply for LocalReply {
    fn send(mut self: Box<Self>, answer: Result<Bytes, ApiError>) {
        if let Some(events) = self.events.take() {
            let answer = answer.map_or_else(Answer::Error, Answer::Message);
            events.answered(self.id, answer);
        }
    }
}

impl Drop for LocalReply {
    /// Whoever dropped it will not answer.
    fn drop(&mut self) {
        if let Some(events) = self.events.take() {
            let kind = seen_proto::status::ErrorKind::Internal;
            events.answered(self.id, Answer::Error(ApiError::new(kind, "the call was dropped")));
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use seen_cluster::map::MapHandle;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{Clock, Proxy, ProxyOptions, fake};

    /// Answers with what it was asked, and drops Marks.
    #[derive(Clone)]
    struct Echo;

    impl Calls for Echo {
        fn call(&self, call: Call, meta: &CallMeta, body: Bytes, reply: Box<dyn Reply>) {
            assert!(meta.timeout_us > 0);
            assert_eq!(meta.trace, Some(TRACE));
            if call != Call::Mark {
                reply.send(Ok(body));
            }
        }
    }

    const TRACE: TraceContext = TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: 1 };

    struct Once(Mutex<Option<oneshot::Sender<Result<Bytes, ApiError>>>>);

    impl Reply for Once {
        fn send(self: Box<Self>, answer: Result<Bytes, ApiError>) {
            if let Some(sender) = self.0.lock().take() {
                let _ = sender.send(answer);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_of_the_same_process_answers() {
        let map = fake::map(1, &[("feed", 1, 1)]);
        let identity = fake::identity(&map, &fake::target(&map, "feed", 0, 0));
        let state = || v1::ReplicaState { ready: true, ..Default::default() };
        let connector = LocalConnector { calls: Echo, identity, state: Arc::new(state) };
        let (_publisher, handle) = MapHandle::new(map);
        let options = ProxyOptions::new(1);
        let proxy = Proxy::new(options, Clock::start(), handle, Arc::new(connector));
        let task = tokio::spawn(proxy.clone().run());
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(proxy.is_ready());
        assert_eq!(proxy.replicas().iter().filter(|view| view.state == "up").count(), 1);
        let ask = async |call| {
            let (sender, answer) = oneshot::channel();
            let reply = Box::new(Once(Mutex::new(Some(sender))));
            let meta = CallMeta { timeout_us: 90_000, trace: Some(TRACE), ..CallMeta::default() };
            proxy.call(call, &meta, Bytes::new(), reply);
            answer.await.expect("answered")
        };
        assert_eq!(ask(Call::History).await, Ok(Bytes::new()));
        assert!(ask(Call::Mark).await.is_err(), "dropped without an answer");
        task.abort();
    }
}
