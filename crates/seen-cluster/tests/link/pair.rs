//! Both ends of a link, in memory or over a socket, and what each is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use seen_cluster::link::transfer::TransferSink;
use seen_cluster::link::{
    Answer, ClientOptions, Connector, Cut, Flags, HelloExpectation, HelloSource, Incoming,
    LinkChange, LinkClient, LinkEvents, LinkService, Outgoing, Replier, RequestId, ServerOptions,
    Socket, check_hello, serve,
};
use seen_proto::v1::{
    LinkHello, LinkLane, LinkRefusal, LinkWelcome, ReplicaIdentity, ReplicaState,
};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Credit that the services here grant.
pub const CREDIT_BYTES: u64 = 1_048_576;

/// Who answers.
pub fn identity() -> ReplicaIdentity {
    ReplicaIdentity {
        incarnation: 2,
        program: "test".into(),
        cluster: 0xc105,
        pool: "feed".into(),
        slot: 3,
        hash_version: 1,
        settings: 6,
        slot_key_check: 5,
    }
}

/// What fits that.
pub fn hello() -> LinkHello {
    LinkHello {
        version_min: 1,
        version_max: 1,
        cluster: 0xc105,
        pool: "feed".into(),
        slot: 3,
        slot_known: true,
        hash_version: 1,
        slot_key_check: 5,
        settings: vec![6],
        map_epoch: 7,
        lane: LinkLane::Filters as i32,
        incarnation: 1,
        program: "test".into(),
    }
}

/// A request with nothing special, and a minute of time.
pub fn request(id: u64, body: impl Into<Bytes>) -> Outgoing {
    let (moved, trace, flags, body) = (None, None, Flags::NONE, body.into());
    let id = RequestId(id);
    Outgoing { id, call: 1, timeout_us: 60_000_000, epoch: 7, flags, moved, trace, body }
}

/// A body of so many bytes that are not all alike.
pub fn body(bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at * 31 % 251) as u8).collect()
}

