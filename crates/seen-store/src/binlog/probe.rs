//! A second look at the server: a heartbeat proves nothing if the log that it comes from is not the
//! one that is written (coherence row 25). After `RESET MASTER` a MariaDB server goes on sending
//! heartbeats to whoever reads the old file, and none of what is written to the new one.

use std::time::Duration;

use mysql_async::Conn;
use tokio::time::{Instant, timeout};

use super::BinlogOptions;
use super::connect::{Trouble, head_number, to};
use super::place::Place;
use crate::mysql::ServerAddress;

/// How many heartbeats may come after a look before what it saw; more than one was sent before it.
const BEATS_MAX: u32 = 2;

/// What a heartbeat is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing followed.
    Fresh,
    /// Not known.
    Unproven,
    /// The log that is read is not the one that is written.
    Stuck,
}

/// Compares what was read with where the server says it is.
pub(super) struct Probe {
    interval: Duration,
    due_at: Instant,
    conn: Option<Conn>,
    /// A number that must still come, and how many heartbeats came instead.
    owed: Option<(u64, u32)>,
}

impl Probe {
    /// One that looks no more often than this.
    pub fn new(interval: Duration) -> Self {
        Self { interval, due_at: Instant::now() + interval, conn: None, owed: None }
    }

    /// A heartbeat came, and nothing after it.
    pub async fn heartbeat(
        &mut self,
        options: &BinlogOptions,
        address: &ServerAddress,
        place: &Place,
    ) -> Standing {
        if let Some((head, beats)) = self.owed {
            if place.done < head {
                self.owed = Some((head, beats + 1));
                return if beats < BEATS_MAX { Standing::Unproven } else { Standing::Stuck };
            }
            self.owed = None;
        }
        if Instant::now() < self.due_at {
            return Standing::Fresh;
        }
        match timeout(self.interval, self.head(options, address, place)).await {
            Ok(Ok(head)) => {
                self.due_at = Instant::now() + self.interval;
                if head < place.newest() {
                    return Standing::Stuck;
                }
                if head > place.done {
                    self.owed = Some((head, 0));
                    return Standing::Unproven;
                }
                Standing::Fresh
            }
            Ok(Err(_)) | Err(_) => {
                self.conn = None;
                Standing::Unproven
            }
        }
    }

    async fn head(
        &mut self,
        options: &BinlogOptions,
        address: &ServerAddress,
        place: &Place,
    ) -> Result<u64, Trouble> {
        let conn = match &mut self.conn {
            Some(conn) => conn,
            none => none.insert(to(options, address).await?),
        };
        head_number(conn, place).await
    }
}
