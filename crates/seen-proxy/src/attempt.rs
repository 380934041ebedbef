//! The life of one request: a first attempt; a second one while the first takes long, or where it failed; anybody who can
//! look into storage; and at last the proxy's own word.
//!
//! A write is sent once. It is sent again only where certainly nothing was done: the link did not take it, or the replica
//! said so.

use seen_api::Call;
use seen_cluster::link::{Flags, Moved, NotSent, Outgoing, RequestId};
use seen_cluster::sabotage::defends;
use seen_filter::Tick;
use seen_proto::status::ErrorKind;

use crate::choose::{Choice, Standing};
use crate::flight::{Attempt, Effect, Effects, Flight};
use crate::metrics::{Own, Why};
use crate::net::Net;
use crate::replica::Lane;

/// A request is sent at most so often.
const ATTEMPTS_MAX: usize = 5;
/// With less time left nobody is asked.
const LEFT_US_MIN: u64 = 500;
/// A replica that was given less time than this to answer is not blamed for not answering.
const BLAME_US: u64 = 20_000;
/// A replica that answered nothing for so long may be dead, though its link lives.
const DEAD_US: u64 = 200_000;

impl Net {
    /// Sends a request for the first time.
    ///
    /// # Errors
    /// Why nobody can be asked.
    pub fn first(
        &mut self,
        now: Tick,
        key: u64,
        flight: &mut Flight,
        out: &mut Effects,
    ) -> Result<(), Own> {
        let need = flight.need(flight.place);
        let choice = self.choose_first(need, now).ok_or(Own::Unreachable)?;
        let why = if choice.emergency { Why::Emergency } else { Why::First };
        if !flight.hedges() {
            return self.send(now, key, flight, choice, why, out);
        }
        let half_us = flight.answer_by.since_us(now) / 2;
        flight.emergency_at = Some(now.plus_us(half_us));
        if choice.standing == Standing::Suspect
            && let Some(other) = self.choose_next(need, &[choice.replica], now)
            && other.standing == Standing::Good
        {
            // Where there is no budget for both, the one that lives is asked.
            if !self.take(now) {
                return self.send(now, key, flight, other, why, out);
            }
            self.send(now, key, flight, choice, why, out)?;
            let why = if other.emergency { Why::Emergency } else { Why::Hedge };
            return self.send(now, key, flight, other, why, out);
        }
        let (min_us, max_us) = (self.options.hedge_after_min, self.options.hedge_after_max);
        let (min_us, max_us) = (min_us.as_micros() as u64, max_us.as_micros() as u64);
        let after_us =
            self.slot(flight.place).map(|slot| slot.latency.hedge_after_us(min_us, max_us));
        flight.hedge_at = Some(now.plus_us(after_us.unwrap_or(max_us).min(half_us)));
        self.send(now, key, flight, choice, why, out)
    }

    /// Sends a request again, after nobody is waited for any more. `free` where the last attempt cost nothing.
    ///
    /// # Errors
    /// Why nobody can be asked.
    pub fn again(
        &mut self,
        now: Tick,
        key: u64,
        flight: &mut Flight,
        free: bool,
        out: &mut Effects,
    ) -> Result<(), Own> {
        let place = self.current(flight.place, &flight.tag).ok_or(Own::Unreachable)?;
        flight.place = place;
        let choice = match flight.attempts.len() >= ATTEMPTS_MAX {
            true => None,
            false => self.choose_next(flight.need(place), &flight.tried(), now),
        };
        let choice = choice.ok_or(Own::Unreachable)?;
        if flight.answer_by.since_us(now) < LEFT_US_MIN {
            return Err(Own::Deadline);
        }
        if !free && !self.take(now) {
            return Err(Own::Overloaded);
        }
        let why = if choice.emergency { Why::Emergency } else { Why::Again };
        self.send(now, key, flight, choice, why, out)
    }

    /// A request that is still waited for is due: a second replica is asked as well, or anybody. Nothing is done where there
    /// is none, or no budget.
    pub fn hedge(&mut self, now: Tick, key: u64, flight: &mut Flight, out: &mut Effects) {
        let Some(place) = self.current(flight.place, &flight.tag) else { return };
        flight.place = place;
        let (need, tried) = (flight.need(place), flight.tried());
        let mut choice = None;
        if flight.hedge_at.is_some_and(|at| now >= at) {
            flight.hedge_at = None;
            choice = self.choose_second(need, &tried, now);
        }
        if flight.emergency_at.is_some_and(|at| now >= at) {
            flight.emergency_at = None;
            choice = choice.or_else(|| self.choose_next(need, &tried, now));
        }
        let Some(choice) = choice else { return };
        if flight.attempts.len() < ATTEMPTS_MAX && self.take(now) {
            let why = if choice.emergency { Why::Emergency } else { Why::Hedge };
            // Whether it is sent or not, the first one is still waited for.
            let _ = self.send(now, key, flight, choice, why, out);
        }
    }

    /// Takes a repeat from the budget.
    fn take(&mut self, now: Tick) -> bool {
        let taken = self.budget.take(now);
        if !taken {
            self.metrics.budget_spent.increment(1);
        }
        taken
    }

