//! Every mark that was acknowledged, and what answers are held against.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use seen_client::Session;

/// Candidates of each kind in one question: read ones, and ones that nobody ever marks.
const CANDIDATES_OF_A_KIND: usize = 200;
/// Ids from here on are never marked.
pub(super) const NEVER_FROM: u64 = 1 << 40;
/// Who brings no token may be told "unread" about what was acknowledged for less than this.
const TOKENLESS_AFTER: Duration = Duration::from_secs(15);

/// One user's acknowledged marks.
pub(super) struct User {
    /// Carries the token of all that was acknowledged.
    pub session: Session,
    /// The same user on another device: no token.
    pub stranger: u64,
    history: Mutex<History>,
}

#[derive(Default)]
struct History {
    acknowledged: Vec<(u64, Instant)>,
    next: u64,
    /// How many storage was asked about.
    looked: usize,
}

/// A question whose answer is known.
pub(super) struct Question {
    /// The candidates: first those that must be called read.
    pub candidates: Vec<u64>,
    /// How many must be.
    pub read: usize,
}

impl Question {
    /// Of those called unread, how many had been read; and of the others, how many are called read.
    pub(super) fn wrong(&self, unseen: &[u32]) -> (usize, usize) {
        let false_negatives = unseen.iter().filter(|at| (**at as usize) < self.read).count();
        let never = self.candidates.len() - self.read;
        (false_negatives, never - (unseen.len() - false_negatives).min(never))
    }
}

impl User {
    pub(super) fn new(id: u64) -> Self {
        Self { session: Session::new(id), stranger: id, history: Mutex::default() }
    }

    /// An item that was never marked.
    pub(super) fn next_item(&self) -> u64 {
        let mut history = self.history.lock();
        history.next += 1;
        history.next
    }

    /// A mark was acknowledged.
    pub(super) fn acknowledged(&self, item: u64) {
        self.history.lock().acknowledged.push((item, Instant::now()));
    }

    /// A question about what was acknowledged by now; without a token, about what was so long ago.
    pub(super) fn question(
        &self,
        with_token: bool,
        draw: &mut impl FnMut(usize) -> usize,
    ) -> Question {
        let now = Instant::now();
        let history = self.history.lock();
        let old = |at: &Instant| now.saturating_duration_since(*at) >= TOKENLESS_AFTER;
        let known = match with_token {
            true => history.acknowledged.len(),
            false => history.acknowledged.partition_point(|(_, at)| old(at)),
        };
        let mut candidates = Vec::with_capacity(2 * CANDIDATES_OF_A_KIND);
        // The newest, which are the ones that may be missed, and some of all.
        let newest = known.min(CANDIDATES_OF_A_KIND / 2);
        candidates
            .extend(history.acknowledged[known - newest..known].iter().map(|(item, _)| *item));
        for _ in newest..known.min(CANDIDATES_OF_A_KIND) {
            candidates.push(history.acknowledged[draw(known)].0);
        }
        let read = candidates.len();
        let never = (0..CANDIDATES_OF_A_KIND).map(|_| NEVER_FROM + draw(1 << 30) as u64);
        candidates.extend(never);
        Question { candidates, read }
    }

    /// What was acknowledged since this was asked last.
    pub(super) fn since_last(&self) -> Vec<u64> {
        let mut history = self.history.lock();
        let all = history.acknowledged.len();
        let looked = std::mem::replace(&mut history.looked, all);
        history.acknowledged[looked..].iter().map(|(item, _)| *item).collect()
    }

    /// All that was acknowledged.
    pub(super) fn all(&self) -> Vec<u64> {
        self.history.lock().acknowledged.iter().map(|(item, _)| *item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_held_against_what_was_acknowledged() {
        let user = User::new(7);
        for _ in 0..3 {
            let item = user.next_item();
            user.acknowledged(item);
        }
        let question = user.question(true, &mut |_| 0);
        assert_eq!((question.read, &question.candidates[..3]), (3, &[1, 2, 3][..]));
        let never: Vec<u32> = (3..question.candidates.len() as u32).collect();
        assert_eq!(question.wrong(&never), (0, 0));
        assert_eq!(question.wrong(&never[1..]), (0, 1));
        let all: Vec<u32> = (0..question.candidates.len() as u32).collect();
        assert_eq!(question.wrong(&all), (3, 0));
        assert_eq!(user.question(false, &mut |_| 0).read, 0, "too young for who has no token");
        assert_eq!(user.since_last(), [1, 2, 3]);
        assert!(user.since_last().is_empty());
        user.acknowledged(9);
        assert_eq!((user.since_last(), user.all()), (vec![9], vec![1, 2, 3, 9]));
    }
}
