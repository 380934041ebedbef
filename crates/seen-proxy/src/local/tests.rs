//! The replica of this process, by paused time.

use std::future::poll_fn;
use std::time::Duration;

use parking_lot::Mutex;
use seen_api::{Call, CallMeta, Calls};
use seen_cluster::link::{Flags, Moved};
use seen_cluster::map::MapHandle;
use seen_proto::message::{decode, encode};
use seen_proto::model::Quality;
use seen_proto::status::ErrorKind;
use seen_proto::v1::{DegradedReason, UserAnswer};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::*;
use crate::{Clock, Proxy, ProxyOptions, fake};

type Outcome = Result<Bytes, ApiError>;

/// What the replica does with a request.
type Does = Box<dyn FnMut(&Outgoing, Box<dyn Reply>) + Send>;

/// A process: a proxy, and its replica, which does as it is told and remembers what it was asked.
#[derive(Clone)]
struct Process {
    proxy: Proxy,
    asked: Arc<Mutex<Vec<Outgoing>>>,
    does: Arc<Mutex<Does>>,
}

struct Once(Option<oneshot::Sender<Outcome>>);

impl Reply for Once {
    fn send(mut self: Box<Self>, answer: Outcome) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(answer);
        }
    }

    fn is_abandoned(&self) -> bool {
        self.0.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn poll_abandoned(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().map_or(Poll::Ready(()), |sender| sender.poll_closed(cx))
    }
}

impl Process {
    /// The proxy is connected; nobody looks whether anything is due before [`Self::runs`].
    fn new() -> Self {
        let map = fake::map(1, &[("feed", 1, 1)]);
        let identity = fake::identity(&map, &fake::target(&map, "feed", 0, 0));
        let map = map_of_one(&identity, map.map.slot_key).expect("a map");
        let asked = Arc::new(Mutex::new(Vec::<Outgoing>::new()));
        let does: Arc<Mutex<Does>> = Arc::new(Mutex::new(Box::new(|_, reply| {
            reply.send(Ok(Bytes::from_static(b"here")));
        })));
        let (heard, told) = (asked.clone(), does.clone());
        let answer = move |request: &Outgoing, reply: Box<dyn Reply>| {
            heard.lock().push(request.clone());
            told.lock()(request, reply);
        };
        let options = ProxyOptions { limit_adapts: false, ..ProxyOptions::new(0xabc) };
        let (_publisher, handle) = MapHandle::new(map);
        let connector = Arc::new(LocalConnector { identity, answer });
        let proxy = Proxy::new(options, Clock::start(), handle, connector);
        proxy.connect();
        Self { proxy, asked, does }
    }

    fn runs() -> Self {
        let process = Self::new();
        tokio::spawn(process.proxy.clone().run());
        process
    }

    fn replica(&self, does: impl FnMut(&Outgoing, Box<dyn Reply>) + Send + 'static) {
        *self.does.lock() = Box::new(does);
    }

    /// The replica takes requests and answers none.
    fn stands_still(&self) {
        let mut held = Vec::new();
        self.replica(move |_, reply| held.push(reply));
    }

    fn begin(
        &self,
        call: Call,
        body: Bytes,
        timeout: Duration,
        tag: &str,
    ) -> oneshot::Receiver<Outcome> {
        let (sender, answer) = oneshot::channel();
        let timeout_us = timeout.as_micros() as u64;
        let tag = Bytes::copy_from_slice(tag.as_bytes());
        let meta = CallMeta { timeout_us, tag, ..CallMeta::default() };
        self.proxy.call(call, &meta, body, Box::new(Once(Some(sender))));
        answer
    }

    async fn ask(&self, call: Call, body: Bytes) -> Outcome {
        self.begin(call, body, CALLER, "").await.expect("an answer")
    }

    fn last(&self) -> Outgoing {
        self.asked.lock().last().cloned().expect("the replica was asked")
    }

    fn state(&self) -> String {
        self.proxy.replicas().first().map(|view| view.state.clone()).expect("one")
    }
}

const CALLER: Duration = Duration::from_millis(90);

fn filter() -> Bytes {
    encode(&v1::FilterRequest {
        user: 7,
        namespaces: vec!["feed_read".to_owned()],
        candidates: vec![v1::ItemGroup { kind: 1, ids: vec![5, 6, 7] }],
        ..Default::default()
    })
}

