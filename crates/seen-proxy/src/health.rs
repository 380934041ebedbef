//! Whether a replica lives, and wants requests: by its signs of life and by what it says of itself.

use seen_filter::Tick;

/// After it was given up for its silence, a replica must be heard for so long until it is asked again: the first thing
/// that a frozen process says may be what it wanted to say before it froze (coherence row 36).
const RECOVER_US: u64 = 100_000;

/// How a replica is thought to fare, the best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// There is no connection.
    Down,
    /// It is not who it should be, or will not talk.
    Refused,
    /// It is silent for so long that it is given up.
    Ejected,
    /// It is ending.
    Draining,
    /// It says that it wants no requests.
    Unready,
    /// It is silent: others are asked as well.
    Suspect,
    /// It is well.
    Up,
}

impl Health {
    /// Every one.
    pub const ALL: [Health; 7] = [
        Self::Down,
        Self::Refused,
        Self::Ejected,
        Self::Draining,
        Self::Unready,
        Self::Suspect,
        Self::Up,
    ];

    /// A short stable name, used as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Refused => "refused",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
            Self::Unready => "unready",
            Self::Suspect => "suspect",
            Self::Up => "up",
        }
    }
}

/// After which silence what is thought.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// It is suspected.
    pub suspect_us: u64,
    /// It is given up.
    pub eject_us: u64,
}

/// What is known of one replica.
#[derive(Clone, Debug)]
pub struct Heard {
    /// None for a replica of this process: it is silent while whoever listens is, and there is no other to ask.
    silence: Option<Silence>,
    connected: bool,
    refused: bool,
    ready: bool,
    draining: bool,
    last: Tick,
    /// Set while it was given up for its silence: since when it is heard again, if it is.
    given_up: Option<Option<Tick>>,
}

impl Heard {
    /// One that was not heard yet.
    pub const fn new(silence: Silence) -> Self {
        Self {
            silence: Some(silence),
            connected: false,
            refused: false,
            ready: false,
            draining: false,
            last: Tick::new(0),
            given_up: None,
        }
    }

    /// It is this process, and lives as long as whoever listens.
    pub const fn is_here(&mut self) {
        self.silence = None;
        self.given_up = None;
    }

    /// A connection is open.
    pub fn connected(&mut self, now: Tick, ready: bool, draining: bool) {
        let silence = self.silence;
        let (connected, refused, last, given_up) = (true, false, now, None);
        *self = Self { silence, connected, refused, ready, draining, last, given_up };
    }

    /// It said how it fares.
    pub fn said(&mut self, now: Tick, ready: bool, draining: bool) {
        (self.ready, self.draining) = (ready, draining);
        self.life(now);
    }

    /// It is ending.
    pub const fn drains(&mut self) {
        self.draining = true;
    }

    /// Anything was heard.
    pub fn life(&mut self, now: Tick) {
        self.last = self.last.max(now);
        if let Some(since) = &mut self.given_up {
            since.get_or_insert(now);
        }
    }

    /// The connection is gone.
    pub const fn down(&mut self) {
        self.connected = false;
        self.given_up = None;
    }

    /// It is not who it should be. Stands until it is connected again and right.
    pub const fn refused(&mut self) {
        self.refused = true;
    }

    /// It is the one that is meant, after all: the map was corrected.
    pub const fn accepted(&mut self) {
        self.refused = false;
    }

    /// Time passes. `late_us` is for how long this process itself stood still: nobody could be heard meanwhile, and it is
    /// not held against them.
    pub fn tick(&mut self, now: Tick, late_us: u64) {
        let Some(silence) = self.silence else { return };
        self.last = self.last.plus_us(late_us).min(now);
        let silent_us = now.since_us(self.last);
        match self.given_up {
            _ if silent_us >= silence.eject_us => self.given_up = Some(None),
            // Silent again before it was trusted.
            Some(Some(_)) if silent_us >= silence.suspect_us => self.given_up = Some(None),
            Some(Some(since)) if now.since_us(since) >= RECOVER_US => self.given_up = None,
            _ => {}
        }
    }

