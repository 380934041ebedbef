//! Answering: rules R5 and R7, and the decision about what only storage can tell.

use seen_filter::verdicts::Verdicts;
use seen_filter::{CommitStamp, Item, ItemId, Tick, UserId};
use smallvec::SmallVec;

use super::Rules;
use super::fold::Folded;
use super::input::{Checked, Claim, Doubt, Effect, Effects, Outcome, Read, ReadAnswer};
use super::lane::Lane;
use super::late::came_since;
use super::sabotage::Rule;
use super::side::Side;
use super::table::{Slot, Stripe, Trust};

/// Claims that the partition as a whole does not cover.
type Uncovered = SmallVec<[Claim; 4]>;

impl Rules {
    pub(super) fn read(&self, now: Tick, read: &Read<'_>, effects: &mut Effects) -> ReadAnswer {
        let followed = self.lane(read.user);
        let lane = if self.defends(Rule::R7) { followed } else { self.any_lane(read.user) };
        let Some(lane) = lane else {
            // Row 34: a user of somebody else's is answered by storage and never cached.
            return self.unknown(read, Doubt::NotFollowed, None);
        };
        // What is covered is read before the bits: the bits then hold at least as much.
        let uncovered = self.uncovered(now, lane, read.claims, effects);
        let stale = now.since_us(lane.fresh_at()) > self.settings.feed_stale_us_max;
        let mut guard = self.stripe(read.user);
        let stripe = &mut *guard;
        let side = if stripe.side.is_empty() { None } else { stripe.side.get(&read.user) };
        let token_doubt = !uncovered.is_empty()
            && !side
                .and_then(|side| side.stamp)
                .is_some_and(|stamp| uncovered.iter().all(|claim| claim_within(claim, stamp)));
        let contested =
            side.filter(|side| !side.contested.is_empty()).map(|side| contested_items(side));
        let owes = side.is_some_and(|side| side.owes.is_some_and(|from| from <= now));
        let Some(slot) = stripe.find_mut(&self.key, read.user) else {
            if read.build {
                self.begin_build(now, stripe, lane, read.user, true, effects);
            }
            let holds = uncovered.is_empty() && !stale;
            let late_from = if holds { self.late_from(now, lane, read) } else { None };
            return self.unknown(read, Doubt::Cold, late_from);
        };
        if read.build {
            slot.touch();
        }
        let dirty = slot.trust == Trust::Dirty || slot.epoch != lane.epoch();
        let doubt = match (dirty, token_doubt, stale) {
            (true, _, _) => Some(Doubt::Dirty),
            (_, true, _) => Some(Doubt::TokenUncovered),
            (_, _, true) => Some(Doubt::FeedStale),
            _ => None,
        };
        let due = read.build && (dirty || owes || self.expiry_due(slot));
        let answer = self.answer_by_bits(read, slot, doubt, contested.as_deref());
        if due {
            self.begin_build(now, stripe, lane, read.user, false, effects);
        }
        answer
    }

    /// Nothing is known in memory: every candidate is asked.
    fn unknown(&self, read: &Read<'_>, doubt: Doubt, late_from: Option<Tick>) -> ReadAnswer {
        let mut candidates = 0;
        read.candidates.visit(&mut |_, ids| candidates += ids.len());
        ReadAnswer {
            seen: Verdicts::new(),
            ask: Verdicts::first(candidates),
            likely: Verdicts::new(),
            candidates,
            doubt: Some(doubt),
            exact: false,
            rate: self.settings.namespace.false_positive_rate,
            late_from,
        }
    }