type Handle = Box<dyn Fn(Incoming<'_>, Replier) + Send + Sync>;

/// Whoever answers.
pub struct Service {
    handle: Handle,
    pub state: Mutex<ReplicaState>,
    changes: watch::Sender<u64>,
}

impl Service {
    pub fn new(handle: impl Fn(Incoming<'_>, Replier) + Send + Sync + 'static) -> Arc<Self> {
        let state = Mutex::new(ReplicaState { ready: true, map_epoch: 7, ..Default::default() });
        Arc::new(Self { handle: Box::new(handle), state, changes: watch::Sender::new(0) })
    }

    /// One that answers with the request's own bytes.
    pub fn echo() -> Arc<Self> {
        Self::new(|request, reply| reply.message(request.body()))
    }

    /// One that keeps what is asked until it is told to answer.
    pub fn holding() -> (Arc<Self>, mpsc::UnboundedReceiver<(RequestId, Replier)>) {
        let (held, holds) = mpsc::unbounded_channel();
        let service = Self::new(move |request, reply| {
            held.send((request.id, reply)).expect("the test still looks");
        });
        (service, holds)
    }

    /// Changes the state, and tells all.
    pub fn change(&self, change: impl FnOnce(&mut ReplicaState)) {
        change(&mut self.state.lock());
        self.changes.send_modify(|count| *count += 1);
    }
}

impl LinkService for Service {
    fn welcome(&self, hello: &LinkHello) -> Result<LinkWelcome, LinkRefusal> {
        let identity = identity();
        let lanes = &[LinkLane::Filters, LinkLane::Push, LinkLane::Transfer];
        let version = check_hello(hello, &HelloExpectation { identity: &identity, lanes })?;
        let identity = Some(identity);
        Ok(LinkWelcome { version, credit_bytes: CREDIT_BYTES, identity, state: None })
    }

    fn state(&self) -> ReplicaState {
        self.state.lock().clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn handle(&self, request: Incoming<'_>, reply: Replier) {
        (self.handle)(request, reply);
    }

    fn transfer<'a>(
        &'a self,
        ask: Bytes,
        out: &'a mut TransferSink<'_>,
    ) -> BoxFuture<'a, Result<(), Cut>> {
        Box::pin(async move {
            let count = u32::from_le_bytes(ask[..].try_into().expect("four bytes"));
            for number in 0..count {
                out.entry(&[&number.to_le_bytes()[..], &[7; 60_000]].concat()).await?;
            }
            out.end(b"all").await
        })
    }
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Answered(RequestId, Answer),
    Changed(LinkChange),
}

struct Recorder(mpsc::UnboundedSender<Heard>);

impl LinkEvents for Recorder {
    fn answered(&self, id: RequestId, answer: Answer) {
        // A test that has seen enough does not listen any more.
        let _ = self.0.send(Heard::Answered(id, answer));
    }

    fn changed(&self, change: LinkChange) {
        let _ = self.0.send(Heard::Changed(change));
    }
}

/// Hears what a client is told, one after the other.
pub struct Ear(mpsc::UnboundedReceiver<Heard>);

impl Ear {
    /// Something to give to a client, and where it is heard.
    pub fn new() -> (Arc<dyn LinkEvents>, Self) {
        let (tell, heard) = mpsc::unbounded_channel();
        (Arc::new(Recorder(tell)), Self(heard))
    }

    pub async fn next(&mut self) -> Heard {
        self.0.recv().await.expect("the client lives")
    }

    /// What is there already.
    pub fn now(&mut self) -> Option<Heard> {
        self.0.try_recv().ok()
    }

    /// The next change that is no sign of life; answers on the way are not expected.
    pub async fn change(&mut self) -> LinkChange {
        loop {
            match self.next().await {
                Heard::Changed(LinkChange::Life | LinkChange::State(_)) => {}
                Heard::Changed(change) => return change,
                answered => panic!("{answered:?}"),
            }
        }
    }

    pub async fn up(&mut self) {
        let change = self.change().await;
        assert!(matches!(change, LinkChange::Up { .. }), "{change:?}");
    }

    pub async fn down(&mut self) -> String {
        match self.change().await {
            LinkChange::Down(why) => why,
            change => panic!("{change:?}"),
        }
    }

    /// The next answer; changes other than signs of life are not expected.
    pub async fn answer(&mut self) -> (RequestId, Answer) {
        loop {
            match self.next().await {
                Heard::Changed(LinkChange::Life | LinkChange::State(_)) => {}
                Heard::Answered(id, answer) => return (id, answer),
                changed => panic!("{changed:?}"),
            }
        }
    }

    /// So many answers, by id; one that is answered twice fails.
    pub async fn answers(&mut self, count: usize) -> HashMap<u64, Answer> {
        let mut answers = HashMap::new();
        while answers.len() < count {
            let (id, answer) = self.answer().await;
            assert_eq!(answers.insert(id.0, answer), None, "{id:?} is answered twice");
        }
        answers
    }
}

/// Connects in memory: each connection's other end is handed to the test.
pub struct InMemory {
    accepted: mpsc::UnboundedSender<DuplexStream>,
    bytes: usize,
}

impl InMemory {
    /// `bytes` may be under way in each direction.
    pub fn new(bytes: usize) -> (Self, mpsc::UnboundedReceiver<DuplexStream>) {
        let (accepted, accepts) = mpsc::unbounded_channel();
        (Self { accepted, bytes }, accepts)
    }
}

impl Connector for InMemory {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Socket>, Cut>> {
        Box::pin(async {
            let (near, far) = tokio::io::duplex(self.bytes);
            self.accepted.send(far).map_err(|_| Cut::Closed("by the test"))?;
            Ok(Box::new(near) as Box<dyn Socket>)
        })
    }
}

/// A source of the same hello.
pub fn always(hello: LinkHello) -> HelloSource {
    Arc::new(move || hello.clone())
}

/// The usual options of a client in memory.
pub fn client_options() -> ClientOptions {
    ClientOptions::new("in memory", always(hello()))
}

/// A client whose connections go to the test.
pub fn client(
    bytes: usize,
    options: ClientOptions,
) -> (LinkClient, Ear, mpsc::UnboundedReceiver<DuplexStream>) {
    let (events, ear) = Ear::new();
    let (connector, accepts) = InMemory::new(bytes);
    (LinkClient::start_over(connector, options, events), ear, accepts)
}

/// A server of one connection, and how to end it.
pub struct Served {
    pub task: JoinHandle<Result<(), Cut>>,
    stop: watch::Sender<bool>,
}

impl Served {
    pub fn new(stream: impl Socket, service: &Arc<Service>, options: &ServerOptions) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let (service, options) = (service.clone(), options.clone());
        let task = tokio::spawn(async move {
            let stopped = async {
                if stopped.wait_for(|stopped| *stopped).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            serve(stream, &*service, &options, stopped).await
        });
        Self { task, stop }
    }

    /// Asks it to drain.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// How it ended.
    pub async fn ended(self) -> Result<(), Cut> {
        self.task.await.expect("no panic")
    }
}

/// A client and its server, in memory.
pub async fn pair(service: &Arc<Service>) -> (LinkClient, Ear, Served) {
    let (client, mut ear, mut accepts) = client(65_536, client_options());
    let stream = accepts.recv().await.expect("a connection");
    let served = Served::new(stream, service, &ServerOptions::default());
    ear.up().await;
    (client, ear, served)
}

/// Bounds whatever waits for something that never comes.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it comes at all")
}
