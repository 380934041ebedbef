//! `seen replica`: one slot's users, for proxies and, beside that, by gRPC for tools.

use std::process::ExitCode;

use super::CliError;
use super::part::PartArgs;
use crate::node::{Node, NodeOptions};

/// Serves until a signal, or the admin's Drain, ends it.
///
/// # Errors
/// What keeps the replica from starting or from ending well.
pub fn run(args: PartArgs) -> Result<ExitCode, CliError> {
    args.run(|config, metrics, stop| async move {
        let options = NodeOptions { config, ephemeral: false, linked: true };
        let node = Node::start_with(options, metrics, stop, &[]).await?;
        tokio::select! {
            biased;
            () = node.stop_requested() => {}
            () = node.ready() => {
                announce(&node);
                node.stop_requested().await;
            }
        }
        Ok(node.stop().await?)
    })
}

fn announce(node: &Node) {
    let at = node.addresses();
    let link = at.link.map(|link| format!("link {link}, ")).unwrap_or_default();
    eprintln!("seen: replica on {} ({link}admin {}, http {})", at.api, at.admin, at.http);
}
