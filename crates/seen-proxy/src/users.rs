//! FilterUsers: one message is split by replica, and the answers are put together in the order that was asked. Whoever is
//! not answered in time is named as such (`USER_ANSWER_UNKNOWN`), and the others are answered all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use seen_api::{Call, Reply};
use seen_filter::Tick;
use seen_proto::message::{decode, encode};
use seen_proto::model::{PushAnswers, PushCall, PushRows, Quality};
use seen_proto::status::{ApiError, Blame, ErrorKind};
use seen_proto::v1::{self, DegradedReason, UserAnswer};

use crate::choose::Need;
use crate::flight::{Effect, Effects, Sink, answer_by};
use crate::limit::Class;
use crate::net::Place;
use crate::replica::{Lane, ReplicaId};
use crate::route;
use crate::spans::Asked;
use crate::state::{Ask, State};

/// So many users are as much work as one Filter.
const USERS_A_COST: usize = 64;

/// What a part about so many users costs of the limit.
const fn share(users: usize) -> usize {
    let share = users / USERS_A_COST;
    if share == 0 { 1 } else { share }
}

/// A FilterUsers message whose parts are under way.
pub(crate) struct Gather {
    inner: Mutex<Inner>,
}

struct Inner {
    request_id: u64,
    items: usize,
    rows: Option<PushRows>,
    /// Of the rows that came.
    rate: f64,
    exact: bool,
    /// Why some answers are degraded: the first of the list of reasons.
    reason: Option<DegradedReason>,
    /// Parts that are waited for.
    waiting: usize,
    /// True once a part was answered.
    answered: bool,
    /// A part was refused for want of room.
    refused: Option<ApiError>,
    /// Taken once it is answered.
    reply: Option<Box<dyn Reply>>,
}

impl Gather {
    fn new(call: &PushCall, parts: usize, reply: Box<dyn Reply>) -> Self {
        let inner = Inner {
            request_id: call.request_id,
            items: call.items.len(),
            rows: Some(PushRows::new(call)),
            rate: 0.0,
            exact: true,
            reason: None,
            waiting: parts,
            answered: false,
            refused: None,
            reply: Some(reply),
        };
        Self { inner: Mutex::new(inner) }
    }

    /// True once nobody waits any more.
    pub fn is_over(&self) -> bool {
        self.inner.lock().reply.as_ref().is_none_or(|reply| reply.is_abandoned())
    }

    /// A part is answered: that of the users at these positions.
    pub fn part(&self, users: &[u32], answer: Result<Bytes, ApiError>) {
        let mut inner = self.inner.lock();
        inner.waiting = inner.waiting.saturating_sub(1);
        let failed = inner.take(users, answer).err();
        let whole = match failed {
            // What is wrong with the message is wrong with all of it.
            Some(error) if error.kind.blame() == Blame::Caller => Some(Err(error)),
            Some(error) => {
                inner.missed(error);
                None
            }
            None => None,
        };
        let whole = whole.or_else(|| (inner.waiting == 0).then(|| inner.finish()));
        let (reply, whole) = match whole {
            Some(whole) => (inner.reply.take(), whole),
            None => return,
        };
        // Whoever is told may call back.
        drop(inner);
        if let Some(reply) = reply {
            reply.send(whole);
        }
    }
}

impl Inner {
    fn take(&mut self, users: &[u32], answer: Result<Bytes, ApiError>) -> Result<(), ApiError> {
        use v1::filter_users_response::Result as Outcome;
        let response: v1::FilterUsersResponse =
            decode(answer?).map_err(|error| ApiError::new(ErrorKind::Internal, error.message))?;
        let result = match response.result {
            Some(Outcome::Users(result)) => result,
            Some(Outcome::Error(error)) => return Err(seen_proto::status::from_call_error(&error)),
            None => return Err(ApiError::new(ErrorKind::Internal, "a replica answered nothing")),
        };
        let answers = PushAnswers::new(result, self.items, users.len())?;
        for (at, user) in users.iter().enumerate() {
            let answer = answers.answer(at);
            if let Some(rows) = &mut self.rows
                && answer != UserAnswer::Unknown
            {
                rows.set(*user as usize, answer, answers.unseen(at));
            }
        }
        self.answered = true;
        match answers.quality() {
            Quality::Exact => {}
            Quality::Filtered { rate } => self.weaker(rate, None),
            Quality::Degraded { rate, reason, .. } => self.weaker(rate, Some(reason)),
        }
        Ok(())
    }

