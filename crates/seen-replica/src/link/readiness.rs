//! Whether a replica wants requests, decided from what it knows at one moment. Pure: it reads no clock, and whoever
//! drives it hands everything in.

use seen_filter::Tick;

/// When a replica counts as what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadinessLimits {
    /// A feed that proved itself fresh so lately, in microseconds, is fresh: a replica that was behind has caught up. So has one
    /// that is behind the freshest of its peers by no more than this: a fence may take longer than this to come back.
    pub fresh_us_max: u64,
    /// A feed that did not for so long is stale: a replica that had caught up is behind again.
    pub stale_us_max: u64,
    /// A longer time between two looks means that the process stood still (coherence row 36).
    pub pause_us_max: u64,
    /// Share of the peers' hot users that makes a replica warm, 0 to 1.
    pub warm_share_min: f64,
    /// Longest time that a replica waits to be warm.
    pub warm_us_max: u64,
    /// For so long after its feed began, in microseconds, nothing that is read from storage can be kept: S of rule R2.
    pub blind_us: u64,
}

impl Default for ReadinessLimits {
    fn default() -> Self {
        Self {
            fresh_us_max: 1_000_000,
            stale_us_max: 5_000_000,
            pause_us_max: 500_000,
            warm_share_min: 0.95,
            warm_us_max: 60_000_000,
            blind_us: 0,
        }
    }
}

/// Another replica of the slot, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// It wants requests.
    pub ready: bool,
    /// It is about to end.
    pub draining: bool,
    /// How old its view of the change feed is.
    pub feed_lag_us: u64,
}

/// What a replica knows at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The moment.
    pub now: Tick,
    /// Every feed partition has said where it begins, or could not be opened.
    pub begun: bool,
    /// How old the view of the change feed is; `None` where a partition has not begun.
    pub feed_lag_us: Option<u64>,
    /// The live replicas of the slot, without this one.
    pub peers: &'a [PeerState],
    /// Share of the peers' hot users that is in memory; 1 once the warm-up is over.
    pub warm_share: f64,
    /// The process is about to end.
    pub draining: bool,
}

/// Why a replica wants no requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    /// The process is about to end.
    Draining,
    /// The change feed has not begun.
    Starting,
    /// The process stood still, and has not caught up since, while a peer is fresh.
    Paused,
    /// The change feed is behind, while a peer is fresh.
    FeedBehind,
    /// Its users are not in memory yet, while a peer has them.
    Warming,
    /// What it reads from storage cannot be kept yet.
    Blind,
}

impl Unready {
    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Draining => "the process is about to end",
            Self::Starting => "the change feed has not begun",
            Self::Paused => "the process stood still and has not caught up",
            Self::FeedBehind => "the change feed is behind",
            Self::Warming => "its users are not in memory yet",
            Self::Blind => "what it reads from storage cannot be kept yet",
        }
    }
}

/// What is remembered between two looks.
#[derive(Clone, Debug)]
pub struct Readiness {
    limits: ReadinessLimits,
    began: Tick,
    looked: Tick,
    /// When the feed began.
    feed_began: Option<Tick>,
    /// It was ready once.
    served: bool,
    /// The feed was stale, or never fresh.
    behind: bool,
    /// When it was found that the process stood still. Only what the feed proved since counts.
    paused: Option<Tick>,
    warm: bool,
}

impl Readiness {
    /// Of a replica that begins now.
    pub const fn new(limits: ReadinessLimits, now: Tick) -> Self {
        Self {
            limits,
            began: now,
            looked: now,
            feed_began: None,
            served: false,
            behind: true,
            paused: None,
            warm: false,
        }
    }

    /// Why the replica wants no requests at this moment; `None` if it does. Look several times within
    /// [`ReadinessLimits::pause_us_max`].
    pub fn look(&mut self, facts: &Facts<'_>) -> Option<Unready> {
        self.remember(facts);
        // Without one that answers in its stead this one serves, and asks storage where it must (rule R5, coherence row
        // 56): a change feed may be down for long.
        let fresh = |peer: &PeerState| peer.feed_lag_us <= self.limits.stale_us_max;
        let mut ready = facts.peers.iter().filter(stands_in).peekable();
        let any_ready = ready.peek().is_some();
        let any_fresh = ready.any(fresh);
        if facts.draining {
            Some(Unready::Draining)
        } else if !facts.begun {
            Some(Unready::Starting)
        } else if self.paused.is_some() && any_fresh {
            Some(Unready::Paused)
        } else if self.behind && any_fresh {
            Some(Unready::FeedBehind)
        } else if !self.warm && any_ready {
            Some(Unready::Warming)
        } else if !self.served && self.is_blind(facts.now) {
            // Each Filter would cost a point check, on connections that are still to be opened, and a build in vain. Replicas
            // that run do the check alone; where none does, this one is asked for it all the same.
            Some(Unready::Blind)
        } else {
            self.served = true;
            // Once it serves it is not taken out again for want of users: peers that start together would take turns.
            self.warm = true;
            None
        }
    }

