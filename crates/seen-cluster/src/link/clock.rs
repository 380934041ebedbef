//! How long a request was on its way, without comparing the clocks of two machines: the end that answers tells its own clock again
//! and again; the end that asks says with each request what that clock shows by then, at least. A write that lay in a buffer
//! or was sent again by TCP is found out by that (coherence row 38).

use std::time::Duration;

use tokio::time::Instant;

use super::LinkError;

/// By so much, as a divisor, two machines' clocks may run at different rates: twenty times what a quartz is off.
const RATE_DIVISOR: u32 = 1_024;

/// So much the other end may reckon ahead without its link being cut: where a clock is being set slowly (NTP) it does for a while, and
/// what a write looks younger by is small against the time that its sender waits.
const AHEAD_US_MAX: u64 = 20_000;

/// The clock of the end that answers, as it tells it: from a moment near the connection's begin on.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnClock(Instant);

impl OwnClock {
    pub fn begin(now: Instant) -> Self {
        Self(now)
    }

    /// What it shows, in microseconds; never 0.
    pub fn us(&self, now: Instant) -> u64 {
        let us = now.saturating_duration_since(self.0).as_micros();
        u64::try_from(us).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// The moment at which it showed this. `None` for 0: nobody knew.
    ///
    /// # Errors
    /// It has not shown that yet by far: this clock stood still or was slowed down, and the other end reckons with too much.
    /// Whatever it says would look younger than it is until the two begin anew.
    pub fn moment(&self, us: u64, now: Instant) -> Result<Option<Instant>, LinkError> {
        let shown_us = self.us(now);
        if us.saturating_sub(shown_us) > AHEAD_US_MAX {
            return Err(LinkError::ClockAhead { ahead_us: us - shown_us });
        }
        let Some(since_us) = us.min(shown_us).checked_sub(1) else { return Ok(None) };
        Ok(self.0.checked_add(Duration::from_micros(since_us)))
    }
}

/// That clock at the end that asks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FarClock {
    /// What was told, and when it was heard.
    told: Option<(u64, Instant)>,
}

impl FarClock {
    /// What it shows now, at least, in microseconds; 0 before it was told. It was told some time before it was heard, and may be
    /// the slower one.
    pub fn us(&self, now: Instant) -> u64 {
        let Some((told_us, heard)) = self.told else { return 0 };
        let since = now.saturating_duration_since(heard);
        let since = (since - since / RATE_DIVISOR).as_micros();
        told_us.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }

    /// It was told again. What was on its way for long says less than what was known.
    pub fn hear(&mut self, told_us: u64, now: Instant) {
        self.told = Some((told_us.max(self.us(now)), now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_never_looks_younger_than_it_is() {
        let begin = Instant::now();
        let own = OwnClock::begin(begin);
        let mut far = FarClock::default();
        assert_eq!((far.us(begin), own.moment(0, begin)), (0, Ok(None)), "nobody knows");
        // On its way for 5 ms; later for 300 ms; then for 1 ms.
        for (told_at, heard_at) in [(0, 5), (700, 1_000), (2_000, 2_001)] {
            far.hear(own.us(begin + ms(told_at)), begin + ms(heard_at));
            for sent_at in [heard_at, heard_at + 20, heard_at + 900] {
                let sent = begin + ms(sent_at);
                let read = sent + ms(80);
                let moment = own.moment(far.us(sent), read).expect("not ahead").expect("told");
                assert!(moment <= sent, "{:?}", moment - begin);
                let off = sent - moment;
                assert!(off <= ms(8), "{off:?} off: what came late changed nothing");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn clocks_of_different_rates_do_no_harm() {
        let begin = Instant::now();
        let own = OwnClock::begin(begin);
        let mut far = FarClock::default();
        far.hear(own.us(begin), begin);
        // The asking end's clock is fast by 0.05 percent.
        let sent = begin + ms(10_000);
        let moment = own.moment(far.us(sent + ms(5)), sent + ms(6));
        assert!(moment.expect("not ahead").expect("told") <= sent);
    }

    /// A machine that is paused stops its clock, and what the other end reckons with stays ahead.
    #[tokio::test(start_paused = true)]
    async fn a_clock_that_stood_still_is_found_out() {
        let begin = Instant::now();
        let own = OwnClock::begin(begin);
        let mut far = FarClock::default();
        far.hear(own.us(begin), begin);
        // The asking end has seen 10 s, the answering one 9.8 s; then each tells the other the time again.
        let (sent, read) = (begin + ms(10_000), begin + ms(9_800));
        far.hear(own.us(read), sent);
        let ahead = own.moment(far.us(sent), read).expect_err("ahead");
        let LinkError::ClockAhead { ahead_us } = ahead else { panic!("{ahead:?}") };
        assert!((180_000..=200_000).contains(&ahead_us), "{ahead_us}");
        assert!(own.moment(u64::MAX, sent).is_err());
        assert_eq!(own.moment(own.us(sent), sent), Ok(Some(sent)), "what is shown now was shown");
        let slewed = own.us(sent) + AHEAD_US_MAX;
        assert_eq!(own.moment(slewed, sent), Ok(Some(sent)), "a clock that is set slowly");
        assert!(own.moment(slewed + 1, sent).is_err());
    }
}
