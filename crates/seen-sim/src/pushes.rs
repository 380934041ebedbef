//! Pushes: the same few items asked about for many users at once, of the pool that is kept apart for that if there is one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use seen_api::Call;
use seen_proto::message::{decode, encode};
use seen_proto::v1::filter_users_response::Result as Came;
use seen_proto::v1::{self, UserAnswer};

use crate::caller::{Callers, KIND, Said};
use crate::cluster::NAMESPACE;

/// How long a push waits.
const PUSH_WITHIN: Duration = Duration::from_secs(1);
/// Most items that may be asked about at once.
pub const PUSH_ITEMS_MAX: usize = 100;

/// What is asked about one user: what must be told, as known before it is asked.
struct Asked {
    user: u64,
    /// Up to which commit all was applied, and up to which nobody hears of it again.
    applied: (u64, u64),
    must: BTreeSet<u64>,
    undone: BTreeSet<u64>,
}

/// One user's row of an answer.
#[derive(Debug)]
pub struct Row {
    /// Whose.
    pub user: u64,
    /// How far it can be trusted.
    pub answer: UserAnswer,
    /// What is unread.
    pub unseen: BTreeSet<u64>,
}

impl Callers {
    /// Asks which of these users have not read which of these items, and looks whether that may be so.
    pub async fn push(&self, proxy: usize, users: &[u64], ids: &[u64]) {
        let asked: Vec<Asked> = users.iter().map(|user| self.asked(*user, ids)).collect();
        let rows = self.ask_for_users(proxy, users, ids).await;
        let (name, what): (Arc<str>, _) = (
            "push".into(),
            match &rows {
                Ok(_) => "answered",
                Err(what) => *what,
            },
        );
        self.cluster.trace.tell(&name, format_args!("at proxy {proxy}: {ids:?}: {what}"));
        for (asked, row) in asked.iter().zip(rows.unwrap_or_default()) {
            self.judge_row(proxy, asked, &row);
        }
    }

    /// The rows, one for each user, or why there are none.
    pub async fn ask_for_users(
        &self,
        proxy: usize,
        users: &[u64],
        ids: &[u64],
    ) -> Result<Vec<Row>, &'static str> {
        let request = v1::FilterUsersRequest {
            request_id: 1,
            namespaces: vec![NAMESPACE.to_owned()],
            items: vec![v1::ItemGroup { kind: KIND, ids: ids.to_vec() }],
            users: users.to_vec(),
            timeout_ms: PUSH_WITHIN.as_millis() as u32,
            ..Default::default()
        };
        let (tag, call) = (self.cluster.shape.push_tag(), (Call::FilterUsers, encode(&request)));
        let bytes = match self.call_tagged(proxy, tag, call, PUSH_WITHIN).await {
            Said::Answer(Ok(bytes)) => bytes,
            Said::Answer(Err(error)) => return Err(error.kind.label()),
            Said::Nothing => return Err("nothing"),
        };
        let response = decode::<v1::FilterUsersResponse>(bytes).map_err(|_| "not an answer")?;
        let Some(Came::Users(result)) = response.result else { return Err("refused") };
        let row_bytes = ids.len().div_ceil(8);
        if result.answers.len() != users.len() || result.unseen.len() != users.len() * row_bytes {
            let (rows, bytes) = (result.answers.len(), result.unseen.len());
            let what = format!("{rows} rows of {bytes} bytes for {} users", users.len());
            self.broken(None, 4, what);
            return Err("not as many as were asked for");
        }
        let row = |(at, user): (usize, &u64)| {
            let bits = &result.unseen[at * row_bytes..][..row_bytes];
            let is_unseen = |(place, _): &(usize, &u64)| bits[place / 8] >> (place % 8) & 1 == 1;
            let unseen = ids.iter().enumerate().filter(is_unseen).map(|(_, id)| *id).collect();
            let answer = UserAnswer::try_from(result.answers[at]).unwrap_or_default();
            Row { user: *user, answer, unseen }
        };
        Ok(users.iter().enumerate().map(row).collect())
    }

    fn asked(&self, user: u64, ids: &[u64]) -> Asked {
        let applied = self.applied(user);
        let ledger = self.ledger.lock();
        let must = |id: &&u64| ledger.must_see(user, **id, &BTreeSet::new(), applied.0);
        let undone = |id: &&u64| ledger.is_undone(user, **id, applied.1);
        let must = ids.iter().filter(must).copied().collect();
        Asked { user, applied, must, undone: ids.iter().filter(undone).copied().collect() }
    }

    fn judge_row(&self, proxy: usize, asked: &Asked, row: &Row) {
        let user = asked.user;
        if !matches!(row.answer, UserAnswer::Exact | UserAnswer::Filtered) {
            if self.cluster.calm.lasts().is_none() && row.answer != UserAnswer::Degraded {
                let what = format!("push, user {user} at proxy {proxy}: {:?}", row.answer);
                self.broken(Some(user), 6, what);
            }
            return;
        }
        // What was undone, or marked again, meanwhile need not be told.
        let ledger = self.ledger.lock();
        let (applied, for_good) = asked.applied;
        let stands = |id: &&u64| ledger.must_see(user, **id, &BTreeSet::new(), applied);
        let missed: Vec<u64> =
            asked.must.intersection(&row.unseen).filter(stands).copied().collect();
        let undone = |id: &&u64| ledger.is_undone(user, **id, for_good);
        let wrong = asked.undone.difference(&row.unseen).filter(undone);
        let wrong: Vec<u64> = wrong.copied().collect();
        drop(ledger);
        if !missed.is_empty() {
            let what = format!(
                "push, user {user} at proxy {proxy}: items {missed:?} are unread, though all is applied up to {applied}"
            );
            self.broken(Some(user), 2, what);
        }
        if row.answer == UserAnswer::Exact && !wrong.is_empty() {
            let what = format!(
                "push, user {user} at proxy {proxy}: items {wrong:?} are read, though all is applied up to {for_good}, and they were undone by then"
            );
            self.broken(Some(user), 5, what);
        }
    }
}
