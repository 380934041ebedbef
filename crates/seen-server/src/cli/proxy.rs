//! `seen proxy`: routes every call to a replica of its user's slot.

use std::process::ExitCode;

use super::CliError;
use super::part::PartArgs;
use crate::proxy_node::ProxyNode;

/// Serves until a signal, or the admin's Drain, ends it.
///
/// # Errors
/// What keeps the proxy from starting or from ending well.
pub fn run(args: PartArgs) -> Result<ExitCode, CliError> {
    args.run(|config, metrics, stop| async move {
        let node = ProxyNode::start(config, metrics, stop.clone()).await?;
        tokio::select! {
            biased;
            () = stop.requested() => {}
            () = node.ready() => {
                let at = node.addresses();
                eprintln!("seen: proxy on {} (admin {}, http {})", at.api, at.admin, at.http);
                stop.requested().await;
            }
        }
        Ok(node.stop().await?)
    })
}
