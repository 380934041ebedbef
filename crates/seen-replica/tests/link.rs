//! A replica behind the link, without sockets, on paused time: what is asked over it, how the replica says it fares, and users taken
//! from a peer over it.

#[allow(dead_code, reason = "each test uses its part")]
mod stage;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use seen_api::Call;
use seen_cluster::link::transfer::TransferClient;
use seen_cluster::link::{
    Answer, ClientOptions, Connector, Cut, Flags, Link, LinkChange, LinkClient, LinkEvents, Moved,
    Outgoing, RequestId, ServerOptions, Socket, VERSION_MAX, VERSION_MIN, serve,
};
use seen_cluster::map::key_check;
use seen_filter::{HASH_VERSION, VirtualSet};
use seen_proto::message::{decode, encode};
use seen_proto::status::ErrorKind;
use seen_proto::v1::{self, LinkLane};
use seen_replica::link::readiness::{PeerState, ReadinessLimits, Unready};
use seen_replica::link::{ClusterRole, LinkPeer, ReplicaLink, Standing};
use seen_replica::warm::{
    BytesSource, DonorLimits, Donors, End, EndKind, FrameKind, FrameSink, FrameSource, Progress,
    WarmupOptions, ask, push, warm_up,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep};

use stage::{KIND, Node, READ, store, until};

/// A replica that serves the link.
#[derive(Clone)]
struct Served {
    service: Arc<ReplicaLink>,
    standing: Arc<Standing>,
}

impl Served {
    fn new(node: &Node) -> Self {
        let standing = Arc::new(Standing::new(Arc::clone(&node.replica)));
        let role = ClusterRole {
            pool: "feed".to_owned(),
            slot: 3,
            program: "test".to_owned(),
            credit_bytes: 1 << 20,
            donor: DonorLimits::default(),
        };
        Self { service: Arc::new(ReplicaLink::new(Arc::clone(&standing), role)), standing }
    }

    /// Looks at itself from now on; it is warm, and has these peers.
    fn kept(&self, peers: Vec<PeerState>) -> JoinHandle<()> {
        let standing = Arc::clone(&self.standing);
        tokio::spawn(async move {
            let limits = ReadinessLimits::default();
            standing.keep(limits, &Progress::none(), move || peers.clone()).await;
        })
    }

    fn hello(&self, lane: LinkLane) -> v1::LinkHello {
        let replica = self.standing.replica();
        v1::LinkHello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            cluster: 77,
            pool: "feed".to_owned(),
            slot: 3,
            slot_known: true,
            hash_version: u32::from(HASH_VERSION),
            slot_key_check: key_check(&store().hash_key().slot_key()),
            settings: vec![replica.settings_digest()],
            map_epoch: 1,
            lane: lane.into(),
            incarnation: 50,
            program: "test".to_owned(),
        }
    }

    fn options(&self, hello: v1::LinkHello) -> ClientOptions {
        ClientOptions::new("", Arc::new(move || hello.clone()))
    }
}

impl Connector for Served {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Socket>, Cut>> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let service = Arc::clone(&self.service);
        tokio::spawn(async move {
            // How it ended is the client's business.
            let _ = serve(far, &*service, &ServerOptions::default(), std::future::pending()).await;
        });
        Box::pin(async move {
            let near: Box<dyn Socket> = Box::new(near);
            Ok(near)
        })
    }
}

/// What came back.
struct Heard {
    answers: mpsc::UnboundedSender<(RequestId, Answer)>,
    changes: Arc<Mutex<Vec<LinkChange>>>,
}

impl LinkEvents for Heard {
    fn answered(&self, id: RequestId, answer: Answer) {
        // The test may be over.
        let _ = self.answers.send((id, answer));
    }

    fn changed(&self, change: LinkChange) {
        self.changes.lock().push(change);
    }
}

/// A connection to a replica.
struct Caller {
    client: LinkClient,
    answers: mpsc::UnboundedReceiver<(RequestId, Answer)>,
    changes: Arc<Mutex<Vec<LinkChange>>>,
    next: u64,
}

impl Caller {
    fn hello(served: &Served, hello: v1::LinkHello) -> Self {
        let (answers, answered) = mpsc::unbounded_channel();
        let changes: Arc<Mutex<Vec<LinkChange>>> = Arc::default();
        let events = Arc::new(Heard { answers, changes: Arc::clone(&changes) });
        let client = LinkClient::start_over(served.clone(), served.options(hello), events);
        Self { client, answers: answered, changes, next: 0 }
    }

