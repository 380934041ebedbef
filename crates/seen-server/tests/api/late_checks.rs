//! A store whose point checks may be late: who may be answered so is asked by calls of its own, and
//! what the late answer lacks comes from memory.

use std::sync::Arc;

use futures_util::StreamExt;
use parking_lot::Mutex;
use seen_api::SeenGrpc;
use seen_filter::history::{
    Answers, Forgotten, HistorySize, Page, PageRequest, Question, RecentRequest, SeamFuture, Write,
};
use seen_filter::{
    CommitStamp, FeedId, FenceSeq, History, Incarnation, NamespaceId, NamespaceSettings,
    StoreError, UserId,
};
use seen_proto::v1;
use seen_proto::v1::seen_service_client::SeenServiceClient;
use seen_proxy::ProxyOptions;
use seen_replica::{Replica, ReplicaLimits, ReplicaOptions, SampleLimits, StorageLimits};
use seen_server::node::Alone;
use seen_store::MemoryStore;
use tokio::sync::watch;
use tokio::time::{Duration, sleep};

use super::ask::{Caller, KIND, READ, SENT, filter, group, mark, sound, unmark};
use super::blocked::{Direct, store, until};

/// How late checks may be.
const LAG: Duration = Duration::from_secs(5);

/// Users that were asked about.
type Users = Mutex<Vec<u64>>;

/// Late checks are of a moment before anything was marked.
struct Late {
    store: MemoryStore,
    fresh: Users,
    late: Users,
}

fn note(users: &Users, questions: &[Question]) {
    users.lock().extend(questions.iter().map(|question| question.user.get()));
}

fn taken(users: &Users) -> Vec<u64> {
    std::mem::take(&mut *users.lock())
}

impl History for Late {
    fn page(&self, request: PageRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        self.store.page(request)
    }

    fn recent(&self, request: RecentRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        self.store.recent(request)
    }

    fn check(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
    ) -> SeamFuture<'_, Result<Answers, StoreError>> {
        note(&self.fresh, &questions);
        self.store.check(namespace, questions)
    }

    fn check_lag_us_max(&self) -> u64 {
        LAG.as_micros() as u64
    }

    fn check_late(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
    ) -> SeamFuture<'_, Result<Answers, StoreError>> {
        note(&self.late, &questions);
        Box::pin(async move {
            let mut answers = self.store.check(namespace, questions).await?;
            answers.found.iter_mut().flatten().for_each(|found| *found = false);
            answers.snapshot.lower_bound = None;
            Ok(answers)
        })
    }

    fn write(&self, writes: Vec<Write>) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        self.store.write(writes)
    }

    fn forget(
        &self,
        namespace: NamespaceId,
        user: UserId,
    ) -> SeamFuture<'_, Result<Forgotten, StoreError>> {
        self.store.forget(namespace, user)
    }

    fn fence(
        &self,
        feed: FeedId,
        users: Vec<UserId>,
        writer: Incarnation,
        seq: FenceSeq,
    ) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        self.store.fence(feed, users, writer, seq)
    }

    fn size(&self, namespace: NamespaceId) -> SeamFuture<'_, Result<HistorySize, StoreError>> {
        self.store.size(namespace)
    }
}

/// A replica that has followed such a store for long enough.
async fn stage() -> (Direct, Arc<Late>, watch::Sender<bool>) {
    let store = store();
    let late = Late { store: store.clone(), fresh: Users::default(), late: Users::default() };
    let late = Arc::new(late);
    let named = [READ, SENT].into_iter().zip(0..);
    let samples = SampleLimits { seen_share: 0.0, unread_share: 0.0, checks_per_s_max: 1 };
    let options = ReplicaOptions {
        namespaces: named.map(|(n, id)| NamespaceSettings::new(NamespaceId::new(id), n)).collect(),
        key: store.hash_key(),
        cluster: 77,
        incarnation: Incarnation::new(1),
        history: Arc::<Late>::clone(&late),
        feed: Arc::new(store),
        limits: ReplicaLimits { samples, ..ReplicaLimits::default() },
        storage: StorageLimits::default(),
    };
    let slot_key = options.key.slot_key();
    let (replica, work) = Replica::new(options).expect("in range");
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(work.run(Arc::clone(&replica), stopped));
    until(|| replica.following_all()).await;
    sleep(LAG * 2).await;
    let alone = Alone::new(&replica, slot_key, "feed", ProxyOptions::new(0));
    let api = SeenServiceClient::new(SeenGrpc::new(alone.expect("a tag").calls()));
    (Caller(api), late, stop)
}

#[tokio::test(start_paused = true)]
async fn late_answers_are_put_right_from_memory() {
    let (mut api, late, _stop) = stage().await;
    assert_eq!(api.unread(1, READ, &[1, 2]).await, [1, 2]);
    assert_eq!((taken(&late.late), taken(&late.fresh)), (vec![1], vec![]));
    // Its own caller reads what was marked just now, with the token and without.
    let token = api.mark(mark(2, READ, [1])).await;
    let asked = v1::FilterRequest { token, ..filter(2, &[READ], [1, 2]) };
    assert_eq!(sound(&api.filter(asked).await), [1]);
    assert_eq!((taken(&late.late), taken(&late.fresh)), (vec![2], vec![]));
    // An unmark would be missed: it is asked fresh, with the token and without.
    api.mark(mark(3, READ, [1, 2])).await;
    let token = api.unmark(unmark(3, READ, [1])).await;
    let asked = v1::FilterRequest { token, ..filter(3, &[READ], [1, 2]) };
    assert_eq!(sound(&api.filter(asked).await), [0]);
    assert_eq!((taken(&late.late), taken(&late.fresh)), (vec![], vec![3]));
    let confirm = v1::FilterRequest { confirm: true, ..filter(4, &[READ], [1]) };
    assert_eq!(sound(&api.filter(confirm).await), [0]);
    assert_eq!((taken(&late.late), taken(&late.fresh)), (vec![], vec![4]));
}

#[tokio::test(start_paused = true)]
async fn a_push_asks_late_and_fresh_apart() {
    const USERS: u64 = 300;
    let (mut api, late, _stop) = stage().await;
    let unmarks = |user: u64| user.is_multiple_of(3);
    for user in 0..USERS {
        api.mark(mark(user, READ, [7])).await;
        if unmarks(user) {
            api.unmark(unmark(user, READ, [7])).await;
        }
    }
    let request = v1::FilterUsersRequest {
        request_id: 1,
        namespaces: vec![READ.to_owned()],
        items: vec![group(KIND, [7])],
        users: (0..USERS).collect(),
        timeout_ms: 5_000,
        ..Default::default()
    };
    let asks = tokio_stream::iter([request]);
    let mut answers = api.0.filter_users(asks).await.expect("opened").into_inner();
    let answer = answers.next().await.expect("an answer").expect("answered");
    let Some(v1::filter_users_response::Result::Users(result)) = answer.result else {
        panic!("{answer:?}");
    };
    let answers = seen_proto::model::PushAnswers::new(result, 1, USERS as usize).expect("fits");
    for user in 0..USERS {
        let unseen = answers.unseen(user as usize).count();
        assert_eq!(unseen, usize::from(unmarks(user)), "user {user}");
    }
    let (late, fresh) = (taken(&late.late), taken(&late.fresh));
    assert_eq!(late, (0..USERS).filter(|user| !unmarks(*user)).collect::<Vec<_>>());
    assert_eq!(fresh, (0..USERS).filter(|user| unmarks(*user)).collect::<Vec<_>>());
}
