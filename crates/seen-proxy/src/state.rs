//! What a proxy holds, and the steps that change it. Whatever might call back is returned as an effect, to be done once
//! nothing is locked.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use seen_api::Call;
use seen_cluster::link::{Answer, LinkChange, NotSent};
use seen_cluster::sabotage::defends;
use seen_filter::Tick;
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1::DegradedReason;
use seen_proto::wire::degraded_reason;
use smallvec::SmallVec;

use crate::answer;
use crate::attempt::{End, Verdict, is_free, judge};
use crate::flight::{Effect, Effects, Flight, Sink, answer_by};
use crate::limit::Class;
use crate::metrics::Own;
use crate::net::{Net, Place};
use crate::options::ProxyOptions;
use crate::replica::{Lane, ReplicaId};
use crate::slab::Slab;
use crate::spans::Spans;
use crate::wheel::Wheel;

/// What is asked, and of whom.
pub(crate) struct Ask {
    pub call: Call,
    pub body: Bytes,
    pub timeout_us: u64,
    pub spans: Spans,
    pub has_token: bool,
    /// Of many users: whether some of them were moved.
    pub group_moved: Option<bool>,
    pub place: Place,
    pub tag: Arc<str>,
    pub class: Class,
    /// What it takes of the limit. It was let in already.
    pub cost: u64,
}

/// What a proxy holds.
pub(crate) struct State {
    pub net: Net,
    flights: Slab<Flight>,
    wheel: Wheel,
    due: Vec<u64>,
    /// When it is looked at next what is due, whether or not anything is begun until then.
    looks: Tick,
}

impl State {
    pub fn new(options: ProxyOptions, now: Tick) -> Self {
        let flights = Slab::new(options.in_flight_max);
        let (wheel, looks) = (Wheel::new(now), Tick::new(0));
        Self { net: Net::new(options, now), flights, wheel, due: Vec::new(), looks }
    }

    /// When anything is due, and `by` at the latest. Whoever asks looks at it then, or as soon as an [`Effect::Look`] comes.
    pub fn next_look(&mut self, by: Tick) -> Tick {
        let next = if self.flights.is_empty() { None } else { self.wheel.next() };
        self.looks = next.map_or(by, |next| next.min(by));
        self.looks
    }

    /// True if anything is still under way that must be looked at sooner than it will be: a replica of this process may have
    /// answered already.
    pub fn wants_look(&mut self) -> bool {
        let wants = !self.flights.is_empty();
        if !wants {
            // Nobody is told, so that whoever begins something next must tell.
            self.looks = Tick::new(u64::MAX);
        }
        wants
    }

    /// How many requests are under way.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Lets work in, or says why not.
    pub fn admit(
        &mut self,
        now: Tick,
        class: Class,
        tag: &str,
        requests: u64,
        cost: u64,
    ) -> Result<(), ApiError> {
        if self.net.options.rates.is_bounded()
            && let Err(after_us) = self.net.options.rates.take(tag, requests, now)
        {
            self.net.metrics.shed(class, true);
            let what = format!("more requests of the tag {tag:?} than proxy.rates allows");
            let after = Duration::from_micros(after_us.max(1_000));
            return Err(ApiError::new(ErrorKind::Overloaded, what).retry_after(after));
        }
        if !self.flights.has_room(1) || !self.net.limit.enter(class, cost) {
            self.net.metrics.shed(class, false);
            let what = "this proxy has as much under way as it can bear; try again";
            return Err(ApiError::new(ErrorKind::Overloaded, what));
        }
        Ok(())
    }

    /// Begins to answer what was let in.
    pub fn begin(&mut self, now: Tick, ask: Ask, sink: Sink, out: &mut Effects) {
        self.net.metrics.request(ask.call);
        self.net.budget.asked(now);
        let flight = Flight {
            sink,
            call: ask.call,
            body: ask.body,
            spans: ask.spans,
            has_token: ask.has_token,
            group_moved: ask.group_moved,
            place: ask.place,
            tag: ask.tag,
            class: ask.class,
            cost: ask.cost,
            began: now,
            answer_by: answer_by(now, ask.timeout_us),
            hedge_at: None,
            emergency_at: None,
            attempts: SmallVec::new(),
            error: None,
            unsure: None,
            outcome_unknown: false,
        };
        let key = match self.flights.insert(flight) {
            Ok(key) => key,
            Err(flight) => {
                self.net.limit.leave(flight.cost);
                self.net.metrics.shed(flight.class, false);
                let error = ApiError::new(ErrorKind::Overloaded, "too much is under way here");
                out.push(Effect::Finish(flight.sink, Err(error)));
                return;
            }
        };
        let Some(flight) = self.flights.get_mut(key) else { return };
        match self.net.first(now, key, flight, out) {
            Ok(()) => {
                let due = flight.due();
                self.wheel.put(due, key);
                if due < self.looks {
                    self.looks = due;
                    out.push(Effect::Look);
                }
            }
            Err(why) => self.give_up(now, key, why, out),
        }
    }

