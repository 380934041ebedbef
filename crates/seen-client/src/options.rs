//! How a client is made: where the service is, how long calls may take, how often they are repeated.

use std::time::Duration;

use seen_proto::limits::{
    FORGET_TIMEOUT_MS_DEFAULT, PUSH_TIMEOUT_MS_DEFAULT, TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX,
};
use thiserror::Error;

/// Most connections of one client.
const CONNECTIONS_MAX: usize = 256;
/// Most attempts of one call.
const ATTEMPTS_MAX: u32 = 10;
/// Highest share of calls that may be repeated, in percent.
const RETRY_PERCENT_MAX: u32 = 100;

/// How long each kind of call may take, unless the call says otherwise. At most one minute each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Filter. 90 ms.
    pub filter: Duration,
    /// FilterUsers, all its messages together. 1 s.
    pub push: Duration,
    /// Mark and Unmark. 1 s: a write waits for a commit.
    pub write: Duration,
    /// Forget. 30 s.
    pub forget: Duration,
    /// A page of History, and Explain. 2 s.
    pub look: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            filter: Duration::from_millis(TIMEOUT_MS_DEFAULT.into()),
            push: Duration::from_millis(PUSH_TIMEOUT_MS_DEFAULT.into()),
            write: Duration::from_secs(1),
            forget: Duration::from_millis(FORGET_TIMEOUT_MS_DEFAULT.into()),
            look: Duration::from_secs(2),
        }
    }
}

/// How a client is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// Where the service is: `http://host:port`, or `host:port`.
    pub url: String,
    /// Connections, 1 to 256. A server handles one connection on one thread, so that a caller who
    /// wants more than one core's share needs several. Default 1.
    pub connections: usize,
    /// How long opening a connection may take. Default 1 s.
    pub connect_timeout: Duration,
    /// A connection with calls on it is pinged this often. Default 5 s.
    pub keepalive_interval: Duration,
    /// A ping that is unanswered for this long closes the connection, and its calls fail. Default 2 s.
    pub keepalive_timeout: Duration,
    /// How long calls may take.
    pub timeouts: Timeouts,
    /// How long one attempt of a call may take; `None` = as long as the call. A shorter time leaves
    /// room for another attempt where the first one is stuck. Default `None`.
    pub attempt_timeout: Option<Duration>,
    /// Most attempts of one call, the first included, 1 to 10. Default 3.
    pub attempts_max: u32,
    /// Attempts beyond the first, as a share of all calls, in percent, 0 to 100: when the service is
    /// overloaded, repeating everything would keep it so. Ten repeats are saved up at most, and given
    /// at the start. Default 5: with what the service itself may spend on its storage, that makes at
    /// most 1.1 attempts there a call.
    pub retry_percent_max: u32,
}

impl ClientOptions {
    /// Defaults for the service at this address.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            connections: 1,
            connect_timeout: Duration::from_secs(1),
            keepalive_interval: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(2),
            timeouts: Timeouts::default(),
            attempt_timeout: None,
            attempts_max: 3,
            retry_percent_max: 5,
        }
    }

    /// The same with this many connections.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first one out of range.
    pub fn validate(&self) -> Result<(), OptionsError> {
        in_range("connections", self.connections, 1, CONNECTIONS_MAX)?;
        in_range("attempts_max", self.attempts_max, 1, ATTEMPTS_MAX)?;
        in_range("retry_percent_max", self.retry_percent_max, 0, RETRY_PERCENT_MAX)?;
        let Timeouts { filter, push, write, forget, look } = self.timeouts;
        let spans = [
            ("connect_timeout", self.connect_timeout),
            ("keepalive_timeout", self.keepalive_timeout),
            ("timeouts.filter", filter),
            ("timeouts.push", push),
            ("timeouts.write", write),
            ("timeouts.forget", forget),
            ("timeouts.look", look),
            ("attempt_timeout", self.attempt_timeout.unwrap_or(filter)),
        ];
        for (field, span) in spans {
            span_in_range(field, span)?;
        }
        let interval_s = Duration::from_secs(3_600);
        if self.keepalive_interval.is_zero() || self.keepalive_interval > interval_s {
            let value = format!("{:?}", self.keepalive_interval);
            return Err(OptionsError::new("keepalive_interval", value, "more than 0, at most 1 h"));
        }
        Ok(())
    }
}

/// Checks a time against the longest that the service allows.
pub(crate) fn span_in_range(field: &'static str, span: Duration) -> Result<(), OptionsError> {
    let longest = Duration::from_millis(TIMEOUT_MS_MAX.into());
    if span < Duration::from_millis(1) || span > longest {
        return Err(OptionsError::new(field, format!("{span:?}"), "1 ms to 60 s"));
    }
    Ok(())
}

/// Checks a number against its range.
pub(crate) fn in_range<T: PartialOrd + std::fmt::Display>(
    field: &'static str,
    value: T,
    low: T,
    high: T,
) -> Result<(), OptionsError> {
    if value < low || value > high {
        return Err(OptionsError::new(field, value.to_string(), &format!("{low} to {high}")));
    }
    Ok(())
}

/// An option that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("client option {field} = {value}; allowed: {allowed}")]
pub struct OptionsError {
    /// Its name.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What would be allowed.
    pub allowed: String,
}

impl OptionsError {
    pub(crate) fn new(field: &'static str, value: impl Into<String>, allowed: &str) -> Self {
        Self { field, value: value.into(), allowed: allowed.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed_and_what_is_out_of_range_is_named() {
        let good = ClientOptions::new("http://127.0.0.1:7420");
        assert_eq!(good.validate(), Ok(()));
        let bad = |change: fn(&mut ClientOptions)| {
            let mut options = good.clone();
            change(&mut options);
            options.validate().unwrap_err().field
        };
        assert_eq!(bad(|o| o.connections = 0), "connections");
        assert_eq!(bad(|o| o.attempts_max = 11), "attempts_max");
        assert_eq!(bad(|o| o.retry_percent_max = 101), "retry_percent_max");
        assert_eq!(bad(|o| o.timeouts.write = Duration::from_secs(61)), "timeouts.write");
        assert_eq!(bad(|o| o.attempt_timeout = Some(Duration::ZERO)), "attempt_timeout");
        assert_eq!(bad(|o| o.keepalive_interval = Duration::ZERO), "keepalive_interval");
    }
}
