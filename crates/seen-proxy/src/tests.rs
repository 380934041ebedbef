//! The life of requests, by paused time, with replicas that do as they are told.

mod attempts;
mod changes;
mod failures;
mod many;
mod sessions;
mod shed;
mod stories;
mod traced;
mod unsure;
mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use seen_api::{Call, CallMeta, Calls, Reply};
use seen_cluster::map::{MapHandle, MapPublisher, ResolvedMap};
use seen_filter::UserId;
use seen_proto::message::{decode, encode};
use seen_proto::model::Quality;
use seen_proto::status::ApiError;
use seen_proto::v1::{self, LinkLane};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::fake::{self, FakeLink, FakeNet};
use crate::{Clock, Proxy, ProxyOptions};

/// The usual time of a caller.
const CALLER: Duration = Duration::from_millis(90);

/// A proxy, and replicas that it is connected to.
struct Bench {
    proxy: Proxy,
    net: Arc<FakeNet>,
    map: ResolvedMap,
    publisher: MapPublisher,
    tasks: Vec<JoinHandle<()>>,
}

struct Waiting {
    answer: Option<oneshot::Sender<(Result<Bytes, ApiError>, Instant)>>,
    abandoned: Arc<AtomicBool>,
}

impl Reply for Waiting {
    fn send(mut self: Box<Self>, answer: Result<Bytes, ApiError>) {
        if let Some(sender) = self.answer.take() {
            let _ = sender.send((answer, Instant::now()));
        }
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}

/// A call that was begun.
struct Asked {
    began: Instant,
    answer: oneshot::Receiver<(Result<Bytes, ApiError>, Instant)>,
    abandoned: Arc<AtomicBool>,
}

impl Asked {
    async fn timed(self) -> (Result<Bytes, ApiError>, Duration) {
        let (answer, at) = self.answer.await.expect("answered");
        (answer, at - self.began)
    }

    async fn answer(self) -> Result<Bytes, ApiError> {
        self.timed().await.0
    }
}

impl Bench {
    async fn start(pools: &[(&str, u16, u16)]) -> Self {
        Self::with(pools, ProxyOptions::new(0xabc)).await
    }

    async fn with(pools: &[(&str, u16, u16)], options: ProxyOptions) -> Self {
        let map = fake::map(7, pools);
        let (publisher, handle) = MapHandle::new(map.clone());
        let net = Arc::new(FakeNet::default());
        let proxy = Proxy::new(options, Clock::start(), handle, net.clone());
        let lives = net.clone();
        let life = async move {
            loop {
                sleep(Duration::from_millis(20)).await;
                lives.live();
            }
        };
        let tasks = vec![tokio::spawn(proxy.clone().run()), tokio::spawn(life)];
        let bench = Self { proxy, net, map, publisher, tasks };
        bench.settle().await;
        bench.net.all_up(&bench.map);
        assert!(bench.proxy.is_ready());
        bench
    }

    /// Lets everything run that can run now.
    async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    fn ask(&self, call: Call, body: Bytes, timeout: Duration, tag: &str) -> Asked {
        let (sender, answer) = oneshot::channel();
        let abandoned = Arc::new(AtomicBool::new(false));
        let timeout_us = timeout.as_micros() as u64;
        let tag = Bytes::copy_from_slice(tag.as_bytes());
        let meta = CallMeta { timeout_us, tag, trace: None };
        let began = Instant::now();
        let reply = Waiting { answer: Some(sender), abandoned: abandoned.clone() };
        self.proxy.call(call, &meta, body, Box::new(reply));
        Asked { began, answer, abandoned }
    }

    fn filter(&self, user: u64) -> Asked {
        self.ask(Call::Filter, filter_body(user, &[]), CALLER, "")
    }

    fn mark(&self, user: u64) -> Asked {
        self.ask(Call::Mark, mark_body(user), CALLER, "")
    }

    /// The links to the replicas of the user's slot, in the order of the user's preference.
    fn ranked(&self, user: u64) -> Vec<Arc<FakeLink>> {
        let hash = self.map.map.slot_key.user_hash(UserId::new(user));
        let pool = self.map.pool("feed").expect("known");
        let slot = pool.owner(self.map.map.virtual_slot(UserId::new(user)));
        let names = slot.rank(hash);
        names.iter().map(|at| self.net.link(&slot.replicas[at].name, LinkLane::Filters)).collect()
    }

    fn home(&self, user: u64) -> Arc<FakeLink> {
        self.ranked(user).remove(0)
    }

    /// What the proxy thinks of this replica.
    fn state_of(&self, link: &FakeLink) -> String {
        let views = self.proxy.replicas();
        let found = views.into_iter().find(|view| view.name == *link.target.name);
        found.map_or_else(|| "gone".to_owned(), |view| view.state)
    }

    fn sent(&self) -> usize {
        self.net.all().iter().map(|link| link.sent()).sum()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn filter_body(user: u64, token: &[u8]) -> Bytes {
    encode(&v1::FilterRequest {
        user,
        namespaces: vec!["feed_read".to_owned()],
        candidates: vec![v1::ItemGroup { kind: 1, ids: vec![5, 6, 7] }],
        token: token.to_vec(),
        ..Default::default()
    })
}

fn mark_body(user: u64) -> Bytes {
    let items = vec![v1::MarkItem { kind: 1, id: 5, marked_at_ms: None }];
    encode(&v1::MarkRequest { user, namespace: "feed_read".to_owned(), items, token: Vec::new() })
}

fn response(answer: Result<Bytes, ApiError>) -> v1::FilterResponse {
    decode(answer.expect("an answer")).expect("a FilterResponse")
}

fn is_degraded(response: &v1::FilterResponse) -> bool {
    let quality = Quality::from(&response.quality.unwrap_or_default());
    matches!(quality, Quality::Degraded { .. })
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
