//! The commands that talk to a service, as a person or a script runs them: the compiled binary,
//! real sockets, a real store.

mod calls;
mod export;
mod feed_decode;
mod import;
mod liar;
#[path = "../api/process.rs"]
#[allow(dead_code, reason = "shared with the tests of crashes, which use all of it")]
mod process;
mod replay;
mod seed;
mod stage;