    fn answer_by_bits(
        &self,
        read: &Read<'_>,
        slot: &Slot,
        doubt: Option<Doubt>,
        contested: Option<&[Item]>,
    ) -> ReadAnswer {
        let mut seen = Verdicts::new();
        let mut candidates = 0;
        read.candidates.visit(&mut |kind, ids| {
            slot.state.check(&self.key, kind, ids, candidates, &mut seen);
            candidates += ids.len();
        });
        let exact = slot.state.is_exact();
        let bits = seen;
        let mut ask = match doubt {
            None => Verdicts::new(),
            // Nothing that concerns this caller is missing: bits are only ever added.
            Some(Doubt::FeedStale) => Verdicts::first(candidates).without(&bits),
            // The write that the token names may be a remove, and so may the lost event (rule R10).
            Some(_) => Verdicts::first(candidates),
        };
        if read.confirm && !exact {
            ask.or_with(&bits);
        }
        if let Some(contested) = contested {
            let mut at = 0;
            read.candidates.visit(&mut |kind, ids| {
                for id in ids.iter() {
                    if contested.contains(&Item { kind, id: ItemId::new(id) }) {
                        ask.set(at);
                    }
                    at += 1;
                }
            });
        }
        seen = seen.without(&ask);
        let likely = bits.without(&seen);
        let doubt = doubt.or_else(|| (!ask.is_empty()).then_some(Doubt::Asked));
        let rate = self.settings.namespace.false_positive_rate;
        // Whatever is asked about a user who is cached is in doubt: it is asked fresh.
        ReadAnswer { seen, ask, likely, candidates, doubt, exact, rate, late_from: None }
    }

    /// True if a claim concerns this partition and is not backed by the own journal.
    pub(super) fn is_foreign(&self, lane: &Lane, claim: &Claim) -> bool {
        let own = !claim.wildcard
            && claim.writer == self.settings.incarnation
            && lane.keeps_own(claim.seq);
        (claim.wildcard || claim.feed == lane.feed) && !own
    }

    /// Rule R5: the claims that are neither own nor covered. They are noted for the next fence.
    fn uncovered(
        &self,
        now: Tick,
        lane: &Lane,
        claims: &[Claim],
        effects: &mut Effects,
    ) -> Uncovered {
        let mut foreign = claims.iter().filter(|claim| self.is_foreign(lane, claim)).peekable();
        if foreign.peek().is_none() || !self.defends(Rule::R5) {
            return Uncovered::new();
        }
        let mut state = lane.state.lock();
        let uncovered: Uncovered = foreign.filter(|claim| !state.covers(claim)).copied().collect();
        for claim in &uncovered {
            state.fences.present(claim);
        }
        if !uncovered.is_empty() {
            self.begin_fence(now, lane.feed, &mut state, effects);
        }
        uncovered
    }

    /// Rows have expired since the entry was built. Jittered over the bucket by the user, so that a
    /// bucket's end causes no burst (row 54).
    fn expiry_due(&self, slot: &Slot) -> bool {
        let (Some(retention), Some(oldest)) =
            (self.settings.namespace.retention, slot.state.oldest_bucket())
        else {
            return false;
        };
        let jitter_ms = self.key.user_hash(slot.user) % retention.bucket_ms;
        let now_ms = self.storage_now().get().saturating_sub(jitter_ms);
        oldest < retention.horizon_at(seen_filter::UnixMillis::new(now_ms))
    }