    /// A link did not take a request.
    pub fn not_sent(
        &mut self,
        now: Tick,
        replica: ReplicaId,
        key: u64,
        why: NotSent,
        out: &mut Effects,
    ) {
        self.net.metrics.not_sent(why);
        let Some(flight) = self.flights.get_mut(key) else { return };
        let call = flight.call;
        let Some(attempt) = flight.waiting_at(replica) else { return };
        attempt.waits = false;
        self.net.settle(now, call, *attempt, End::Refused);
        flight.spans.end(replica, End::Refused);
        match why {
            NotSent::TooLarge => {
                let error = ApiError::new(ErrorKind::TooLarge, "the message is too large");
                return self.finish(now, key, Err(error), out);
            }
            NotSent::NoCredit | NotSent::Full => {
                let what = "the user's replica has as much to do as it takes; try again";
                flight.error = Some(ApiError::new(ErrorKind::Overloaded, what));
            }
            NotSent::Closed | NotSent::Draining => {}
        }
        self.retry(now, key, is_free(why), out);
    }

    /// A replica answered.
    pub fn answered(
        &mut self,
        now: Tick,
        replica: ReplicaId,
        key: u64,
        answer: Answer,
        out: &mut Effects,
    ) {
        let attempt = self.flights.get_mut(key).and_then(|flight| flight.waiting_at(replica));
        let Some(attempt) = attempt else {
            self.net.metrics.late_answers.increment(1);
            return;
        };
        attempt.waits = false;
        let attempt = *attempt;
        let Some(flight) = self.flights.get_mut(key) else { return };
        let call = flight.call;
        let error = match answer {
            Answer::Message(bytes) => {
                let weakness = (call == Call::Filter).then(|| degraded_reason(&bytes)).flatten();
                let is_good = weakness.is_none();
                // The map may be another one than when it was begun.
                let (place, began) = (self.net.current(flight.place, &flight.tag), flight.began);
                self.net.settle(now, call, attempt, End::Answered { is_good });
                flight.spans.end(replica, End::Answered { is_good });
                if let Some(place) = place {
                    self.took_note(now, replica, call, place, began, is_good);
                }
                return match weakness {
                    None => self.finish(now, key, Ok(bytes), out),
                    Some(reason) => self.unsure(now, key, bytes, reason, out),
                };
            }
            Answer::Error(error) => error,
        };
        let (verdict, end) = judge(error.kind, call.writes());
        self.net.settle(now, call, attempt, end);
        flight.spans.end(replica, end);
        if error.kind == ErrorKind::Overloaded {
            self.net.limit.was_late();
        }
        let out_of_time = call == Call::Filter && error.kind == ErrorKind::DeadlineExceeded;
        match verdict {
            _ if out_of_time => self.give_up(now, key, Own::Deadline, out),
            Verdict::Final => self.finish(now, key, Err(error), out),
            Verdict::Elsewhere => {
                // Whoever is ending did nothing for it.
                let free = error.kind == ErrorKind::Draining;
                flight.error = Some(error);
                self.retry(now, key, free, out);
            }
        }
    }

