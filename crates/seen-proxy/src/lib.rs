//! The proxy: it reads whom a request is about, and nothing else of it, and passes its bytes to one of the
//! replicas of that user's slot. It keeps no state that another proxy would need.
//!
//! - [`Proxy`]: one for each serving thread; it answers [calls](seen_api::Calls) by asking replicas.
//! - [`Connector`], [`LinkConnector`], [`LocalConnector`]: how it comes to its links.
//! - `state`, `attempt`: the life of a request; `spans`: as a trace shows it. `choose`: who is asked. `net`, `directory`: who is known.
//! - [`health`], [`breaker`], [`outlier`]: who is left out. [`budget`], [`limit`], [`latency`]: how much is done, and when
//!   something is done twice. [`moved`]: sessions without a token.

#![deny(unsafe_code)]

mod answer;
mod attempt;
pub mod breaker;
pub mod budget;
mod choose;
mod connect;
mod directory;
#[cfg(test)]
mod fake;
mod flight;
pub mod health;
pub mod latency;
pub mod limit;
mod local;
pub mod metrics;
pub mod moved;
mod net;
mod options;
pub mod outlier;
mod proxy;
mod replica;
mod route;
pub mod slab;
mod spans;
mod state;
#[cfg(test)]
mod tests;
mod users;
pub mod wheel;

pub use connect::LinkConnector;
pub use directory::Connector;
pub use limit::Rates;
pub use local::{LocalConnector, map_of_one};
pub use options::{Clock, ProxyOptions};
pub use proxy::Proxy;
pub use replica::Target;