    fn send(
        &mut self,
        now: Tick,
        key: u64,
        flight: &mut Flight,
        choice: Choice,
        why: Why,
        out: &mut Effects,
    ) -> Result<(), Own> {
        let left_us = flight.answer_by.since_us(now);
        // A replica of this process answers from memory within the call.
        let here = self.replica(choice.replica).is_some_and(|replica| replica.here);
        if left_us < if here { 1 } else { LEFT_US_MIN } {
            return Err(Own::Deadline);
        }
        let claim = self.claim(flight, choice, now);
        let incarnation = self.options.incarnation;
        let epoch = self.table.as_ref().map_or(0, |table| table.resolved.map.epoch.get());
        let lane = flight.lane() as usize;
        let replica = self.replica_mut(choice.replica).ok_or(Own::Unreachable)?;
        let link = replica.links.get(lane).cloned().flatten().ok_or(Own::Unreachable)?;
        if let Some(count) = replica.in_flight.get_mut(lane) {
            *count += 1;
        }
        let probes = choice.standing == Standing::Probe;
        if probes {
            replica.breaker.probe();
        }
        let mut flags = Flags::NONE;
        if choice.emergency {
            flags = flags.with(Flags::EMERGENCY);
        }
        if why == Why::Hedge || flight.waits() {
            flags = flags.with(Flags::HEDGE);
        }
        flight.attempts.push(Attempt { replica: choice.replica, sent: now, waits: true, probes });
        self.metrics.attempt(why);
        if claim.is_some() {
            self.metrics.moved.increment(1);
        }
        let Some(target) = self.replica(choice.replica).map(|replica| &replica.target) else {
            return Err(Own::Unreachable);
        };
        let trace = flight.spans.begin(choice.replica, target, why);
        let request = Outgoing {
            id: RequestId(key),
            call: flight.call as u8,
            timeout_us: u32::try_from(left_us).unwrap_or(u32::MAX),
            epoch,
            flags,
            moved: claim.map(|sequence| Moved { incarnation, sequence }),
            trace,
            body: flight.body.clone(),
        };
        out.push(Effect::Send(link, request, choice.replica));
        Ok(())
    }

    /// An attempt is over: what does it say about its replica?
    pub fn settle(&mut self, now: Tick, call: Call, attempt: Attempt, end: End) {
        let took_us = now.since_us(attempt.sent);
        let Some(replica) = self.replica_mut(attempt.replica) else { return };
        let lane = Lane::of(call);
        if let Some(count) = replica.in_flight.get_mut(lane as usize) {
            *count = count.saturating_sub(1);
        }
        if attempt.probes && !matches!(end, End::Answered { .. } | End::Faulty) {
            replica.breaker.abandoned();
        }
        // Messages of many users are slow for reasons of their own.
        if lane == Lane::Push {
            return;
        }
        let before = replica.breaker.state();
        let record = if call.writes() { &mut replica.writes } else { &mut replica.record };
        match end {
            End::Answered { is_good } => {
                replica.breaker.succeeded(now);
                replica.answered = now;
                if is_good {
                    record.answered(took_us);
                }
                if is_good && call == Call::Filter {
                    replica.filter_took(took_us);
                }
            }
            End::Faulty => {
                replica.breaker.failed(now);
                record.failed();
            }
            // Its storage fails: by comparison with the others it is found out whether that is its own.
            End::Starved => record.failed(),
            // Whoever answered just now is not dead, but has too much to do.
            End::Silent if took_us >= BLAME_US => {
                record.failed();
                if now.since_us(replica.answered) >= DEAD_US {
                    replica.breaker.failed(now);
                }
            }
            // It takes at least this long: it must not look quicker than it is.
            End::Overtaken => record.answered(took_us),
            End::Silent | End::Lost | End::Refused => {}
        }
        if replica.breaker.state() != before {
            self.refresh(now, attempt.replica);
        }
    }
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By an answer, or an error that is not the replica's.
    Answered {
        /// True for what was asked for, unflagged.
        is_good: bool,
    },
    /// By a fault of the replica.
    Faulty,
    /// By a fault of what the replica depends on.
    Starved,
    /// With its link.
    Lost,
    /// By the deadline.
    Silent,
    /// By another replica's answer.
    Overtaken,
    /// It was not begun.
    Refused,
}

/// What an error of a replica means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the answer.
    Final,
    /// Certainly nothing was done, and somebody else may do it.
    Elsewhere,
}

/// What an error of this kind means, and how the attempt ends by it.
pub(crate) fn judge(kind: ErrorKind, is_write: bool) -> (Verdict, End) {
    let answered = End::Answered { is_good: false };
    match kind {
        ErrorKind::Unavailable => (Verdict::Elsewhere, End::Starved),
        ErrorKind::Draining | ErrorKind::Overloaded => (Verdict::Elsewhere, End::Refused),
        // Nobody knows whether it wrote.
        ErrorKind::Internal if is_write => (Verdict::Final, End::Faulty),
        ErrorKind::Internal => (Verdict::Elsewhere, End::Faulty),
        ErrorKind::OutcomeUnknown if !is_write || !defends("proxy.unknown_write") => {
            (Verdict::Elsewhere, answered)
        }
        ErrorKind::InvalidArgument
        | ErrorKind::UnknownNamespace
        | ErrorKind::TokenGarbage
        | ErrorKind::TokenVersion
        | ErrorKind::TokenOfAnotherCluster
        | ErrorKind::PageTokenGarbage
        | ErrorKind::TooLarge
        | ErrorKind::NotKept
        | ErrorKind::ReadOnly
        | ErrorKind::StorageFull
        | ErrorKind::DeadlineExceeded
        | ErrorKind::OutcomeUnknown
        | ErrorKind::Corrupt => (Verdict::Final, answered),
    }
}

/// True if an attempt that was not sent costs nothing of the budget: nobody else has more to do by it.
pub(crate) const fn is_free(why: NotSent) -> bool {
    matches!(why, NotSent::Closed | NotSent::Draining)
}