fn push(users: &[u64]) -> Bytes {
    encode(&v1::FilterUsersRequest {
        request_id: 99,
        namespaces: vec!["feed_read".to_owned()],
        items: vec![v1::ItemGroup { kind: 1, ids: vec![5, 6] }],
        users: users.to_vec(),
        ..Default::default()
    })
}

#[tokio::test(start_paused = true)]
async fn it_answers_at_once_and_before_the_proxy_has_run() {
    let process = Process::new();
    assert!(process.proxy.is_ready());
    for call in Call::ALL {
        let mut answer = process.begin(call, Bytes::new(), CALLER, "");
        assert_eq!(answer.try_recv(), Ok(Ok(Bytes::from_static(b"here"))), "{call:?}");
    }
    assert_eq!(process.proxy.in_flight(), 0);
    // With next to no time left, too: memory takes none.
    let mut answer = process.begin(Call::Filter, filter(), Duration::from_micros(1), "");
    assert_eq!(answer.try_recv(), Ok(Ok(Bytes::from_static(b"here"))));
}

#[tokio::test(start_paused = true)]
async fn whatever_stands_around_a_request_comes_through_the_link() {
    struct Nobody;
    impl LinkEvents for Nobody {
        fn answered(&self, _id: RequestId, _answer: Answer) {}
        fn changed(&self, _change: LinkChange) {}
    }
    let map = fake::map(1, &[("feed", 1, 1)]);
    let target = fake::target(&map, "feed", 0, 0);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    let answer = move |request: &Outgoing, _: Box<dyn Reply>| heard.lock().push(request.clone());
    let connector = LocalConnector { identity: fake::identity(&map, &target), answer };
    let link = connector.connect(&target, LinkLane::Filters, Arc::new(Nobody));
    assert!(link.is_local());
    let sent = Outgoing {
        id: RequestId(5 << 32),
        call: Call::Filter as u8,
        timeout_us: 78_000,
        epoch: 3,
        flags: Flags::EMERGENCY.with(Flags::HEDGE),
        moved: Some(Moved { incarnation: 0xabc, sequence: 4 }),
        trace: Some([9; 25]),
        body: filter(),
    };
    link.submit(&sent).expect("taken");
    let got = asked.lock().pop().expect("heard");
    assert_eq!((got.id, got.call, got.timeout_us), (sent.id, sent.call, sent.timeout_us));
    assert_eq!((got.epoch, got.flags, got.moved), (sent.epoch, sent.flags, sent.moved));
    assert_eq!((got.trace, got.body.as_ptr()), (sent.trace, sent.body.as_ptr()), "not copied");
}

