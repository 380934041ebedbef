//! Which parts a cluster on one machine has, and on which ports.

use std::fmt;

/// How many proxies there are.
const PROXIES: u16 = 2;
/// The pools: tag, slots, replicas of each slot.
const POOLS: [(&str, u16, u16); 2] = [("feed", 2, 2), ("offline", 1, 1)];
/// Ports that one part may take.
const PORTS_A_PART: u16 = 10;

/// What a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A proxy.
    Proxy,
    /// A replica of this slot of this pool.
    Replica {
        /// The pool's tag.
        pool: &'static str,
        /// The slot within the pool.
        slot: u16,
    },
}

/// One process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its name, as in `feed-0-1`: also of its log file.
    pub name: String,
    /// What it is.
    pub role: Role,
    first_port: u16,
}

impl Part {
    /// Where its gRPC API listens.
    pub fn api(&self) -> u16 {
        self.first_port
    }

    /// Where its admin API listens.
    pub fn admin(&self) -> u16 {
        self.first_port + 1
    }

    /// Where its metrics are.
    pub fn http(&self) -> u16 {
        self.first_port + 2
    }

    /// Where a replica's link listens.
    pub fn link(&self) -> u16 {
        self.first_port + 3
    }

    /// The command that it runs.
    pub fn command(&self) -> &'static str {
        match self.role {
            Role::Proxy => "proxy",
            Role::Replica { .. } => "replica",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Every part, proxies first, each with ports of its own from `port_base` on.
pub(super) fn parts(port_base: u16) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut add = |name: String, role: Role| {
        let number = parts.len() as u16;
        parts.push(Part { name, role, first_port: port_base + number * PORTS_A_PART });
    };
    for number in 0..PROXIES {
        add(format!("proxy-{number}"), Role::Proxy);
    }
    for (pool, slots, replicas) in POOLS {
        for slot in 0..slots {
            for number in 0..replicas {
                add(format!("{pool}-{slot}-{number}"), Role::Replica { pool, slot });
            }
        }
    }
    parts
}

/// Ports that all parts together may take.
pub(crate) fn port_count() -> u16 {
    let replicas: u16 = POOLS.iter().map(|(_, slots, replicas)| slots * replicas).sum();
    (PROXIES + replicas) * PORTS_A_PART
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_parts_share_a_port_or_a_name() {
        let parts = parts(7_500);
        assert_eq!(parts.len(), 7);
        let names: BTreeSet<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names.len(), parts.len());
        let ports = parts.iter().flat_map(|one| [one.api(), one.admin(), one.http(), one.link()]);
        let ports: BTreeSet<u16> = ports.collect();
        assert_eq!(ports.len(), parts.len() * 4);
        assert!(ports.iter().all(|port| (7_500..7_500 + port_count()).contains(port)));
    }
}
