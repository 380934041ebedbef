//! The calls of the API, one command each: `seen filter`, `mark`, `unmark`, `forget`, `history`,
//! `explain`, `status`.

pub mod admin;
pub mod explain;
pub mod filter;
pub mod forget;
pub mod history;
pub mod mark;
pub mod status;
pub mod table;

use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use seen_client::{ApiError, Client, ClientOptions, Item, Quality, Session, Timeouts};
use seen_proto::v1::DegradedReason;

use super::CliError;

/// The namespace that is meant where none is named: the first of the default configuration.
pub const NAMESPACE_DEFAULT: &str = "feed_read";

/// Which service to ask, and how to print its answer.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Where the service is
    #[arg(long, value_name = "URL", env = "SEEN_SERVER", default_value = "http://127.0.0.1:7420")]
    pub server: String,
    /// How long the call may take
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub timeout: humantime::Duration,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl Target {
    /// A client of the service.
    ///
    /// # Errors
    /// An address or a timeout that cannot be used.
    pub fn client(&self) -> Result<Client, CliError> {
        Ok(Client::new(self.options())?)
    }

    /// What the client is made with.
    pub fn options(&self) -> ClientOptions {
        let timeout: Duration = self.timeout.into();
        ClientOptions {
            timeouts: Timeouts {
                filter: timeout,
                push: timeout,
                write: timeout,
                forget: timeout,
                look: timeout,
            },
            connect_timeout: timeout,
            ..ClientOptions::new(&self.server)
        }
    }
}

/// Whose session it is.
#[derive(Debug, Clone, Args)]
pub struct Who {
    /// The user, a number of 64 bits
    #[arg(long, value_name = "ID")]
    pub user: u64,
    /// The session's token as an earlier command printed it
    #[arg(long, value_name = "BASE64", default_value = "")]
    pub token: String,
}

impl Who {
    /// The session, with its token.
    ///
    /// # Errors
    /// A token that is none.
    pub fn session(&self) -> Result<Session, CliError> {
        let token = BASE64.decode(self.token.trim()).map_err(|error| {
            format!("--token: not base64: {error}; pass it as it was printed, or leave it out")
        })?;
        Session::with_token(self.user, &token).map_err(described)
    }
}

/// An item as it is written on the command line: `kind:id`, or `id` of the `--kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemArg {
    kind: Option<u8>,
    id: u64,
}

impl ItemArg {
    /// The item, if `kind` is the one that is meant where none is written.
    pub fn of_kind(self, kind: u8) -> Item {
        Item::new(self.kind.unwrap_or(kind), self.id)
    }
}

impl FromStr for ItemArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, id) = match text.split_once(':') {
            None => (None, text),
            Some((kind, id)) => {
                let kind = kind.parse().map_err(|_| format!("kind {kind:?} is not 0 to 255"))?;
                (Some(kind), id)
            }
        };
        let id = id.parse().map_err(|_| format!("id {id:?} is not 0 to {}", u64::MAX))?;
        Ok(Self { kind, id })
    }
}

/// Some items.
#[derive(Debug, Clone, Args)]
pub struct Items {
    /// The class of the items, 0-255, where an item does not name its own
    #[arg(long, value_name = "KIND", default_value_t = 0)]
    pub kind: u8,
    /// The items: ID, or KIND:ID
    #[arg(required = true, value_name = "ITEM")]
    pub items: Vec<ItemArg>,
}

impl Items {
    /// The items in order.
    pub fn list(&self) -> Vec<Item> {
        self.items.iter().map(|item| item.of_kind(self.kind)).collect()
    }
}

/// Runs of neighbours of one kind: what the API takes as groups.
pub fn by_kind(items: &[Item]) -> impl Iterator<Item = (u8, impl Iterator<Item = u64> + '_)> {
    items.chunk_by(|a, b| a.kind == b.kind).filter_map(|run| {
        let kind = run.first()?.kind.get();
        Some((kind, run.iter().map(|item| item.id.get())))
    })
}

/// Runs one call to its end.
///
/// # Errors
/// The operating system gives no runtime, or the call's error.
pub fn block_on<T>(call: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(call)
}

/// A failed call, as a person is told: what, why, and which fields.
pub fn described(error: ApiError) -> CliError {
    let mut text = format!("{} ({})", error.message, error.kind.reason());
    let named = |field: &str| error.message.starts_with(field);
    for violation in error.violations.iter().filter(|one| !named(&one.field)) {
        text.push_str(&format!("\n  {}: {}", violation.field, violation.description));
    }
    text.into()
}

/// A token as it is printed.
pub fn printed(token: &[u8]) -> String {
    BASE64.encode(token)
}

/// How far an answer can be trusted, in one line.
pub fn quality_text(quality: &Quality) -> String {
    match quality {
        Quality::Exact => "exact".to_owned(),
        Quality::Filtered { rate } => {
            format!("filtered (at most {} of the unread are called read)", percent(*rate))
        }
        Quality::Degraded { rate, reason, unknown } => format!(
            "DEGRADED: {} (a read item may be called unread; {unknown} items unknown, {} of the \
             unread may be called read)",
            reason_text(*reason),
            percent(*rate)
        ),
    }
}

/// The same as JSON.
pub fn quality_json(quality: &Quality) -> serde_json::Value {
    match quality {
        Quality::Exact => serde_json::json!({ "level": "exact", "false_positive_rate": 0.0 }),
        Quality::Filtered { rate } => {
            serde_json::json!({ "level": "filtered", "false_positive_rate": rate })
        }
        Quality::Degraded { rate, reason, unknown } => serde_json::json!({
            "level": "degraded", "false_positive_rate": rate,
            "reason": reason_text(*reason), "unknown": unknown,
        }),
    }
}

fn reason_text(reason: DegradedReason) -> String {
    let name = reason.as_str_name().trim_start_matches("DEGRADED_REASON_");
    name.to_ascii_lowercase().replace('_', " ")
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    format!("{:.3} %", share * 100.0)
}

/// A time for people, in UTC.
pub fn time_text(ms: u64) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_millis(time).to_string()
}

/// A time on the command line: seconds or milliseconds since 1970, or RFC 3339.
///
/// # Errors
/// What is wrong with it.
pub fn parse_time(text: &str) -> Result<u64, String> {
    crate::history_file::parse_time(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_written_with_or_without_their_kind() {
        let item = |text: &str| text.parse::<ItemArg>().map(|item| item.of_kind(7));
        assert_eq!(item("12"), Ok(Item::new(7, 12)));
        assert_eq!(item("3:18446744073709551615"), Ok(Item::new(3, u64::MAX)));
        for bad in ["", "x", "256:1", "1:", ":1", "-1", "1:2:3", "18446744073709551616"] {
            assert!(item(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn groups_are_runs_so_that_positions_keep_their_order() {
        let items = [Item::new(1, 5), Item::new(1, 6), Item::new(2, 7), Item::new(1, 8)];
        let groups: Vec<(u8, Vec<u64>)> =
            by_kind(&items).map(|(kind, ids)| (kind, ids.collect())).collect();
        assert_eq!(groups, [(1, vec![5, 6]), (2, vec![7]), (1, vec![8])]);
    }

    #[test]
    fn an_error_names_its_fields_once() {
        let one = described(ApiError::invalid("items[3].kind", "300; at most 255")).to_string();
        assert_eq!(one, "items[3].kind: 300; at most 255 (INVALID_ARGUMENT)");
    }
}
