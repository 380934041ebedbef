//! Rule R4 beneath the hot front: whoever leaves does not stop the mark that was begun.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use seen_api::{Call, CallMeta, Calls, Reply};
use seen_filter::{Domain, Incarnation, NamespaceId, NamespaceSettings, UnixMillis};
use seen_proto::message::{decode, encode};
use seen_proto::v1;
use seen_replica::{Replica, ReplicaCalls, ReplicaLimits, ReplicaOptions, StorageLimits};
use seen_server::serving::{Front, Served};
use seen_server::shutdown::Stop;
use seen_store::memory::{MemoryOptions, WriteFault};
use seen_store::{MemoryStore, StorageClock};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tonic::service::Routes;

use super::cases::{FILTER, MARK};
use super::stage::options;
use super::wire::{Ask, Wire, ask, framed};
use super::{HANG, WIDE};

const READ: &str = "feed_read";
/// Bytes before a message.
const PREFIX_BYTES: usize = 5;

/// A replica's calls, and how many marks were begun.
#[derive(Clone)]
struct Noted {
    calls: ReplicaCalls,
    marks: Arc<watch::Sender<usize>>,
}

impl Calls for Noted {
    fn call(&self, call: Call, meta: &CallMeta, body: Bytes, reply: Box<dyn Reply>) {
        self.calls.call(call, meta, body, reply);
        if call == Call::Mark {
            self.marks.send_modify(|marks| *marks += 1);
        }
    }
}

impl Served for Noted {
    type Calls = Self;
    type Others = Routes;
    type Body = tonic::body::Body;

    fn calls(&self) -> &Self {
        self
    }

    fn others(&self) -> Routes {
        Routes::default()
    }
}

/// A replica over this store, which follows it.
async fn replica(store: &MemoryStore, stopped: watch::Receiver<bool>) -> Arc<Replica> {
    let options = ReplicaOptions {
        namespaces: vec![NamespaceSettings::new(NamespaceId::new(0), READ)],
        key: store.hash_key(),
        cluster: 77,
        incarnation: Incarnation::new(1),
        history: Arc::new(store.clone()),
        feed: Arc::new(store.clone()),
        limits: ReplicaLimits::default(),
        storage: StorageLimits::default(),
    };
    let (replica, work) = Replica::new(options).expect("in range");
    tokio::spawn(work.run(Arc::clone(&replica), stopped));
    until(|| replica.following_all()).await;
    replica
}

async fn until(is: impl Fn() -> bool) {
    let mut looks = interval(Duration::from_millis(1));
    let all = async {
        while !is() {
            looks.tick().await;
        }
    };
    timeout(HANG, all).await.expect("it never comes true");
}

fn patient(path: &'static str, message: &[u8]) -> Ask {
    ask(path, [framed(0, message)]).with("grpc-timeout", b"50S")
}

/// The unread ones of two items.
async fn unread(wire: &mut Wire) -> Vec<u32> {
    let candidates = vec![v1::ItemGroup { kind: 1, ids: vec![10, 11] }];
    let namespaces = vec![READ.to_owned()];
    let request = v1::FilterRequest { user: 7, namespaces, candidates, ..Default::default() };
    let told = wire.told(&patient(FILTER, &encode(&request))).await.expect("answered");
    let answer: v1::FilterResponse = decode(told.body.slice(PREFIX_BYTES..)).expect("an answer");
    answer.unseen
}

#[tokio::test]
async fn a_mark_whose_caller_leaves_is_written() {
    let clock = StorageClock::new(|| UnixMillis::new(1_000_000));
    let memory =
        MemoryOptions { partitions: 2, domain: Domain::new(0), ..MemoryOptions::new(clock, 7) };
    let settings = vec![NamespaceSettings::new(NamespaceId::new(0), READ)];
    let store = MemoryStore::new(memory, settings).expect("in range");
    let (_stop, stopped) = watch::channel(false);
    let replica = replica(&store, stopped).await;
    let (marks, mut begun) = watch::channel(0);
    let calls = ReplicaCalls::new(Arc::clone(&replica));
    let noted = Noted { calls, marks: Arc::new(marks) };
    let front = Front::start(options(), move |_| noted.clone()).await.expect("it starts");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let stop = Stop::default();
    let served = tokio::spawn(front.serve(listener, stop.requested_within()));
    let mut wire = Wire::connect(address, WIDE).await;
    assert_eq!(unread(&mut wire).await, [0, 1]);

    store.fail_writes(WriteFault::Silent, None);
    let items = vec![v1::MarkItem { kind: 1, id: 10, marked_at_ms: None }];
    let namespace = READ.to_owned();
    let request = encode(&v1::MarkRequest { user: 7, namespace, items, ..Default::default() });
    let (_reply, mut stream) = wire.send(&patient(MARK, &request)).await.expect("open");
    timeout(HANG, begun.wait_for(|marks| *marks == 1)).await.expect("begun").expect("open");
    stream.send_reset(Reason::CANCEL);
    until(|| replica.calls_running() == 0).await;
    store.heal();
    let written = async { while unread(&mut wire).await != [1] {} };
    timeout(HANG, written).await.expect("it is written all the same");
    drop(wire);
    stop.request();
    served.await.expect("no panic");
}