    /// Rule R2: the ring of events does not reach back S yet, so that no build from storage would be installed.
    fn is_blind(&self, now: Tick) -> bool {
        self.feed_began.is_none_or(|began| now.since_us(began) < self.limits.blind_us)
    }

    /// How old the view of the feed of one that has caught up may be.
    fn fresh_us_max(&self, peers: &[PeerState]) -> u64 {
        let freshest_us = peers.iter().filter(stands_in).map(|peer| peer.feed_lag_us).min();
        let fresh_us = freshest_us.unwrap_or(0).saturating_add(self.limits.fresh_us_max);
        // Well below what is stale: else one at the edge would come and go with each fence.
        let edge_us = self.limits.stale_us_max.saturating_sub(self.limits.fresh_us_max);
        fresh_us.min(edge_us.max(self.limits.fresh_us_max))
    }

    fn remember(&mut self, facts: &Facts<'_>) {
        let now = facts.now;
        if facts.begun {
            self.feed_began.get_or_insert(now);
        }
        if now.since_us(self.looked) > self.limits.pause_us_max {
            self.paused = Some(now);
        }
        self.looked = now;
        match facts.feed_lag_us {
            None => self.behind = true,
            Some(lag_us) if lag_us > self.limits.stale_us_max => self.behind = true,
            Some(lag_us) if lag_us <= self.fresh_us_max(facts.peers) => self.behind = false,
            Some(_) => {}
        }
        let caught_up =
            |since: &Tick| facts.feed_lag_us.is_some_and(|lag_us| lag_us < now.since_us(*since));
        if self.paused.as_ref().is_some_and(caught_up) {
            self.paused = None;
        }
        self.warm |= facts.warm_share >= self.limits.warm_share_min
            || now.since_us(self.began) >= self.limits.warm_us_max;
    }
}

