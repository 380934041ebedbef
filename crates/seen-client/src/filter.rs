//! Filter: which of these has the user not read?

use std::time::Duration;

use seen_proto::model::{OnUnknown, Quality};
use seen_proto::status::{ApiError, Blame, ErrorKind};
use seen_proto::v1;
use seen_proto::v1::DegradedReason;

use crate::call::Shared;
use crate::client::Client;
use crate::failure::Effect;
use crate::session::{Carried, Session};

/// What to answer when the service does not: it cannot be reached, is overloaded, or too slow. A
/// wrong request is an error in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WhenAway {
    /// Fail.
    #[default]
    Error,
    /// Fail open: everything is unread. Items may be shown twice, but no page stays empty.
    ShowAll,
    /// Fail closed: everything is read. Nothing is shown twice, but pages stay empty.
    HideAll,
}

/// A question for one user. The service checks it; see the limits in [`crate::limits`].
#[derive(Clone, Debug, PartialEq)]
pub struct FilterCall {
    pub(crate) request: v1::FilterRequest,
    pub(crate) timeout: Option<Duration>,
    pub(crate) when_away: WhenAway,
}

impl FilterCall {
    /// A question about one history.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self {
            request: v1::FilterRequest { namespaces: vec![namespace.into()], ..Default::default() },
            timeout: None,
            when_away: WhenAway::default(),
        }
    }

    /// Asks about another history as well: an item that was read in any of them is read.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.request.namespaces.push(namespace.into());
        self
    }

    /// Adds candidates of one kind. Positions in the answer count through all of them, from 0, in the
    /// order in which they were added.
    pub fn items(mut self, kind: u8, ids: impl IntoIterator<Item = u64>) -> Self {
        let ids = ids.into_iter().collect();
        self.request.candidates.push(v1::ItemGroup { kind: kind.into(), ids });
        self
    }

    /// What the service answers about candidates of which it knows nothing certain in time. Default:
    /// show them.
    pub fn on_unknown(mut self, choice: OnUnknown) -> Self {
        self.request.on_unknown = v1::OnUnknown::from(choice).into();
        self
    }

    /// Has every "read" looked up in storage, so that false positives disappear.
    pub fn confirm(mut self, confirm: bool) -> Self {
        self.request.confirm = confirm;
        self
    }

    /// How long the call may take, repeats included; default [`crate::Timeouts::filter`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// What to answer when the service does not. Default: fail.
    pub fn when_away(mut self, choice: WhenAway) -> Self {
        self.when_away = choice;
        self
    }

    /// How many candidates there are.
    pub fn candidates(&self) -> usize {
        self.request.candidates.iter().map(|group| group.ids.len()).sum()
    }
}

/// The unread candidates.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterAnswer {
    /// Their positions in the question, ascending.
    pub unseen: Vec<u32>,
    /// How far the answer can be trusted.
    pub quality: Quality,
    /// Why the service did not answer, where [`WhenAway`] answered in its stead.
    pub fallback: Option<ApiError>,
}

impl FilterAnswer {
    /// True if an item that was read may have been called unread.
    pub fn is_flagged(&self) -> bool {
        matches!(self.quality, Quality::Degraded { .. })
    }
}

impl Client {
    /// Which of these has the user not read? Ask it before showing a page.
    ///
    /// # Errors
    /// What the service refused, or why it did not answer where the call is to fail then.
    pub async fn filter(
        &self,
        session: &Session,
        call: FilterCall,
    ) -> Result<FilterAnswer, ApiError> {
        let carried = session.carry();
        let candidates = call.candidates();
        let mut request = call.request;
        request.user = session.user();
        request.token.clone_from(&carried.token);
        let shared = &self.shared;
        let timeout = call.timeout.unwrap_or(shared.options.timeouts.filter);
        let answer = shared
            .call(Effect::Read, timeout, request, |mut service, request| async move {
                service.filter(request).await
            })
            .await
            .and_then(|answer| answered(answer, session, &carried, candidates, shared));
        answer.or_else(|error| in_its_stead(error, call.when_away, candidates))
    }
}

/// The answer to a question of so many candidates, with its token taken in.
pub(crate) fn answered(
    answer: v1::FilterResponse,
    session: &Session,
    carried: &Carried,
    candidates: usize,
    shared: &Shared,
) -> Result<FilterAnswer, ApiError> {
    let (mut answer, token) = checked(answer, candidates)?;
    session.absorb(carried, token, &shared.wildcards);
    flag_incomplete(session, &mut answer.quality);
    Ok(answer)
}

/// A session that lost part of its token cannot be promised anything.
fn flag_incomplete(session: &Session, quality: &mut Quality) {
    let rate = match *quality {
        Quality::Exact => 0.0,
        Quality::Filtered { rate } => rate,
        Quality::Degraded { .. } => return,
    };
    if !session.is_complete() {
        *quality = Quality::Degraded { rate, reason: DegradedReason::TokenNotCovered, unknown: 0 };
    }
}

/// The answer with its token, if it fits the question.
fn checked(
    answer: v1::FilterResponse,
    candidates: usize,
) -> Result<(FilterAnswer, Vec<u8>), ApiError> {
    let ascending = answer.unseen.is_sorted_by(|a, b| a < b);
    let within = answer.unseen.last().is_none_or(|last| (*last as usize) < candidates);
    if !ascending || !within {
        let what = format!("the answer's positions do not fit a question of {candidates} items");
        return Err(Shared::misfit(what));
    }
    let quality = Quality::from(&answer.quality.unwrap_or_default());
    Ok((FilterAnswer { unseen: answer.unseen, quality, fallback: None }, answer.token))
}

/// What the caller declared for a service that is away.
pub(crate) fn in_its_stead(
    error: ApiError,
    when_away: WhenAway,
    candidates: usize,
) -> Result<FilterAnswer, ApiError> {
    let unseen = match when_away {
        _ if error.kind.blame() == Blame::Caller => return Err(error),
        WhenAway::Error => return Err(error),
        WhenAway::ShowAll => (0..candidates as u32).collect(),
        WhenAway::HideAll => Vec::new(),
    };
    let quality = Quality::Degraded {
        rate: if when_away == WhenAway::HideAll { 1.0 } else { 0.0 },
        reason: reason(error.kind),
        unknown: candidates as u32,
    };
    Ok(FilterAnswer { unseen, quality, fallback: Some(error) })
}

/// The reason that a server would give.
pub(crate) fn reason(kind: ErrorKind) -> DegradedReason {
    match kind {
        ErrorKind::DeadlineExceeded => DegradedReason::Deadline,
        ErrorKind::Overloaded => DegradedReason::Overloaded,
        _ => DegradedReason::StorageUnavailable,
    }
}