    fn weaker(&mut self, rate: f64, reason: Option<DegradedReason>) {
        self.exact = false;
        self.rate = self.rate.max(rate);
        self.reason = match (self.reason, reason) {
            (Some(one), Some(other)) => Some(if other < one { other } else { one }),
            (one, other) => one.or(other),
        };
    }

    /// The users of a part are not answered.
    fn missed(&mut self, error: ApiError) {
        let reason = match error.kind {
            ErrorKind::DeadlineExceeded => DegradedReason::Deadline,
            ErrorKind::Overloaded => DegradedReason::Overloaded,
            // What a replica says of its storage it says in its answer; here none came.
            _ => DegradedReason::ReplicaUnreachable,
        };
        self.weaker(0.0, Some(reason));
        if error.kind == ErrorKind::Overloaded {
            self.refused = Some(error);
        }
    }

    fn finish(&mut self) -> Result<Bytes, ApiError> {
        if let Some(error) = self.refused.take().filter(|_| !self.answered) {
            return Err(error);
        }
        let rows = self.rows.take();
        let rows = rows.ok_or_else(|| ApiError::new(ErrorKind::Internal, "answered twice"))?;
        let unknown = rows.unknown() as u32;
        let rate = self.rate;
        let quality = match self.reason {
            Some(reason) => Quality::Degraded { rate, reason, unknown },
            None if unknown > 0 => {
                Quality::Degraded { rate, reason: DegradedReason::Deadline, unknown }
            }
            None if self.exact => Quality::Exact,
            None => Quality::Filtered { rate },
        };
        let result = v1::filter_users_response::Result::Users(rows.finish(quality));
        let request_id = self.request_id;
        Ok(encode(&v1::FilterUsersResponse { request_id, result: Some(result) }))
    }
}

/// What goes to one replica: the slot, the replica if there is one, and whether its users were moved.
type Part = (usize, Option<ReplicaId>, bool);

impl State {
    /// Begins to answer a FilterUsers message.
    ///
    /// # Errors
    /// Why it is refused, and who is to be told.
    pub fn begin_users(
        &mut self,
        now: Tick,
        asked: Asked<'_>,
        body: Bytes,
        reply: Box<dyn Reply>,
        out: &mut Effects,
    ) -> Result<(), (ApiError, Box<dyn Reply>)> {
        if let Some(place) = self.net.only_place() {
            return self.begin_whole(now, asked, body, place, reply, out);
        }
        self.begin_split(now, asked, body, reply, out)
    }

    /// Several replicas answer, each for its users.
    fn begin_split(
        &mut self,
        now: Tick,
        asked: Asked<'_>,
        body: Bytes,
        reply: Box<dyn Reply>,
        out: &mut Effects,
    ) -> Result<(), (ApiError, Box<dyn Reply>)> {
        let meta = asked.meta;
        let request: Result<v1::FilterUsersRequest, ApiError> = decode(body);
        let read = request.and_then(|request| Ok((PushCall::try_from(request.clone())?, request)));
        let (call, request) = match read {
            Ok(read) => read,
            Err(error) => return Err((error, reply)),
        };
        let (pool, tag) = match self.pool_of(&meta.tag, &call) {
            Ok(found) => found,
            Err(error) => return Err((error, reply)),
        };
        let class = Class::of(Call::FilterUsers, &tag);
        let (users, cost) = (call.users.len() as u64, 1 + call.users.len() / USERS_A_COST);
        if let Err(error) = self.admit(now, class, &tag, users.max(1), cost as u64) {
            return Err((error, reply));
        }
        let parts = self.split(now, pool, &call);
        let shares: usize = parts.values().map(|users| share(users.len())).sum();
        // A part costs one at least, so that small messages cannot fill what is kept for feeds.
        self.net.limit.settle(cost as u64, shares as u64);
        let gather = Arc::new(Gather::new(&call, parts.len().max(1), reply));
        if parts.is_empty() {
            out.push(Effect::Finish(Sink::Part(gather, Vec::new()), Ok(nobody(&call))));
            return Ok(());
        }
        let left_ms = (answer_by(now, meta.timeout_us).since_us(now) / 1_000).max(1) as u32;
        for ((_, _, moved), positions) in parts {
            let users: Vec<u64> = positions
                .iter()
                .filter_map(|at| request.users.get(*at as usize).copied())
                .collect();
            let share = share(positions.len()) as u64;
            let first = users.first().copied().unwrap_or_default();
            let part = v1::FilterUsersRequest {
                request_id: 0,
                namespaces: request.namespaces.clone(),
                items: request.items.clone(),
                users,
                token: request.token.clone(),
                on_unknown: request.on_unknown,
                timeout_ms: left_ms,
            };
            let Some(place) = self.place_of(pool, first) else { continue };
            let ask = Ask {
                call: Call::FilterUsers,
                body: encode(&part),
                timeout_us: meta.timeout_us,
                spans: asked.spans(&tag),
                has_token: !request.token.is_empty(),
                group_moved: Some(moved),
                place,
                tag: tag.clone(),
                class,
                cost: share,
            };
            self.begin(now, ask, Sink::Part(gather.clone(), positions), out);
        }
        Ok(())
    }

