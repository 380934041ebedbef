//! The link: its bytes, its hello, and both of its ends over real sockets and streams in memory.

mod client;
mod codec;
mod counted;
mod drain;
mod flow;
mod hello;
mod hostile;
mod late;
mod life;
mod neighbours;
mod pair;
mod raw;
mod secured;
mod sharing;
mod transfers;