/// True if it answers in another one's stead.
fn stands_in(peer: &&PeerState) -> bool {
    peer.ready && !peer.draining
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Tick = Tick::new(3_600_000_000);
    const STEP_US: u64 = 100_000;

    /// A replica that is looked at ten times a second.
    struct Looked {
        readiness: Readiness,
        now: Tick,
        fresh_at: Option<Tick>,
        peers: Vec<PeerState>,
        warm_share: f64,
        draining: bool,
    }

    impl Looked {
        fn new() -> Self {
            Self {
                readiness: Readiness::new(ReadinessLimits::default(), START),
                now: START,
                fresh_at: None,
                peers: vec![peer(0)],
                warm_share: 0.0,
                draining: false,
            }
        }

        fn serving() -> Self {
            let mut looked = Self { warm_share: 1.0, ..Self::new() };
            assert_eq!(looked.fresh(), None);
            looked
        }

        /// The feed proves itself fresh, and it is looked at.
        fn fresh(&mut self) -> Option<Unready> {
            self.fresh_at = Some(self.now);
            self.look()
        }

        /// Looks so many times on, without a proof.
        fn silent(&mut self, looks: u64) -> Option<Unready> {
            (0..looks).fold(None, |_, _| self.look())
        }

        fn look(&mut self) -> Option<Unready> {
            self.now = self.now.plus_us(STEP_US);
            self.readiness.look(&Facts {
                now: self.now,
                begun: self.fresh_at.is_some(),
                feed_lag_us: self.fresh_at.map(|at| self.now.since_us(at)),
                peers: &self.peers,
                warm_share: self.warm_share,
                draining: self.draining,
            })
        }
    }

    fn peer(feed_lag_us: u64) -> PeerState {
        PeerState { ready: true, draining: false, feed_lag_us }
    }

    #[test]
    fn a_start_goes_through_feed_and_warmth() {
        let mut looked = Looked::new();
        assert_eq!(looked.look(), Some(Unready::Starting));
        assert_eq!(looked.fresh(), Some(Unready::Warming));
        looked.warm_share = 0.949;
        assert_eq!(looked.fresh(), Some(Unready::Warming));
        looked.warm_share = 0.95;
        assert_eq!(looked.fresh(), None);
        // What was warm stays so, whatever the next warm-up is about.
        looked.warm_share = 0.0;
        assert_eq!(looked.fresh(), None);
    }

    #[test]
    fn nobody_waits_for_warmth_longer_than_the_bound_or_without_a_peer() {
        let mut looked = Looked::new();
        let looks = ReadinessLimits::default().warm_us_max / STEP_US;
        for _ in 1..looks {
            assert_eq!(looked.fresh(), Some(Unready::Warming));
        }
        assert_eq!(looked.fresh(), None);

        for peers in [vec![], vec![PeerState { ready: false, ..peer(0) }]] {
            let mut alone = Looked { peers, ..Looked::new() };
            assert_eq!(alone.fresh(), None);
        }
    }

    /// Rule R2: until the feed reaches back S, each Filter would read storage for nothing.
    #[test]
    fn a_start_waits_until_what_it_reads_can_be_kept() {
        for peers in [vec![], vec![peer(0)]] {
            let limits = ReadinessLimits { blind_us: 2_000_000, ..ReadinessLimits::default() };
            let readiness = Readiness::new(limits, START);
            let mut looked = Looked { readiness, warm_share: 1.0, peers, ..Looked::new() };
            assert_eq!(looked.look(), Some(Unready::Starting), "its time begins with the feed");
            for _ in 0..20 {
                assert_eq!(looked.fresh(), Some(Unready::Blind));
            }
            assert_eq!(looked.fresh(), None);
        }
    }

    /// Coherence row 56.
    #[test]
    fn a_stale_feed_matters_only_while_a_peer_is_fresh() {
        let mut looked = Looked::serving();
        assert_eq!(looked.silent(49), None);
        assert_eq!(looked.silent(2), Some(Unready::FeedBehind));
        looked.peers = vec![peer(5_000_001), PeerState { draining: true, ..peer(0) }];
        assert_eq!(looked.look(), None, "nobody is fresher: it serves, and asks storage");
        looked.peers.push(peer(10));
        assert_eq!(looked.look(), Some(Unready::FeedBehind));
        // It comes back not at the edge, but when it is really fresh.
        looked.fresh_at = Some(Tick::new(looked.now.get() + STEP_US - 2_000_000));
        assert_eq!(looked.look(), Some(Unready::FeedBehind));
        assert_eq!(looked.fresh(), None);
    }

    /// A fence goes through storage, its log, a producer and Kafka, and each partition has its own: of eight that take 1.2 s
    /// each hardly ever all have come back within the last second.
    #[test]
    fn a_feed_that_proves_itself_slowly_is_no_older_than_the_peers() {
        let mut looked = Looked::serving();
        looked.silent(60);
        for (own_us, peer_us, expected) in [
            (2_200_000, 1_100_000, Some(Unready::FeedBehind)),
            (4_000_000, 2_900_000, Some(Unready::FeedBehind)),
            (2_000_000, 1_200_000, None),
        ] {
            looked.peers =
                vec![peer(4_000_000), peer(peer_us), PeerState { ready: false, ..peer(9_000_000) }];
            looked.fresh_at = Some(Tick::new(looked.now.get() + STEP_US - own_us));
            assert_eq!(looked.look(), expected, "{own_us}");
        }
        // At the edge of what is stale it does not come and go.
        looked.peers = vec![peer(4_500_000)];
        for own_us in [5_100_000, 4_900_000, 5_100_000, 4_200_000] {
            looked.fresh_at = Some(Tick::new(looked.now.get() + STEP_US - own_us));
            assert_eq!(looked.look(), Some(Unready::FeedBehind), "{own_us}");
        }
        // Beyond what is stale it is behind, however far the peers are.
        looked.peers = vec![peer(4_900_000)];
        looked.fresh_at = Some(Tick::new(looked.now.get() + STEP_US - 5_500_000));
        assert_eq!(looked.look(), Some(Unready::FeedBehind));
    }

    #[test]
    fn after_a_kafka_outage_at_the_start_it_serves_alone() {
        let mut looked = Looked { peers: vec![], warm_share: 1.0, ..Looked::new() };
        looked.fresh_at = Some(Tick::new(0));
        assert_eq!(looked.silent(100), None);
        looked.peers = vec![peer(0)];
        assert_eq!(looked.look(), Some(Unready::FeedBehind));
    }

    /// Coherence row 36.
    #[test]
    fn after_a_pause_it_catches_up_first() {
        let mut looked = Looked::serving();
        looked.now = looked.now.plus_us(400_000 - STEP_US);
        assert_eq!(looked.look(), None, "a busy machine is no pause");
        looked.now = looked.now.plus_us(600_000);
        assert_eq!(looked.look(), Some(Unready::Paused), "its proof is of before the pause");
        assert_eq!(looked.silent(3), Some(Unready::Paused));
        assert_eq!(looked.fresh(), None);

        looked.now = looked.now.plus_us(60_000_000);
        looked.peers.clear();
        assert_eq!(looked.look(), None, "nobody else is there");
        looked.peers.push(peer(0));
        assert_eq!(looked.look(), Some(Unready::Paused));
    }

    #[test]
    fn whoever_is_about_to_end_wants_nothing() {
        let mut looked = Looked::serving();
        looked.draining = true;
        looked.peers.clear();
        assert_eq!(looked.fresh(), Some(Unready::Draining));
    }
}