    /// One replica, in this process, answers for everybody: nothing is to be split, and what it says goes back as it is.
    fn begin_whole(
        &mut self,
        now: Tick,
        asked: Asked<'_>,
        body: Bytes,
        place: Place,
        reply: Box<dyn Reply>,
        out: &mut Effects,
    ) -> Result<(), (ApiError, Box<dyn Reply>)> {
        // Of what cannot be read, too, the replica says what is wrong.
        let request = decode::<v1::FilterUsersRequest>(body.clone()).unwrap_or_default();
        let tag = match self.tag_of(&asked.meta.tag, "") {
            Ok((_, tag)) => tag,
            Err(error) => return Err((error, reply)),
        };
        let class = Class::of(Call::FilterUsers, &tag);
        let cost = (1 + request.users.len() / USERS_A_COST) as u64;
        if let Err(error) = self.admit(now, class, &tag, request.users.len().max(1) as u64, cost) {
            return Err((error, reply));
        }
        let ask = Ask {
            call: Call::FilterUsers,
            body,
            timeout_us: asked.meta.timeout_us,
            spans: asked.spans(&tag),
            has_token: !request.token.is_empty(),
            group_moved: None,
            place,
            tag,
            class,
            cost,
        };
        self.begin(now, ask, Sink::Caller(reply), out);
        Ok(())
    }

    fn pool_of(&self, tag: &[u8], call: &PushCall) -> Result<(usize, Arc<str>), ApiError> {
        self.tag_of(tag, call.namespaces.first().map_or("", String::as_str))
    }

    fn tag_of(&self, tag: &[u8], namespace: &str) -> Result<(usize, Arc<str>), ApiError> {
        let table = self.net.table.as_ref().ok_or_else(route::no_map)?;
        let pool = route::pool(&table.resolved, tag, namespace)?;
        let tag = table.pools.get(pool).map(|pool| pool.tag.clone()).ok_or_else(route::no_map)?;
        Ok((pool, tag))
    }

    fn place_of(&self, pool: usize, user: u64) -> Option<Place> {
        let key = self.net.table.as_ref()?.resolved.map.slot_key;
        self.net.place(pool, key.user_hash(seen_filter::UserId::new(user)))
    }

    /// Whom each user is asked at, by the users' positions.
    fn split(&mut self, now: Tick, pool: usize, call: &PushCall) -> BTreeMap<Part, Vec<u32>> {
        let mut parts: BTreeMap<Part, Vec<u32>> = BTreeMap::new();
        for (at, user) in call.users.iter().enumerate() {
            let Some(place) = self.place_of(pool, user.get()) else { continue };
            let need = Need { place, lane: Lane::Push, is_write: false };
            let choice = self.net.choose_first(need, now);
            let claim = choice.filter(|_| call.token.is_empty());
            let claim = claim.and_then(|choice| self.net.claim_of(place, true, choice, now));
            let part = (place.slot, choice.map(|choice| choice.replica), claim.is_some());
            parts.entry(part).or_default().push(at as u32);
        }
        parts
    }
}

/// The answer to a message that was sent on whole and not answered: nothing is known of anybody.
pub(crate) fn nobody_answered(body: &Bytes, reason: DegradedReason) -> Result<Bytes, ApiError> {
    let request: v1::FilterUsersRequest = decode(body.clone())?;
    let call = PushCall::try_from(request)?;
    let rows = PushRows::new(&call);
    let quality = Quality::Degraded { rate: 0.0, reason, unknown: rows.unknown() as u32 };
    let result = Some(v1::filter_users_response::Result::Users(rows.finish(quality)));
    Ok(encode(&v1::FilterUsersResponse { request_id: call.request_id, result }))
}

/// The answer about nobody.
fn nobody(call: &PushCall) -> Bytes {
    let rows = PushRows::new(call).finish(Quality::Exact);
    let result = Some(v1::filter_users_response::Result::Users(rows));
    encode(&v1::FilterUsersResponse { request_id: 0, result })
}
