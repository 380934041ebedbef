//! Free ports, each held by one test process at a time.

mod closing;

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

use crate::cache;
use crate::error::{Error, While};

/// From here: below lie the ports that are known by heart.
const FIRST: u16 = 12_000;
/// How many: each leaves a small file. The kernel hands out those from 32768 on to anyone who connects.
const COUNT: u16 = 4_000;
/// How often to try another one.
const TRIES: u32 = 200;

/// A port that nobody listened on when it was taken, and that no other testbed of this user takes as
/// long as this lives: a server keeps it while it is down.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// Locked. The system unlocks it with the end of the process, however that comes.
    _claim: File,
}

impl Port {
    /// Takes one for a server that is started later.
    pub(crate) fn take() -> Result<Self, Error> {
        let (port, listener) = Self::listen()?;
        close(&listener);
        Ok(port)
    }

    /// Takes one at random, listening: processes that start together do not race along one line.
    pub(crate) fn listen() -> Result<(Self, TcpListener), Error> {
        let claims = cache::subfolder("ports")?;
        for _ in 0..TRIES {
            let number = FIRST + random_below(COUNT);
            let path = claims.join(number.to_string());
            let claim = OpenOptions::new().create(true).append(true).open(&path);
            let claim = claim.when(|| format!("open {}", path.display()))?;
            if claim.try_lock().is_err() {
                continue;
            }
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, number)) {
                return Ok((Self { number, _claim: claim }, listener));
            }
        }
        Err(Error::NoPort { tried: TRIES })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

/// Closes a listener, for the whole machine and at once.
///
/// A process that another thread is just starting holds a copy of each of this one's sockets until it has become
/// its program. Dropping alone would leave the port listened on for that long.
pub(crate) fn close(listener: &TcpListener) {
    closing::shut(listener);
}

fn random_below(end: u16) -> u16 {
    let drawn = RandomState::new().hash_one(std::process::id()) % u64::from(end);
    u16::try_from(drawn).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_below_the_ephemeral_range_and_differ() {
        let ports: Vec<Port> = (0..50).map(|_| Port::take().expect("a port")).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        assert!(numbers.iter().all(|number| *number < 32_768), "{numbers:?}");
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
    }

    #[test]
    fn a_closed_port_is_free_though_a_starting_process_has_a_copy_of_its_socket() {
        let (port, listener) = Port::listen().expect("a port");
        let copy = listener.try_clone().expect("what a process has that is being started");
        close(&listener);
        drop(listener);
        let again = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number()));
        again.expect("free again");
        drop(copy);
    }
}