    async fn connect(served: &Served) -> Self {
        let caller = Self::hello(served, served.hello(LinkLane::Filters));
        until(|| caller.client.credit_bytes() > 0).await;
        caller
    }

    async fn ask(&mut self, call: u8, body: Bytes, change: impl FnOnce(&mut Outgoing)) -> Answer {
        self.next += 1;
        let id = RequestId(self.next);
        let mut request = Outgoing {
            id,
            call,
            timeout_us: 1_000_000,
            epoch: 1,
            flags: Flags::default(),
            moved: None,
            trace: None,
            body,
        };
        change(&mut request);
        self.client.submit(&request).expect("sent");
        let (answered, answer) = self.answers.recv().await.expect("answered");
        assert_eq!(answered, id);
        answer
    }

    async fn call(&mut self, call: Call, body: Bytes) -> Bytes {
        match self.ask(call as u8, body, |_| ()).await {
            Answer::Message(body) => body,
            Answer::Error(error) => panic!("{error:?}"),
        }
    }
}

fn filter(user: u64) -> Bytes {
    encode(&v1::FilterRequest {
        user,
        namespaces: vec![READ.to_owned()],
        candidates: vec![v1::ItemGroup { kind: KIND, ids: (0..4).collect() }],
        ..Default::default()
    })
}

fn mark(user: u64, id: u64) -> Bytes {
    let items = vec![v1::MarkItem { kind: KIND, id, marked_at_ms: None }];
    encode(&v1::MarkRequest { user, namespace: READ.to_owned(), items, token: Vec::new() })
}

fn unread(answer: Answer) -> Vec<u32> {
    let Answer::Message(body) = answer else { panic!("{answer:?}") };
    let answer: v1::FilterResponse = decode(body).expect("a response");
    assert_ne!(answer.quality.expect("always present").level(), v1::QualityLevel::Degraded);
    answer.unseen
}

