//! Many replicas in one process: as many links as one likes, each of another slot or another replica of it, over one
//! replica whose memory they share. To a proxy, which sees addresses and identities, they are different ones, and each has
//! a thread of its own as a process would.

use seen_filter::VirtualSet;
use std::net::{AddrParseError, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use seen_cluster::link::ServerOptions;
use seen_cluster::map::{MapSource, SourceOptions};
use seen_replica::Replica;
use seen_replica::link::readiness::ReadinessLimits;
use seen_replica::link::{ClusterRole, ReplicaLink, Standing};
use seen_replica::warm::{DonorLimits, Progress};
use tokio::net::TcpListener;

use crate::cli::CliError;
use crate::config::ClusterConfig;
use crate::serving::{LinkOptions, LinkThreads};
use crate::shutdown::Stop;

/// How long links that end may take.
const DRAIN: Duration = Duration::from_secs(1);
/// Links of one replica.
const LINKS_MAX: usize = 64;

/// A replica of a slot, and where its link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::bench) struct Placed {
    /// Its pool.
    pub pool: String,
    /// Its slot.
    pub slot: u16,
    /// Its link's address.
    pub link: String,
}

impl Placed {
    /// Where its link is.
    ///
    /// # Errors
    /// It is no address.
    pub fn address(&self) -> Result<SocketAddr, AddrParseError> {
        self.link.parse()
    }

    /// As [`placed`] reads it.
    pub fn text(&self) -> String {
        format!("{}/{}={}", self.pool, self.slot, self.link)
    }
}

/// Reads `pool/slot=address`.
pub(in crate::bench) fn placed(text: &str) -> Result<Placed, String> {
    let wrong = || format!("{text:?} is not of the form pool/slot=address");
    let (place, link) = text.split_once('=').ok_or_else(wrong)?;
    let (pool, slot) = place.split_once('/').ok_or_else(wrong)?;
    let slot = slot.parse().map_err(|_| wrong())?;
    Ok(Placed { pool: pool.to_owned(), slot, link: link.to_owned() })
}

/// Serves all these links until `stop`.
///
/// # Errors
/// The map, or a port or thread that is refused.
pub(in crate::bench) async fn links(
    replica: &Arc<Replica>,
    map: &Path,
    links: &[Placed],
    stop: &Stop,
) -> Result<(), CliError> {
    let (map, _) = MapSource::start(SourceOptions::new(map)).await?;
    let standing = Arc::new(Standing::new(Arc::clone(replica)));
    standing.set_map(map.current().map.epoch.get(), &VirtualSet::ALL, None);
    let kept = Arc::clone(&standing);
    tokio::spawn(async move {
        kept.keep(ReadinessLimits::default(), &Progress::none(), Vec::new).await;
    });
    for placed in links {
        let link = Arc::new(ReplicaLink::new(Arc::clone(&standing), role(placed)));
        let listener = TcpListener::bind(placed.address()?).await?;
        let options = LinkOptions {
            threads: 1,
            links_max: LINKS_MAX,
            server: ServerOptions::default(),
            tls: None,
        };
        let threads = LinkThreads::start(options, &link)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            threads.serve(listener, stop.requested_within(), DRAIN).await;
        });
    }
    Ok(())
}

fn role(placed: &Placed) -> ClusterRole {
    ClusterRole {
        pool: placed.pool.clone(),
        slot: placed.slot.into(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        credit_bytes: ClusterConfig::default().link_credit_bytes,
        donor: DonorLimits::default(),
    }
}
