//! A whole cluster in simulated time: the real proxies and replicas, with their real links, tokens, warm-up and
//! change feed, over a network and a storage that fail as a seed says.
//!
//! Everything runs in one runtime of one thread, whose clock stands still while anything can run. Whatever could differ between
//! two runs is drawn from the seed, so that a seed is a story that can be told again, event by event.
//!
//! - [`play`]: a seed from its start to the last check. [`Played::story`] tells what broke.
//! - [`process`], [`net`], [`storage`]: the machines, and what lies between them.
//! - [`replica`], [`proxy`], [`peers`](self): the real parts, put together as the server does.
//! - [`workload`], [`caller`], [`faults`], [`aim`]: what is done to them. [`ledger`], [`checker`]: what must come of it.
//!
//! What is promised, by the numbers that a broken promise is told with: (1) no acknowledged mark is missing in storage; (2) no
//! unflagged answer calls an item unread that was marked by a write whose token the reader carries, and none at all does once
//! all is applied; (3) every replica's memory covers storage in the end; (4) every call is answered within its deadline, and the
//! cluster becomes well again; (5) false positives stay within the rate, and exact answers have none; (6) nothing is flagged
//! without a fault, or once all is well; (7) who was forgotten stays forgotten; (8) a write that its caller gave up is not begun.

#![deny(unsafe_code)]

pub mod aim;
pub mod caller;
pub mod checker;
pub mod cluster;
mod dice;
pub mod faults;
pub mod ledger;
pub mod net;
mod peers;
pub mod process;
pub mod proxy;
mod pushes;
pub mod replica;
mod report;
pub mod sabotage;
pub mod storage;
pub mod time;
mod trace;
pub mod workload;
mod world;

pub use dice::Dice;
pub use report::{Broken, Played, Report};
pub use trace::{Event, Trace};
pub use world::{Options, World, play};