    /// A replica is not sure. Whoever is still waited for may be; and where it was storage that it could not reach, so may
    /// one more: each replica has its own ways to storage, and knows what it wrote itself.
    fn unsure(
        &mut self,
        now: Tick,
        key: u64,
        answer: Bytes,
        reason: DegradedReason,
        out: &mut Effects,
    ) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        let is_first = flight.unsure.is_none();
        let answer = flight.unsure.get_or_insert(answer).clone();
        if flight.waits() {
            return;
        }
        let may_help = is_first && reason == DegradedReason::StorageUnavailable;
        if !may_help || self.net.again(now, key, flight, false, out).is_err() {
            self.finish(now, key, Ok(answer), out);
        }
    }

    /// What a good answer says about the slot and about the user.
    fn took_note(
        &mut self,
        now: Tick,
        replica: ReplicaId,
        call: Call,
        place: Place,
        began: Tick,
        is_good: bool,
    ) {
        if is_good && call == Call::Filter {
            let us = now.since_us(began);
            self.net.limit.answered(us);
            if let Some(slot) = self.net.slot_mut(place) {
                slot.latency.record(us);
            }
        }
        if !call.writes() {
            return;
        }
        self.net.wrote.insert(place.user_hash, now);
        if !defends("proxy.strayed") {
            return;
        }
        let is_unbound = self.net.bound(place).is_some_and(|bound| bound != replica);
        if is_unbound || self.net.home(place) != Some(replica) {
            self.net.strayed.insert(place.user_hash, now);
        }
        if is_unbound {
            // Whoever is asked next may not know of this, whatever number it covered before.
            let moved = self.net.claims.draw();
            if let Some(slot) = self.net.slot_mut(place) {
                slot.moved = moved;
            }
        }
    }

    /// Nobody is waited for at this replica any more: asks the next one, unless others are waited for.
    fn retry(&mut self, now: Tick, key: u64, free: bool, out: &mut Effects) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        if flight.waits() {
            return;
        }
        if flight.outcome_unknown {
            return self.give_up(now, key, Own::Unreachable, out);
        }
        if let Err(why) = self.net.again(now, key, flight, free, out) {
            self.give_up(now, key, why, out);
        }
    }

    /// The way to a replica changed.
    pub fn changed(
        &mut self,
        now: Tick,
        replica: ReplicaId,
        lane: Lane,
        change: LinkChange,
        out: &mut Effects,
    ) {
        let under_way = |net: &Net| {
            net.replica(replica).is_some_and(|known| known.in_flight.get(lane as usize) > Some(&0))
        };
        if !self.net.changed(now, replica, lane, change) || !under_way(&self.net) {
            return;
        }
        let waits = |flight: &Flight| {
            let mut attempts = flight.attempts.iter();
            flight.lane() == lane && attempts.any(|a| a.waits && a.replica == replica)
        };
        let all = self.flights.iter();
        let lost: Vec<u64> = all.filter(|(_, flight)| waits(flight)).map(|(key, _)| key).collect();
        for key in lost {
            let Some(flight) = self.flights.get_mut(key) else { continue };
            let Some(attempt) = flight.waiting_at(replica) else { continue };
            attempt.waits = false;
            let (attempt, call) = (*attempt, flight.call);
            flight.outcome_unknown |= call.writes() && defends("proxy.lost_write");
            self.net.settle(now, call, attempt, End::Lost);
            flight.spans.end(replica, End::Lost);
            // Whoever had it works no more: nobody has more to do by asking elsewhere, and no death is told by flags.
            self.retry(now, key, true, out);
        }
    }

    /// Ready once nobody waits for this answer any more; the request is over then, and is to be dropped elsewhere.
    pub fn poll_abandoned(
        &mut self,
        now: Tick,
        replica: ReplicaId,
        key: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Flight>> {
        let Some(flight) = self.flights.get_mut(key) else { return Poll::Ready(None) };
        if flight.waiting_at(replica).is_none() {
            return Poll::Ready(None);
        }
        flight.sink.poll_abandoned(cx).map(|()| self.drop_flight(now, key))
    }

    /// Looks at what is due.
    pub fn sweep(&mut self, now: Tick, out: &mut Effects) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.take(now, &mut due);
        for key in due.drain(..) {
            let Some(flight) = self.flights.get_mut(key) else { continue };
            if flight.sink.is_abandoned() {
                self.drop_flight(now, key);
            } else if now >= flight.answer_by && defends("proxy.deadline") {
                self.give_up(now, key, Own::Deadline, out);
            } else {
                if now >= flight.due() {
                    self.net.hedge(now, key, flight, out);
                }
                self.wheel.put(flight.due(), key);
            }
        }
        self.due = due;
    }

    /// Time passes; `late_us` is for how long this process stood still.
    pub fn tick(&mut self, now: Tick, late_us: u64) {
        self.net.tick(now, late_us);
        let (in_flight, limit) = (self.flights.len(), self.net.limit.limit());
        self.net.metrics.load(in_flight, limit);
    }

    /// No replica answers this one.
    fn give_up(&mut self, now: Tick, key: u64, why: Own, out: &mut Effects) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        if why == Own::Deadline && flight.call == Call::Filter {
            self.net.limit.was_late();
        }
        let answer = match flight.unsure.take() {
            Some(answer) => Ok(answer),
            None => {
                flight.spans.own(why);
                let own = answer::own(flight, why);
                if own.is_ok() {
                    self.net.metrics.own(why);
                }
                own
            }
        };
        let call = flight.call;
        let waiting = flight.attempts.iter_mut().filter(|attempt| attempt.waits);
        let silent: SmallVec<[_; 3]> = waiting
            .map(|attempt| {
                attempt.waits = false;
                flight.spans.end(attempt.replica, End::Silent);
                *attempt
            })
            .collect();
        for attempt in silent {
            self.net.settle(now, call, attempt, End::Silent);
        }
        self.finish(now, key, answer, out);
    }

    fn finish(&mut self, now: Tick, key: u64, answer: Result<Bytes, ApiError>, out: &mut Effects) {
        if let Some(mut flight) = self.drop_flight(now, key) {
            // Whatever became of the others: a flagged answer is better than none.
            let answer = answer.or_else(|error| flight.unsure.take().ok_or(error));
            if let (Err(error), Sink::Caller(_)) = (&answer, &flight.sink) {
                self.net.metrics.error(error.kind);
            }
            out.push(Effect::Finish(flight.sink, answer));
        }
    }

    /// Takes a request out. Whoever still has it works for nobody.
    fn drop_flight(&mut self, now: Tick, key: u64) -> Option<Flight> {
        let mut flight = self.flights.remove(key)?;
        self.net.limit.leave(flight.cost);
        for attempt in flight.attempts.iter().filter(|attempt| attempt.waits) {
            self.net.settle(now, flight.call, *attempt, End::Overtaken);
            flight.spans.end(attempt.replica, End::Overtaken);
        }
        Some(flight)
    }
}
