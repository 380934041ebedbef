//! FilterUsers: a few items against many users. Meant for push.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use seen_proto::limits::{PUSH_USERS_MAX, TIMEOUT_MS_MAX};
use seen_proto::model::{OnUnknown, PushAnswers, Quality};
use seen_proto::status::{ApiError, Blame, from_call_error};
use seen_proto::v1;
use seen_proto::v1::UserAnswer;
use seen_proto::v1::filter_users_response::Result as Answer;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Streaming};

use crate::call::Shared;
use crate::client::Client;
use crate::failure::{Effect, Failure};
use crate::filter::WhenAway;
use crate::trace::carry;

/// Which of these users have not read these items?
#[derive(Clone, Debug, PartialEq)]
pub struct PushCall {
    request: v1::FilterUsersRequest,
    timeout: Option<Duration>,
    when_away: WhenAway,
}

impl PushCall {
    /// A question about one history.
    pub fn new(namespace: impl Into<String>) -> Self {
        let namespaces = vec![namespace.into()];
        Self {
            request: v1::FilterUsersRequest { namespaces, ..Default::default() },
            timeout: None,
            when_away: WhenAway::default(),
        }
    }

    /// Asks about another history as well: an item that was read in any of them is read.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.request.namespaces.push(namespace.into());
        self
    }

    /// Adds items of one kind; at most [`crate::limits::PUSH_ITEMS_MAX`] in all.
    pub fn items(mut self, kind: u8, ids: impl IntoIterator<Item = u64>) -> Self {
        let ids = ids.into_iter().collect();
        self.request.items.push(v1::ItemGroup { kind: kind.into(), ids });
        self
    }

    /// Carries a token that counts for all users.
    pub fn token(mut self, token: Vec<u8>) -> Self {
        self.request.token = token;
        self
    }

    /// What the service answers about users of whom it knows nothing certain in time.
    pub fn on_unknown(mut self, choice: OnUnknown) -> Self {
        self.request.on_unknown = v1::OnUnknown::from(choice).into();
        self
    }

    /// How long the whole call may take; default [`crate::Timeouts::push`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// What to answer for users about whom the service does not. Default: fail, unless some were
    /// answered.
    pub fn when_away(mut self, choice: WhenAway) -> Self {
        self.when_away = choice;
        self
    }

    fn item_count(&self) -> usize {
        self.request.items.iter().map(|group| group.ids.len()).sum()
    }
}

/// A run of users that the service did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushFailure {
    /// Their positions in the question.
    pub users: Range<usize>,
    /// Why.
    pub error: ApiError,
}

/// Who has not read what.
#[derive(Debug)]
pub struct PushAnswer {
    chunks: Vec<Option<PushAnswers>>,
    users: usize,
    items: usize,
    when_away: WhenAway,
    /// The users that the service did not answer; [`WhenAway`] decides about them.
    pub failures: Vec<PushFailure>,
}

impl PushAnswer {
    /// How many users were asked about.
    pub fn users(&self) -> usize {
        self.users
    }

    /// How far the answer for the user at this position can be trusted. `Unknown`: not looked up.
    pub fn answer(&self, user: usize) -> UserAnswer {
        match self.chunk(user) {
            Some(rows) => rows.answer(user % PUSH_USERS_MAX),
            None => UserAnswer::Unknown,
        }
    }

    /// The positions of the items that the user at this position has not read.
    pub fn unseen(&self, user: usize) -> impl Iterator<Item = usize> + '_ {
        let chunk = self.chunk(user);
        let shown = self.when_away != WhenAway::HideAll && user < self.users && chunk.is_none();
        let rows = chunk.map(|rows| rows.unseen(user % PUSH_USERS_MAX));
        rows.into_iter().flatten().chain(0..if shown { self.items } else { 0 })
    }

    /// The weakest quality of the answered users; `None` if there are none.
    pub fn quality(&self) -> Option<Quality> {
        let of = |rows: &PushAnswers| rows.quality();
        self.chunks.iter().flatten().map(of).reduce(weaker)
    }

    fn chunk(&self, user: usize) -> Option<&PushAnswers> {
        self.chunks.get(user / PUSH_USERS_MAX).and_then(Option::as_ref)
    }
}

fn weaker(a: Quality, b: Quality) -> Quality {
    let rank = |quality: &Quality| match *quality {
        Quality::Exact => (0, 0.0),
        Quality::Filtered { rate } => (1, rate),
        Quality::Degraded { rate, .. } => (2, rate),
    };
    if rank(&b) > rank(&a) { b } else { a }
}