#[tokio::test(start_paused = true)]
async fn it_is_never_suspected_nor_left_out_and_nobody_is_moved() {
    let process = Process::runs();
    // No sign of life for a minute: nothing gives any.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(process.state(), "up");

    // It fails again and again, and takes too long again and again.
    process.replica(|_, reply| drop(reply));
    for _ in 0..200 {
        assert!(process.ask(Call::History, Bytes::new()).await.is_err());
        assert!(process.ask(Call::Mark, Bytes::new()).await.is_err());
    }
    process.stands_still();
    for _ in 0..50 {
        assert!(process.ask(Call::Filter, filter()).await.is_ok(), "flagged");
    }
    assert_eq!(process.state(), "up");
    assert_eq!(process.proxy.replicas()[0].breaker, "closed");

    process.replica(|_, reply| reply.send(Ok(Bytes::new())));
    for (call, body) in [(Call::Filter, filter()), (Call::FilterUsers, push(&[7, 8]))] {
        let before = process.asked.lock().len();
        assert_eq!(process.ask(call, body).await, Ok(Bytes::new()));
        assert_eq!(process.asked.lock().len(), before + 1, "asked once");
        let last = process.last();
        assert_eq!((last.flags, last.moved, last.epoch), (Flags::NONE, None, 1), "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_it_stands_still_the_proxy_answers_in_time() {
    let process = Process::runs();
    process.stands_still();
    let began = Instant::now();
    let answer = process.ask(Call::Filter, filter()).await.expect("an answer");
    let response: v1::FilterResponse = decode(answer).expect("a FilterResponse");
    let quality = Quality::from(&response.quality.unwrap_or_default());
    let Quality::Degraded { reason, unknown, .. } = quality else { panic!("{quality:?}") };
    assert_eq!((reason, unknown), (DegradedReason::Deadline, 3));
    assert!(began.elapsed() <= Duration::from_millis(80), "{:?}", began.elapsed());
    // The replica's own word would have come first: it keeps 5 ms of what it is given, and is given no more than this.
    assert_eq!(process.last().timeout_us, 78_000);

    let unknown = process.ask(Call::Mark, Bytes::new()).await.expect_err("no answer");
    assert_eq!(unknown.kind, ErrorKind::OutcomeUnknown);
    let late = process.ask(Call::History, Bytes::new()).await.expect_err("no answer");
    assert_eq!(late.kind, ErrorKind::DeadlineExceeded);

    let answer = process.ask(Call::FilterUsers, push(&[7, 8])).await.expect("an answer");
    let response: v1::FilterUsersResponse = decode(answer).expect("a FilterUsersResponse");
    assert_eq!(response.request_id, 99);
    let Some(v1::filter_users_response::Result::Users(rows)) = response.result else {
        panic!("{response:?}")
    };
    assert_eq!(rows.answers, [UserAnswer::Unknown as i32; 2]);
    assert_eq!(process.proxy.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn its_errors_are_the_callers_whatever_was_asked() {
    let process = Process::runs();
    let after = Duration::from_millis(70);
    let busy = ApiError::new(ErrorKind::Overloaded, "the queue is full").retry_after(after);
    let errors = [
        ApiError::invalid("candidates", "4,001; at most 4,000"),
        ApiError::new(ErrorKind::Unavailable, "storage is away").retry_after(after),
        ApiError::new(ErrorKind::StorageFull, "the disk is full"),
        busy,
    ];
    for error in errors {
        let told = error.clone();
        process.replica(move |_, reply| reply.send(Err(told.clone())));
        for call in [Call::Mark, Call::Forget, Call::History, Call::FilterUsers] {
            assert_eq!(process.ask(call, push(&[7])).await, Err(error.clone()), "{call:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_refused_by_the_replica_in_its_words() {
    let process = Process::runs();
    let error = ApiError::invalid("user", "sent twice");
    let told = error.clone();
    process.replica(move |_, reply| reply.send(Err(told.clone())));
    let garbage = Bytes::from_static(&[0xff; 20]);
    for call in Call::ALL {
        assert_eq!(process.ask(call, garbage.clone()).await, Err(error.clone()), "{call:?}");
        assert_eq!(process.last().body, garbage);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_is_none_is_an_error() {
    let process = Process::runs();
    for (call, body) in [(Call::Filter, filter()), (Call::FilterUsers, push(&[7]))] {
        let known = process.begin(call, body.clone(), CALLER, "feed");
        assert!(known.await.expect("an answer").is_ok());
        let before = process.asked.lock().len();
        let error = process.begin(call, body, CALLER, "nightly").await.expect("told");
        let error = error.expect_err("no such pool");
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        assert!(error.message.contains("\"nightly\""), "{}", error.message);
        assert_eq!(process.asked.lock().len(), before, "nobody was asked");
    }
}

#[tokio::test(start_paused = true)]
async fn it_hears_that_the_caller_is_gone() {
    let process = Process::runs();
    let (told, hears) = oneshot::channel();
    let mut told = Some(told);
    process.replica(move |_, mut reply| {
        let told = told.take().expect("asked once");
        tokio::spawn(async move {
            poll_fn(|cx| reply.poll_abandoned(cx)).await;
            drop(reply);
            let _ = told.send(());
        });
    });
    let answer = process.begin(Call::History, Bytes::new(), Duration::from_secs(60), "");
    sleep(Duration::from_millis(5)).await;
    assert_eq!(process.proxy.in_flight(), 1);
    let began = Instant::now();
    drop(answer);
    hears.await.expect("it hears");
    assert_eq!(process.proxy.in_flight(), 0, "and nothing is kept");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[test]
fn a_process_that_is_alone_needs_a_pool_and_a_cluster() {
    let key = SlotKey::from_words((3, 4));
    let identity =
        v1::ReplicaIdentity { cluster: 1, pool: "feed".to_owned(), ..Default::default() };
    let map = map_of_one(&identity, key).expect("a map");
    assert_eq!(map.replicas().count(), 1);
    assert!(map_of_one(&v1::ReplicaIdentity { cluster: 0, ..identity.clone() }, key).is_err());
    let error = map_of_one(&v1::ReplicaIdentity { pool: "a b".to_owned(), ..identity }, key);
    assert!(error.expect_err("no tag").to_string().contains("a b"));
}
