//! `[proxy]`: how a proxy spreads, repeats and refuses requests.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::options::{Allowed, OptionInfo, SectionInfo, ms, option, secs};
use super::units::span;

/// What `[proxy]` is about.
pub const SECTION: SectionInfo = SectionInfo {
    name: "proxy",
    help: "How a proxy spreads, repeats and refuses requests: seen proxy, and seen serve within its process.",
    options: OPTIONS,
};

const OPTIONS: &[OptionInfo] = &[
    option(
        "hedge_after_min",
        Allowed::Span(ms(1), secs(10)),
        "A Filter is asked at a second replica once it takes longer than 95 of 100, but not before this.",
    ),
    option(
        "hedge_after_max",
        Allowed::Span(ms(1), secs(10)),
        "It is asked there after this long at the latest.",
    ),
    option(
        "extra_share",
        Allowed::Share(0.0, 1.0),
        "Requests that may be sent a second time, for whatever reason, as a share of all.",
    ),
    option(
        "suspect_after",
        Allowed::Span(ms(10), secs(60)),
        "A replica without a sign of life for this long is suspected: requests are asked elsewhere as well, at once.",
    ),
    option(
        "eject_after",
        Allowed::Span(ms(20), secs(60)),
        "After this long without one it is sent nothing more.",
    ),
    option(
        "moved_for",
        Allowed::Span(ms(0), secs(600)),
        "A user who was moved to another replica and brings no token is asked about in storage for at most this long; feed.stale_after or more.",
    ),
    option(
        "in_flight_max",
        Allowed::Count(1, 1_000_000),
        "Requests in flight at one thread; the adaptive limit stays below.",
    ),
    option(
        "rates",
        Allowed::Text("tag=requests a second, separated by commas, or nothing"),
        "The most requests a second of a tag that one proxy passes on; users of FilterUsers count one each.",
    ),
];

/// `[proxy]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct ProxyConfig {
    #[serde(with = "span")]
    pub hedge_after_min: Duration,
    #[serde(with = "span")]
    pub hedge_after_max: Duration,
    pub extra_share: f64,
    #[serde(with = "span")]
    pub suspect_after: Duration,
    #[serde(with = "span")]
    pub eject_after: Duration,
    #[serde(with = "span")]
    pub moved_for: Duration,
    pub in_flight_max: u32,
    pub rates: String,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            hedge_after_min: ms(2),
            hedge_after_max: ms(30),
            extra_share: 0.1,
            suspect_after: ms(50),
            eject_after: ms(300),
            moved_for: secs(6),
            in_flight_max: 65_536,
            rates: String::new(),
        }
    }
}

impl ProxyConfig {
    /// Checks every value against its range, and their order.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        SECTION.check(SECTION.name, self)?;
        let pairs = [
            ("hedge_after_max", self.hedge_after_max, "hedge_after_min", self.hedge_after_min),
            ("eject_after", self.eject_after, "suspect_after", self.suspect_after),
        ];
        for (key, value, other_key, other) in pairs {
            if value < other {
                return Err(OutOfRange {
                    key: format!("proxy.{key}"),
                    value: span::format(value),
                    allowed: format!("proxy.{other_key} ({}) or more", span::format(other)),
                });
            }
        }
        self.rates_per_s().map(|_| ())
    }

    /// [`Self::rates`], taken apart: requests a second by tag.
    ///
    /// # Errors
    /// Text that is not of that form.
    pub fn rates_per_s(&self) -> Result<BTreeMap<String, u32>, OutOfRange> {
        let parts = self.rates.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| rate(part).ok_or_else(|| self.bad_rates())).collect()
    }

    fn bad_rates(&self) -> OutOfRange {
        OutOfRange {
            key: "proxy.rates".to_owned(),
            value: self.rates.clone(),
            allowed: "tag=requests a second (1 to 100000000), separated by commas; for example push=50000,offline=10000".to_owned(),
        }
    }
}

fn rate(part: &str) -> Option<(String, u32)> {
    let (tag, number) = part.split_once('=')?;
    let per_s: u32 = number.trim().parse().ok()?;
    let fits = !tag.trim().is_empty() && (1..=100_000_000).contains(&per_s);
    fits.then(|| (tag.trim().to_owned(), per_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_taken_apart() {
        let with = |rates: &str| ProxyConfig { rates: rates.to_owned(), ..ProxyConfig::default() };
        assert_eq!(with("").rates_per_s().unwrap().len(), 0);
        let both = with(" push=50000, offline = 7 ").rates_per_s().unwrap();
        assert_eq!(
            both.into_iter().collect::<Vec<_>>(),
            [("offline".to_owned(), 7), ("push".to_owned(), 50_000)]
        );
        for bad in ["push", "push=0", "=5", "push=x", "push=5;offline=5"] {
            assert_eq!(with(bad).validate().unwrap_err().key, "proxy.rates", "{bad:?}");
        }
    }

    #[test]
    fn a_replica_is_suspected_before_it_is_ejected() {
        let config = ProxyConfig { eject_after: ms(40), ..ProxyConfig::default() };
        assert_eq!(config.validate().unwrap_err().key, "proxy.eject_after");
    }
}
