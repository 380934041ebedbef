//! Packets that are lost, by rules of nftables on the loopback interface. The drill has to run as root, best in a network
//! namespace of its own (`scripts/faults`): then nobody else is concerned, and nothing is left behind.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The table of all rules.
const TABLE: &str = "inet seen_drill";

/// Where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Between the replicas and storage.
    Storage,
    /// Between proxies, or peers, and one replica.
    OneLink,
    /// The same with all replicas of all slots.
    Links,
}

/// What becomes of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// None passes.
    Silent,
    /// What the port's owner sends does not.
    OneWay,
    /// Who sends to the port is told that nobody is there.
    Refused,
    /// So many percent are lost.
    Loss(u8),
    /// What is beyond so many KB/s is lost, each way.
    Narrow(u32),
}

/// Has it so for these ports, instead of whatever was before.
///
/// # Errors
/// What nft says.
pub(super) async fn begin(network: Network, ports: &[u16]) -> Result<(), String> {
    heal().await?;
    nft(&rules(network, ports)).await
}

/// Lets everything pass.
///
/// # Errors
/// What nft says.
pub(super) async fn heal() -> Result<(), String> {
    // Made first, so that it is no error if it is not there.
    nft(&format!("table {TABLE} {{}}\ndelete table {TABLE}\n")).await
}

fn rules(network: Network, ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let ports = ports.join(", ");
    let lost = |which: &str| format!("tcp {which} {{ {ports} }}");
    let (to, from) = (lost("dport"), lost("sport"));
    let rules = match network {
        Network::Silent => format!("{to} drop\n{from} drop"),
        Network::OneWay => format!("{from} drop"),
        Network::Refused => format!("{to} reject with tcp reset"),
        Network::Loss(percent) => {
            let drawn = format!("numgen random mod 100 < {percent} drop");
            format!("{to} {drawn}\n{from} {drawn}")
        }
        Network::Narrow(kb_per_s) => {
            let beyond = format!("limit rate over {kb_per_s} kbytes/second drop");
            format!("{to} {beyond}\n{from} {beyond}")
        }
    };
    format!(
        "table {TABLE} {{\nchain input {{\ntype filter hook input priority 0; policy accept;\n{rules}\n}}\n}}\n"
    )
}

async fn nft(script: &str) -> Result<(), String> {
    let run = async {
        let mut child = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(script.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = run.await.map_err(|error| format!("nft: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_one_way_is_what_the_port_sends() {
        let rules = rules(Network::OneWay, &[7, 8]);
        assert!(rules.contains("tcp sport { 7, 8 } drop"), "{rules}");
        assert!(!rules.contains("dport"), "{rules}");
    }
}