    /// What is thought of it now.
    pub fn health(&self, now: Tick) -> Health {
        match self {
            Self { refused: true, .. } => Health::Refused,
            Self { connected: false, .. } => Health::Down,
            Self { given_up: Some(_), .. } => Health::Ejected,
            Self { draining: true, .. } => Health::Draining,
            Self { ready: false, .. } => Health::Unready,
            Self { silence: Some(silence), .. }
                if now.since_us(self.last) >= silence.suspect_us =>
            {
                Health::Suspect
            }
            _ => Health::Up,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Silence = Silence { suspect_us: 50_000, eject_us: 300_000 };

    fn up() -> Heard {
        let mut heard = Heard::new(SILENCE);
        heard.connected(Tick::new(0), true, false);
        heard
    }

    fn at(heard: &mut Heard, now_us: u64) -> Health {
        heard.tick(Tick::new(now_us), 0);
        heard.health(Tick::new(now_us))
    }

    #[test]
    fn silence_is_suspected_and_then_given_up() {
        let mut heard = up();
        assert_eq!(at(&mut heard, 49_999), Health::Up);
        assert_eq!(at(&mut heard, 50_000), Health::Suspect);
        heard.life(Tick::new(60_000));
        assert_eq!(at(&mut heard, 60_000), Health::Up);
        assert_eq!(at(&mut heard, 359_999), Health::Suspect);
        assert_eq!(at(&mut heard, 360_000), Health::Ejected);
    }

    #[test]
    fn after_it_was_given_up_it_must_be_heard_for_a_while() {
        let mut heard = up();
        assert_eq!(at(&mut heard, 400_000), Health::Ejected);
        for ms in [410, 440, 470, 500] {
            heard.life(Tick::new(ms * 1_000));
            assert_eq!(at(&mut heard, ms * 1_000), Health::Ejected, "{ms}");
        }
        heard.life(Tick::new(510_000));
        assert_eq!(at(&mut heard, 510_000), Health::Up);

        // One word and silence again is no recovery.
        assert_eq!(at(&mut heard, 900_000), Health::Ejected);
        heard.life(Tick::new(901_000));
        assert_eq!(at(&mut heard, 970_000), Health::Ejected);
        heard.life(Tick::new(1_010_000));
        assert_eq!(at(&mut heard, 1_010_000), Health::Ejected);
    }

    #[test]
    fn a_pause_of_this_process_is_held_against_nobody() {
        let mut heard = up();
        heard.life(Tick::new(9_000));
        // Nothing ran for 60 s; the sweep was due at 10 ms.
        heard.tick(Tick::new(60_010_000), 60_000_000);
        assert_eq!(heard.health(Tick::new(60_010_000)), Health::Up);
        assert_eq!(at(&mut heard, 60_059_000), Health::Suspect, "it counts from there on");
    }

    #[test]
    fn the_silence_of_this_process_itself_says_nothing() {
        let mut heard = up();
        heard.is_here();
        assert_eq!(at(&mut heard, 60_000_000), Health::Up);
        heard.connected(Tick::new(60_000_000), true, false);
        assert_eq!(at(&mut heard, 120_000_000), Health::Up, "connected anew, it is still here");
        heard.said(Tick::new(120_000_000), false, false);
        assert_eq!(at(&mut heard, 120_000_000), Health::Unready, "what it says counts");

        // Whatever was thought before it was known.
        let mut heard = up();
        assert_eq!(at(&mut heard, 400_000), Health::Ejected);
        heard.is_here();
        assert_eq!(at(&mut heard, 400_001), Health::Up);
    }

    #[test]
    fn what_it_says_of_itself_counts() {
        let mut heard = up();
        heard.said(Tick::new(1), false, false);
        assert_eq!(at(&mut heard, 1), Health::Unready);
        heard.said(Tick::new(2), true, true);
        assert_eq!(at(&mut heard, 2), Health::Draining);
        heard.down();
        assert_eq!(at(&mut heard, 3), Health::Down);
        heard.refused();
        assert_eq!(at(&mut heard, 4), Health::Refused);
        heard.connected(Tick::new(5), true, false);
        assert_eq!(at(&mut heard, 5), Health::Up);
    }
}
