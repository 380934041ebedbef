//! `seen serve --seed`: an import into the node of this process, before it is called ready.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use seen_client::Client;

use super::sample::Sample;
use super::token::Written;
use super::verify;
use super::{HowMany, ImportArgs, load, malformed_text, options};
use crate::cli::calls::table::grouped;
use crate::cli::{CliError, ConfigSources};
use crate::config::{Config, NamespaceConfig};
use crate::history_file::MALFORMED_MAX_DEFAULT;
use crate::shutdown::Stop;

/// Streams that a seed is sent over; fewer where the server takes fewer connections.
const STREAMS_MAX: u32 = 2;
/// Events that are looked up afterwards: as many as `seen import` does.
const LOOKED_UP: usize = 10_000;

/// Loads a history into the first namespace of the node that listens at `api`, by the same way as
/// `seen import`, and looks a sample up. Nothing is written beside the file, and a repeated seed does
/// no harm. Returns early once `stop` is requested.
///
/// # Errors
/// A file that cannot be used, a service that refuses, or events that are missing afterwards.
pub(crate) async fn seed(
    file: &Path,
    config: &Config,
    api: SocketAddr,
    stop: &Stop,
) -> Result<(), CliError> {
    let namespace = config.namespace.first().ok_or("--seed: no namespace is configured")?;
    let streams = config.server.connections_max.min(STREAMS_MAX) as u16;
    let args = arguments(file.to_owned(), reachable(api), namespace.name.clone(), streams);
    let client = Client::new(options(&args))?;
    eprintln!("seen: loading {} into {}, before it is ready", file.display(), namespace.name);
    let mut sample = Sample::new(looked_up(namespace));
    let work = async {
        let loaded =
            load::load(&args, &client, file, None, &mut sample, &mut Written::new(), stop).await?;
        eprint!("{}", malformed_text(file, loaded.malformed, &loaded.first_malformed));
        let verified = verify::sample(&args, &client, sample.into_events()).await?;
        Ok::<_, CliError>((loaded, verified))
    };
    let (loaded, verified) = tokio::select! {
        biased;
        // The node drains and takes no more: acknowledgements are not waited for.
        () = stop.requested() => return Ok(()),
        done = work => done?,
    };
    verified.stories.iter().for_each(|story| eprintln!("{story}"));
    let (events, checked) = (grouped(loaded.events), grouped(verified.checked));
    let (name, path) = (&namespace.name, file.display());
    if verified.missing > 0 {
        let missing = grouped(verified.missing);
        return Err(format!("{path}: of {checked} events looked up {missing} are missing").into());
    }
    eprintln!(
        "seen: {events} events of {path} loaded into {name}; {checked} looked up, none missing"
    );
    Ok(())
}

fn arguments(file: PathBuf, server: String, namespace: String, streams: u16) -> ImportArgs {
    ImportArgs {
        files: vec![file],
        server,
        direct: false,
        sources: ConfigSources::default(),
        namespace,
        columns: None,
        rate: None,
        streams,
        checkpoint_dir: None,
        restart: true,
        verify: HowMany::Sample(LOOKED_UP),
        malformed_max: MALFORMED_MAX_DEFAULT,
        json: false,
    }
}

/// How many events are looked up. A namespace that lets go of old items may rightly have dropped some
/// of an old history: there nothing can be said about what is missing.
fn looked_up(namespace: &NamespaceConfig) -> usize {
    let keeps_all = namespace.retention.is_none() && namespace.newest_max.is_none();
    if keeps_all { LOOKED_UP } else { 0 }
}

/// The address under which this machine reaches what listens there.
fn reachable(mut at: SocketAddr) -> String {
    if at.ip().is_unspecified() {
        at.set_ip(match at {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    format!("http://{at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_listens_everywhere_is_reached_on_this_machine() {
        let url = |at: &str| reachable(at.parse().expect("an address"));
        assert_eq!(url("0.0.0.0:7420"), "http://127.0.0.1:7420");
        assert_eq!(url("[::]:7420"), "http://[::1]:7420");
        assert_eq!(url("10.1.2.3:7420"), "http://10.1.2.3:7420");
    }
}
