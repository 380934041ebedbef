//! Readers that hold the tokens of what was marked, at the other replica, all the while: no answer may be
//! wrong that is not flagged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use seen_proto::v1;
use tokio::task::JoinSet;

use super::ask::{READ, explain, filter, level, mark, patient, within};
use super::replica::Api;
use super::stage::Stage;
use super::wait::awaited;

/// Users that nobody else marks.
const USERS: std::ops::Range<u64> = 1_000..1_004;
/// Longest that a call may take; what is not known by then is flagged, or fails.
const DEADLINE: Duration = Duration::from_secs(5);

/// The readers at work.
pub struct Watch {
    tasks: JoinSet<(u64, Vec<u64>)>,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
}

impl Watch {
    /// Begins to mark at one replica and to read at the other.
    pub fn begin(stage: &Stage) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for (number, user) in USERS.enumerate() {
            let writer = stage.replicas[number % 2].api.clone();
            let reader = stage.replicas[(number + 1) % 2].api.clone();
            tasks.spawn(session(user, writer, reader, Arc::clone(&stop), Arc::clone(&answers)));
        }
        Self { tasks, stop, answers }
    }

    /// Waits until readers have had some more answers that were not flagged.
    pub async fn answers_more(&self) {
        let answers = || self.answers.load(Ordering::Relaxed);
        let wanted = answers() + 2 * (USERS.end - USERS.start);
        awaited("answers that are not flagged", async || match answers() {
            had if had >= wanted => Ok(()),
            had => Err(format!("{had} of {wanted}")),
        })
        .await;
    }

    /// Ends. Fails if an answer was wrong, if storage has lost what was acknowledged, or if nothing was.
    pub async fn end(mut self, stage: &Stage) {
        self.stop.store(true, Ordering::Relaxed);
        let mut count = 0;
        while let Some(ended) = self.tasks.join_next().await {
            let (user, marked) = ended.expect("no answer was wrong");
            let stored = stage.stored(user).await;
            let lost: Vec<_> = marked.iter().filter(|item| !stored.contains(item)).collect();
            assert!(lost.is_empty(), "storage has lost {lost:?} of user {user}");
            count += marked.len();
        }
        assert!(count > 0, "nothing was marked");
    }
}

/// Marks one item after the other and asks for the latest ones with the token of all.
async fn session(
    user: u64,
    mut writer: Api,
    mut reader: Api,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
) -> (u64, Vec<u64>) {
    let (mut token, mut marked) = (Vec::new(), Vec::new());
    let mut rounds = tokio::time::interval(Duration::from_millis(10));
    for item in 1..=u64::MAX {
        rounds.tick().await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let request = v1::MarkRequest { token: token.clone(), ..mark(user, READ, [item]) };
        if let Ok(acknowledged) = writer.mark(within(DEADLINE, request)).await {
            token = acknowledged.into_inner().token;
            marked.push(item);
        }
        let asked = marked.iter().rev().take(50).copied();
        let request = v1::FilterRequest { token: token.clone(), ..filter(user, &[READ], asked) };
        if let Ok(answer) = reader.filter(within(DEADLINE, request)).await {
            let answer = answer.into_inner();
            if level(&answer.quality) != v1::QualityLevel::Degraded {
                if let Some(at) = answer.unseen.first() {
                    let item = marked[marked.len() - 1 - *at as usize];
                    let told = reader.explain(patient(explain(user, READ, item))).await;
                    panic!("user {user} of {} marks: {answer:?}, {told:?}", marked.len());
                }
                answers.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    (user, marked)
}
