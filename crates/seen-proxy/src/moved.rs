//! Sessions without a token: who was moved to another replica lately, so that what it wrote elsewhere may not have come
//! by where it is asked about.
//!
//! A user's *home* is the first of all replicas of the slot by rendezvous, ready or not; reads and writes go there as long
//! as it serves. A read of a user who brings no token carries a claim, which only a fence that the replica itself wrote
//! later or a look into storage satisfies (rule R9), where
//!
//! - the home does not serve, so that another replica is asked: it may not have seen what the home acknowledged;
//! - the home serves again since less than `moved_for`: another one acknowledged meanwhile. The same after a change of the
//!   map that gave the user another home;
//! - a write of this user was acknowledged by a replica that is not its home, or not the one that it is bound to, which is
//!   the first one that serves ([`Lately`]);
//! - another replica than the one it is bound to is asked, and the user wrote something through this proxy lately
//!   ([`Lately`]): who did not write can miss nothing of its own.
//!
//! A claim has a number. It stands for all that was acknowledged before the number was drawn, so that a replica which
//! covered it once need not look again: the users of a slot share the number of its last change, which is the last time that
//! one of its replicas began or ceased to serve, or that somebody else acknowledged a write than whom its user is bound to.
//! A replica that users are not bound to gets a number of its own each time: nobody drew one when they wrote elsewhere.
//! What several proxies do with one session is not known here: such a session needs the token (coherence row 37).

use seen_filter::Tick;

/// Bits of one generation of [`Lately`]; a power of two.
const BITS: usize = 1 << 18;
const WORDS: usize = BITS / 64;

/// Numbers the claims of one life of a proxy, from 1.
#[derive(Debug, Default)]
pub struct Claims {
    last: u64,
}

impl Claims {
    /// A number that stands for all that was acknowledged until now.
    pub const fn draw(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

/// Users of whom something was seen lately: bits in two generations, so that it is bounded and forgets. It may take a user
/// for another, which costs a look into storage, and never forgets one too early.
#[derive(Debug)]
pub struct Lately {
    new: Vec<u64>,
    old: Vec<u64>,
    new_len: usize,
    old_len: usize,
    generation_us: u64,
    turned: Tick,
}

impl Lately {
    /// Remembers for at least `for_us`, and for at most twice that.
    pub fn new(for_us: u64, now: Tick) -> Self {
        let empty = || vec![0; WORDS];
        Self {
            new: empty(),
            old: empty(),
            new_len: 0,
            old_len: 0,
            generation_us: for_us,
            turned: now,
        }
    }

    /// Remembers a user, by its hash.
    pub fn insert(&mut self, user_hash: u64, now: Tick) {
        self.turn(now);
        for (word, bit) in places(user_hash) {
            if let Some(word) = self.new.get_mut(word) {
                *word |= bit;
            }
        }
        self.new_len += 1;
    }

    /// True if it may have been inserted lately.
    pub fn contains(&mut self, user_hash: u64, now: Tick) -> bool {
        if self.new_len + self.old_len == 0 {
            return false;
        }
        self.turn(now);
        let in_all = |bits: &[u64]| {
            places(user_hash)
                .iter()
                .all(|(word, bit)| bits.get(*word).is_some_and(|w| w & bit != 0))
        };
        in_all(&self.new) || in_all(&self.old)
    }

    fn turn(&mut self, now: Tick) {
        let mut turns = 0;
        while turns < 2 && now.since_us(self.turned) >= self.generation_us.max(1) {
            std::mem::swap(&mut self.new, &mut self.old);
            if self.old_len + self.new_len > 0 {
                self.new.fill(0);
            }
            (self.old_len, self.new_len) = (self.new_len, 0);
            let idle = now.since_us(self.turned) >= 2 * self.generation_us.max(1);
            self.turned = if idle && turns == 1 {
                now
            } else {
                self.turned.plus_us(self.generation_us.max(1))
            };
            turns += 1;
        }
    }
}

/// Two places of a user. The low bits chose its virtual slot already.
fn places(user_hash: u64) -> [(usize, u64); 2] {
    [user_hash >> 12, user_hash >> 36].map(|bits| {
        let bit = bits as usize % BITS;
        (bit / 64, 1 << (bit % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(user: u64) -> u64 {
        user.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn users_are_remembered_for_long_enough_and_not_for_ever() {
        let for_us = 6_000_000;
        let mut lately = Lately::new(for_us, Tick::new(0));
        assert!(!lately.contains(hash(1), Tick::new(0)));
        for user in 0..1_000 {
            lately.insert(hash(user), Tick::new(5_999_999));
        }
        for user in 0..1_000 {
            assert!(lately.contains(hash(user), Tick::new(5_999_999 + for_us - 1)));
        }
        let left = (0..1_000).filter(|user| lately.contains(hash(*user), Tick::new(18_000_000)));
        assert_eq!(left.count(), 0);
        lately.insert(hash(5), Tick::new(90_000_000));
        assert!(lately.contains(hash(5), Tick::new(95_999_999)));
        assert!(!lately.contains(hash(5), Tick::new(200_000_000)));
    }

    #[test]
    fn few_are_taken_for_others() {
        let mut lately = Lately::new(1_000_000, Tick::new(0));
        (0..10_000).for_each(|user| lately.insert(hash(user), Tick::new(1)));
        let wrong = (10_000..110_000).filter(|user| lately.contains(hash(*user), Tick::new(2)));
        let wrong = wrong.count();
        assert!(wrong < 2_000, "{wrong} of 100,000");
    }

    #[test]
    fn claims_rise() {
        let mut claims = Claims::default();
        assert_eq!((claims.draw(), claims.draw()), (1, 2));
    }
}