#[tokio::test(start_paused = true)]
async fn every_call_is_answered() {
    let store = store();
    let node = Node::open(&store, 1).await;
    let served = Served::new(&node);
    let mut caller = Caller::connect(&served).await;
    let marked: v1::MarkResponse =
        decode(caller.call(Call::Mark, mark(7, 1)).await).expect("a response");
    assert!(!marked.token.is_empty());
    for _ in 0..2 {
        let answer = caller.ask(Call::Filter as u8, filter(7), |_| ()).await;
        assert_eq!(unread(answer), [0, 2, 3]);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(node.replica.users(), 1);

    let listed = v1::HistoryRequest { user: 7, namespace: READ.to_owned(), ..Default::default() };
    let listed: v1::HistoryResponse =
        decode(caller.call(Call::History, encode(&listed)).await).expect("a response");
    assert_eq!(listed.rows.len(), 1);
    let why = v1::ExplainRequest {
        user: 7,
        namespace: READ.to_owned(),
        kind: KIND,
        id: 1,
        token: Vec::new(),
    };
    decode::<v1::ExplainResponse>(caller.call(Call::Explain, encode(&why)).await).expect("told");
    let pushed = v1::FilterUsersRequest {
        request_id: 5,
        namespaces: vec![READ.to_owned()],
        items: vec![v1::ItemGroup { kind: KIND, ids: vec![1, 2] }],
        users: vec![7, 8],
        ..Default::default()
    };
    let pushed: v1::FilterUsersResponse =
        decode(caller.call(Call::FilterUsers, encode(&pushed)).await).expect("a response");
    let Some(v1::filter_users_response::Result::Users(users)) = pushed.result else {
        panic!("{pushed:?}")
    };
    assert_eq!((pushed.request_id, users.unseen), (5, vec![0b10, 0b11]));

    let unmark = v1::UnmarkRequest {
        user: 7,
        namespace: READ.to_owned(),
        items: vec![v1::ItemGroup { kind: KIND, ids: vec![1] }],
        token: Vec::new(),
    };
    caller.call(Call::Unmark, encode(&unmark)).await;
    let forget = v1::forget_request::Scope::Namespace(READ.to_owned());
    let forget = v1::ForgetRequest { user: 7, scope: Some(forget), token: Vec::new() };
    caller.call(Call::Forget, encode(&forget)).await;
    assert_eq!(unread(caller.ask(Call::Filter as u8, filter(7), |_| ()).await), [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_answered_is_told() {
    let store = store();
    let node = Node::open(&store, 1).await;
    let mut caller = Caller::connect(&Served::new(&node)).await;
    for (call, body) in [
        (99, filter(7)),
        (Call::Filter as u8, Bytes::from_static(&[0xff; 9])),
        (Call::Mark as u8, Bytes::from_static(&[0xff; 9])),
        (Call::History as u8, Bytes::from_static(&[0xff; 9])),
    ] {
        let Answer::Error(error) = caller.ask(call, body, |_| ()).await else { panic!("{call}") };
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{call}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_says_how_it_came() {
    let store = store();
    let (node, other) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    let mut caller = Caller::connect(&Served::new(&node)).await;
    let emergency = |request: &mut Outgoing| request.flags = Flags::EMERGENCY;
    assert_eq!(unread(caller.ask(1, filter(7), emergency).await), [0, 1, 2, 3]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.replica.users(), 0);

    node.build(7).await;
    sleep(Duration::from_secs(2)).await;
    stage::feeds().for_each(|feed| store.hold_feed(feed));
    other.mark(7, [2]).await;
    assert_eq!(unread(caller.ask(1, filter(7), |_| ()).await), [0, 1, 2, 3]);
    let moved = |request: &mut Outgoing| {
        request.moved = Some(Moved { incarnation: 50, sequence: 1 });
    };
    assert_eq!(unread(caller.ask(1, filter(7), moved).await), [0, 1, 3]);

    // A message about many users says so of all of them.
    let push = v1::FilterUsersRequest {
        namespaces: vec![READ.to_owned()],
        items: vec![v1::ItemGroup { kind: KIND, ids: vec![0, 1, 2, 3] }],
        users: vec![7],
        timeout_ms: 1_000,
        ..Default::default()
    };
    assert_eq!(rows(caller.ask(7, encode(&push), |_| ()).await), [0b1111]);
    assert_eq!(rows(caller.ask(7, encode(&push), moved).await), [0b1011]);
}

/// The rows of bits of an answer about many users.
fn rows(answer: Answer) -> Vec<u8> {
    let Answer::Message(body) = answer else { panic!("{answer:?}") };
    let told: v1::FilterUsersResponse = decode(body).expect("a response");
    match told.result {
        Some(v1::filter_users_response::Result::Users(users)) => users.unseen,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_means_another_is_refused() {
    let store = store();
    let node = Node::open(&store, 1).await;
    let served = Served::new(&node);
    let base = || served.hello(LinkLane::Filters);
    for (hello, reason) in [
        (v1::LinkHello { slot: 4, ..base() }, "SLOT"),
        (v1::LinkHello { pool: "push".to_owned(), ..base() }, "POOL"),
        (v1::LinkHello { cluster: 78, ..base() }, "CLUSTER"),
        (v1::LinkHello { settings: vec![1], ..base() }, "SETTINGS"),
        (v1::LinkHello { slot_key_check: 1, ..base() }, "HASH"),
    ] {
        let caller = Caller::hello(&served, hello);
        let refused = || {
            let changes = caller.changes.lock();
            changes.iter().any(
                |change| matches!(change, LinkChange::Refused(refusal) if refusal.reason == reason),
            )
        };
        until(refused).await;
    }
}

/// The last state that was told.
fn told(caller: &Caller) -> Option<v1::ReplicaState> {
    caller.changes.lock().iter().rev().find_map(|change| match change {
        LinkChange::Up { state, .. } | LinkChange::State(state) => Some(state.clone()),
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn it_says_how_it_fares() {
    let store = store();
    let node = Node::open(&store, 1).await;
    let served = Served::new(&node);
    let caller = Caller::connect(&served).await;
    let first = told(&caller).expect("told");
    assert!(!first.ready && !first.draining && first.map_epoch == 0);
    assert_eq!((first.reason.as_str(), first.incoming_permille), (Unready::Starting.text(), 1_000));

    let peer = PeerState { ready: true, draining: false, feed_lag_us: 0 };
    let kept = served.kept(vec![peer]);
    until(|| told(&caller).is_some_and(|state| state.ready)).await;
    let incoming = Arc::new(Progress::new());
    served.standing.set_map(9, &VirtualSet::ALL, Some(Arc::clone(&incoming)));
    node.build(7).await;
    until(|| {
        told(&caller).is_some_and(|state| {
            (state.map_epoch, state.incoming_permille, state.users) == (9, 0, 1)
        })
    })
    .await;

    // The feed stands still, and a peer is fresh.
    stage::feeds()
        .for_each(|feed| store.fail_feed(feed, seen_store::memory::FeedFault::Silent, None));
    until(|| told(&caller).is_some_and(|state| state.reason == Unready::FeedBehind.text())).await;
    assert!(told(&caller).is_some_and(|state| state.feed_lag_us > 4_000_000));
    store.heal();
    until(|| told(&caller).is_some_and(|state| state.ready)).await;

    node.replica.begin_draining();
    served.standing.announce();
    until(|| told(&caller).is_some_and(|state| state.draining && !state.ready)).await;
    kept.abort();
}

/// Coherence rows 36 and 38: what lay in a socket while the process stood still may have been written elsewhere since.
#[tokio::test(start_paused = true)]
async fn writes_that_may_have_waited_for_a_pause_are_refused() {
    let store = store();
    let node = Node::open(&store, 1).await;
    let served = Served::new(&node);
    let kept = served.kept(vec![]);
    let mut caller = Caller::connect(&served).await;
    caller.call(Call::Mark, mark(7, 1)).await;
    // Nothing looks at the clock, as if nothing ran.
    kept.abort();
    sleep(Duration::from_secs(2)).await;
    let Answer::Error(error) = caller.ask(Call::Mark as u8, mark(7, 2), |_| ()).await else {
        panic!("refused")
    };
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(unread(caller.ask(1, filter(7), |_| ()).await), [0, 2, 3], "reads are answered");
    let kept = served.kept(vec![]);
    sleep(Duration::from_secs(1)).await;
    caller.call(Call::Mark, mark(7, 2)).await;
    kept.abort();
}

/// Peers behind the link.
struct LinkedPeers(Served);

impl LinkedPeers {
    async fn client(&self) -> TransferClient {
        let options = self.0.options(self.0.hello(LinkLane::Transfer));
        TransferClient::connect_over(&self.0, options).await.expect("connected")
    }
}

impl Donors for LinkedPeers {
    type Sink = LinkPeer;
    type Source = LinkPeer;

    fn live(&self) -> Vec<String> {
        vec!["old".to_owned()]
    }

    async fn open(&self, _name: &str) -> io::Result<(LinkPeer, LinkPeer)> {
        let peer = LinkPeer::over(self.client().await);
        Ok((peer.clone(), peer))
    }
}

#[tokio::test(start_paused = true)]
async fn users_are_taken_over_the_link() {
    const USERS: u64 = 2_000;
    let store = store();
    let old = Node::open(&store, 1).await;
    for user in 0..USERS {
        old.mark(user, [user % 4]).await;
        old.build(user).await;
    }
    let unavailable = seen_filter::StoreErrorKind::Unavailable;
    store.fail_reads(seen_store::memory::ReadFault::Refuse(unavailable), None);
    let peers = LinkedPeers(Served::new(&old));
    let new = Node::open(&store, 2).await;
    let options = WarmupOptions::of(VirtualSet::ALL);
    let summary = warm_up(&new.replica, &peers, &options, &Arc::new(Progress::new())).await;
    assert_eq!((summary.progress.installed, summary.donors), (USERS, 1), "{summary:?}");
    for user in 0..USERS {
        let (unread, at_once) = new.unread(user, 4).await;
        assert!(at_once && unread.len() == 3 && !unread.contains(&((user % 4) as u32)), "{user}");
    }

    // Another one is warmed by a tool, which has a dump of the first.
    let mut file = seen_replica::warm::BytesSink(Vec::new());
    let donor = seen_replica::warm::Donor::new(Arc::clone(&old.replica), DonorLimits::default());
    let asked = ask(&old.replica, VirtualSet::ALL, 1_000);
    donor.give(&asked, &mut file).await.expect("given");
    let third = Node::open(&store, 3).await;
    let mut target = LinkPeer::over(LinkedPeers(Served::new(&third)).client().await);
    let mut dump = BytesSource(&file.0[..]);
    let (_, head) = dump.next().await.expect("a dump").expect("a head");
    let mut installed = 0;
    while let Some((FrameKind::Entry, entries)) = dump.next().await.expect("a dump") {
        let payload = push::payload(&head, &entries).expect("fits");
        target.send(FrameKind::Ask, payload).await.expect("sent");
        let (kind, payload) = target.next().await.expect("linked").expect("answered");
        let end = End::decode(&payload).expect("an end");
        assert_eq!((kind, end.kind, end.left_out), (FrameKind::End, EndKind::Complete, 0));
        installed += end.users;
    }
    assert_eq!((installed, third.replica.users()), (USERS, USERS));

    // Nothing comes of nonsense, and the connection stays.
    for nonsense in [&b"SPSH"[..], b"SPSH\xff\xff", b"hello", b""] {
        target.send(FrameKind::Ask, Bytes::copy_from_slice(nonsense)).await.expect("sent");
        let (_, payload) = target.next().await.expect("linked").expect("answered");
        assert_eq!(End::decode(&payload).expect("an end").users, 0);
    }
}
