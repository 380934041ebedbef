//! A uniform sample of everything that was read, of a bounded size.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::history_file::Event;

/// A reservoir (Vitter: Random Sampling with a Reservoir, 1985, algorithm R).
#[derive(Debug)]
pub(in crate::cli) struct Sample {
    events: Vec<Event>,
    events_max: usize,
    offered: u64,
    random: StdRng,
}

impl Sample {
    pub(in crate::cli) fn new(events_max: usize) -> Self {
        Self { events: Vec::new(), events_max, offered: 0, random: StdRng::seed_from_u64(1) }
    }

    /// Every event offered so far is in the sample with the same probability.
    pub(in crate::cli) fn offer(&mut self, event: Event) {
        self.offered += 1;
        if self.events.len() < self.events_max {
            self.events.push(event);
            return;
        }
        let place = self.random.random_range(0..self.offered);
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if let Some(slot) = self.events.get_mut(place) {
            *slot = event;
        }
    }

    pub(in crate::cli) fn into_events(self) -> Vec<Event> {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use seen_filter::{Item, UnixMillis, UserId};

    use super::*;

    #[test]
    fn a_sample_is_bounded_and_spread_over_everything() {
        let mut sample = Sample::new(1_000);
        let event =
            |n| Event { user: UserId::new(n), item: Item::new(0, n), at: UnixMillis::new(0) };
        (0..100_000).for_each(|n| sample.offer(event(n)));
        let events = sample.into_events();
        assert_eq!(events.len(), 1_000);
        let mean = events.iter().map(|one| one.user.get()).sum::<u64>() / 1_000;
        assert!((45_000..55_000).contains(&mean), "{mean}");
        let mut none = Sample::new(0);
        (0..10).for_each(|n| none.offer(event(n)));
        assert!(none.into_events().is_empty());
    }
}
