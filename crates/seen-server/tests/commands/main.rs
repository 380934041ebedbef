//! The commands that talk to a service, as a person or a script runs them: the compiled binary,
//! real sockets, a real store.

mod calls;
mod import;
mod liar;
mod replay;
mod stage;