    /// Ors a point check with what may be newer than its snapshot: pending, journal, and the folded
    /// ring (rule R5, row 50). `late_from` is set if it was allowed to be late.
    pub(super) fn checked(&self, checked: &Checked<'_>, late_from: Option<Tick>) -> Outcome {
        let mut seen = Verdicts::new();
        for (at, found) in checked.found.iter().enumerate() {
            if *found {
                seen.set(at);
            }
        }
        let Some(lane) = self.any_lane(checked.user) else {
            return Outcome::Decided { seen, contested: false };
        };
        let stripe = self.stripe(checked.user);
        let side = stripe.side.get(&checked.user);
        let state = lane.state.lock();
        // What was held back before a gap may be of another timeline; the ring begins after it.
        let mut changes = side
            .and_then(|side| side.build.as_ref())
            .filter(|build| build.epoch == state.epoch)
            .map(|build| build.pending.clone())
            .unwrap_or_default();
        if state.ring.knows(checked.user) {
            changes.extend(state.ring.of(checked.user));
        }
        let lower = checked.snapshot.lower_bound;
        let shown = |stamp: Option<CommitStamp>| lower.zip(stamp).is_some_and(|(l, s)| l.covers(s));
        let folded = Folded::new(changes, |change| shown(change.stamp));
        let mut contested = late_from.is_some_and(|from| !state.ring.reaches_tick(from));
        // A check that began S after something was known shows it, as a build of then would.
        let lag_us = self.settings.snapshot_lag_us_max;
        let proven = |since: Tick| late_from.is_none() && checked.asked >= since.plus_us(lag_us);
        let span_us = self.settings.namespace.retention.map(|retention| retention.span_ms * 1_000);
        // Rows that expire leave no events: storage does not show them, and is right.
        let expired = |at: Tick| {
            proven(at) && span_us.is_some_and(|span_us| checked.asked >= at.plus_us(span_us))
        };
        for (at, item) in checked.items.iter().enumerate() {
            let added = folded.added(*item).filter(|last| !expired(last.at));
            let mut own = state.journal.adds(checked.user, *item);
            let own = own.any(|row| !shown(row.stamp) && !expired(row.at));
            if (own || added.is_some()) && !seen.get(at) {
                seen.set(at);
                // Storage does not show it, or no longer: a remove that is acknowledged elsewhere
                // may not have come by here yet (rule R10). Or the check was late.
                let since = late_from.is_some_and(|from| {
                    came_since(from, added, &state.journal, checked.user, *item)
                });
                contested |= !since;
            }
            // Storage, or the journal, still says "seen" where a remove may have come later. Where the check shows the
            // remove, by its position or else by its time, the item was marked again.
            let told = folded.removed(*item);
            let told = told.is_some_and(|last| lower.is_some() || !proven(last.at));
            let since = side.and_then(|side| side.contested_since(*item));
            let since = since.is_some_and(|since| lower.is_none() && !proven(since));
            contested |= seen.get(at) && (told || since);
        }
        Outcome::Decided { seen, contested }
    }

    /// Row 55: storage has an item that was answered "unread". Either it arrived meanwhile, or is on its
    /// way, or a false negative was given: then the entry is not believed any more. `found` is the item
    /// if storage had it `at` that time.
    pub(super) fn verified_unread(
        &self,
        now: Tick,
        user: UserId,
        found: Option<Item>,
        at: Tick,
        effects: &mut Effects,
    ) -> Outcome {
        let (Some(item), Some(lane)) = (found, self.lane(user)) else { return Outcome::Done };
        let mut stripe = self.stripe(user);
        let epoch = lane.epoch();
        let contested = stripe.side.get(&user).is_some_and(|side| side.is_contested(item));
        let Some(slot) = stripe.find_mut(&self.key, user) else { return Outcome::Done };
        let doubted = slot.trust == Trust::Dirty || slot.epoch != epoch || contested;
        if doubted || slot.state.contains(&self.key, item) {
            return Outcome::Done;
        }
        if lane.fresh_at() <= at {
            return Outcome::OnItsWay;
        }
        slot.trust = Trust::Dirty;
        effects.push(Effect::Doubted { feed: lane.feed, reason: "false_negative" });
        self.begin_build(now, &mut stripe, lane, user, true, effects);
        Outcome::FalseNegative
    }

    /// Marks the entry of one user dirty and has it rebuilt.
    pub(super) fn doubt_user(
        &self,
        now: Tick,
        stripe: &mut Stripe,
        lane: &Lane,
        user: UserId,
        effects: &mut Effects,
    ) {
        if let Some(build) = stripe.side.get_mut(&user).and_then(|side| side.build.as_mut()) {
            build.doubted = true;
        }
        if let Some(slot) = stripe.find_mut(&self.key, user) {
            slot.trust = Trust::Dirty;
            self.begin_build(now, stripe, lane, user, false, effects);
        }
    }
}

fn claim_within(claim: &Claim, stamp: seen_filter::CommitStamp) -> bool {
    !claim.wildcard && claim.stamp.is_some_and(|claimed| stamp.covers(claimed))
}

fn contested_items(side: &Side) -> SmallVec<[Item; 4]> {
    side.contested.iter().map(|contested| contested.item).collect()
}