impl Client {
    /// A few items against any number of users, [`PUSH_USERS_MAX`] a message. Users that could not be
    /// looked up in time are named as such.
    ///
    /// # Errors
    /// What the service refused; or why it answered for no user at all, where the call is to fail
    /// then.
    pub async fn filter_users(
        &self,
        call: &PushCall,
        users: &[u64],
    ) -> Result<PushAnswer, ApiError> {
        let timeout = call.timeout.unwrap_or(self.shared.options.timeouts.push);
        let deadline = Instant::now() + timeout;
        let mut answer = PushAnswer {
            chunks: Vec::new(),
            users: users.len(),
            items: call.item_count(),
            when_away: call.when_away,
            failures: Vec::new(),
        };
        answer.chunks.resize_with(users.len().div_ceil(PUSH_USERS_MAX), || None);
        if answer.chunks.is_empty() {
            return Ok(answer);
        }
        self.shared.budget.earn();
        let mut errors: Vec<Option<ApiError>> = vec![None; answer.chunks.len()];
        let asked = ask(&self.shared, call, users, deadline, &mut answer, &mut errors);
        let broken = match timeout_at(deadline, asked).await {
            Ok(Ok(())) => Shared::misfit("the stream ended before all users were answered"),
            Ok(Err(error)) => error,
            Err(_) => Failure::timed_out(Effect::Read, timeout.as_millis()).error,
        };
        finish(answer, errors, broken)
    }
}

/// Sends a message for each chunk and takes in the answers, until the stream ends.
async fn ask(
    shared: &Shared,
    call: &PushCall,
    users: &[u64],
    deadline: Instant,
    answer: &mut PushAnswer,
    errors: &mut [Option<ApiError>],
) -> Result<(), ApiError> {
    let lease = shared.channels.lease();
    let (template, all): (_, Arc<[u64]>) = (call.request.clone(), users.into());
    // Each message is made when the connection has room for it: only then is its time known, and
    // only few of them are in memory at once.
    let messages = futures_util::stream::iter(0..answer.chunks.len()).map(move |chunk| {
        let left_ms = deadline.saturating_duration_since(Instant::now()).as_millis();
        let from = chunk * PUSH_USERS_MAX;
        let to = all.len().min(from + PUSH_USERS_MAX);
        v1::FilterUsersRequest {
            request_id: chunk as u64,
            users: all[from..to].to_vec(),
            timeout_ms: left_ms.clamp(1, TIMEOUT_MS_MAX.into()) as u32,
            ..template.clone()
        }
    });
    let url = &shared.options.url;
    let failed = |status: &tonic::Status| Failure::of(status, Effect::Read, url).error;
    let asked = lease.service().filter_users(carry(Request::new(messages))).await;
    let stream = asked.map_err(|status| failed(&status))?;
    let mut stream: Streaming<v1::FilterUsersResponse> = stream.into_inner();
    let mut open = answer.chunks.len();
    while open > 0 {
        let Some(message) = stream.message().await.map_err(|status| failed(&status))? else {
            return Ok(());
        };
        let chunk = usize::try_from(message.request_id).unwrap_or(usize::MAX);
        if chunk >= errors.len() || answer.chunks[chunk].is_some() || errors[chunk].is_some() {
            return Err(Shared::misfit(format!("an answer to no question: {chunk}")));
        }
        open -= 1;
        let size = (users.len() - chunk * PUSH_USERS_MAX).min(PUSH_USERS_MAX);
        let rows = match message.result {
            Some(Answer::Users(rows)) => PushAnswers::new(rows, answer.items, size),
            Some(Answer::Error(error)) => Err(from_call_error(&error)),
            None => Err(Shared::misfit("an answer without a result")),
        };
        match rows {
            Ok(rows) => answer.chunks[chunk] = Some(rows),
            Err(error) => errors[chunk] = Some(error),
        }
    }
    Ok(())
}

/// Names the users that were not answered; `broken` is why, where their message has no error of its
/// own.
fn finish(
    mut answer: PushAnswer,
    errors: Vec<Option<ApiError>>,
    broken: ApiError,
) -> Result<PushAnswer, ApiError> {
    for (chunk, error) in errors.into_iter().enumerate() {
        if answer.chunks[chunk].is_none() {
            let from = chunk * PUSH_USERS_MAX;
            let users = from..answer.users.min(from + PUSH_USERS_MAX);
            let error = error.unwrap_or_else(|| broken.clone());
            answer.failures.push(PushFailure { users, error });
        }
    }
    let Some(first) = answer.failures.first() else { return Ok(answer) };
    let nobody = answer.failures.len() == answer.chunks.len();
    let refused = first.error.kind.blame() == Blame::Caller;
    if nobody && (refused || answer.when_away == WhenAway::Error) {
        return Err(first.error.clone());
    }
    Ok(answer)
}
