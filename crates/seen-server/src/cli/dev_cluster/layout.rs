//! Which parts a cluster on one machine has, and on which ports.

use std::fmt;

/// How many proxies there are.
const PROXIES: u16 = 2;
/// The pools: tag, slots, replicas of each slot.
const POOLS: [(&str, u16, u16); 2] = [("feed", 2, 2), ("offline", 1, 1)];
/// A slot that is in no map at first: its pool's tag, its number, its replicas.
const SPARE: (&str, u16, u16) = ("feed", 2, 2);
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
    /// Where others reach a replica's link, if not at its port: something stands in front of it.
    pub way: Option<u16>,
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

    /// Where the map says that a replica's link is.
    pub fn named(&self) -> u16 {
        self.way.unwrap_or(self.link())
    }

    /// A replica's pool and slot.
    pub fn slot(&self) -> Option<(&'static str, u16)> {
        match self.role {
            Role::Proxy => None,
            Role::Replica { pool, slot } => Some((pool, slot)),
        }
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
        let first_port = port_base + number * PORTS_A_PART;
        parts.push(Part { name, role, first_port, way: None });
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

/// The replicas of a slot that may come, on the ports after all others.
pub(super) fn spare_parts(port_base: u16) -> Vec<Part> {
    let (pool, slot, replicas) = SPARE;
    let part = |number| Part {
        name: format!("{pool}-{slot}-{number}"),
        role: Role::Replica { pool, slot },
        first_port: port_base + port_count() + number * PORTS_A_PART,
        way: None,
    };
    (0..replicas).map(part).collect()
}

/// Ports that all parts together may take, without the spare ones.
pub(super) fn port_count() -> u16 {
    let replicas: u16 = POOLS.iter().map(|(_, slots, replicas)| slots * replicas).sum();
    (PROXIES + replicas) * PORTS_A_PART
}

/// Ports that the spare parts may take.
pub(super) fn spare_port_count() -> u16 {
    SPARE.2 * PORTS_A_PART
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_parts_share_a_port_or_a_name() {
        let mut parts = parts(7_500);
        assert_eq!(parts.len(), 7);
        parts.extend(spare_parts(7_500));
        assert_eq!(parts.len(), 9);
        let names: BTreeSet<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names.len(), parts.len());
        let ports = parts.iter().flat_map(|one| [one.api(), one.admin(), one.http(), one.link()]);
        let ports: BTreeSet<u16> = ports.collect();
        assert_eq!(ports.len(), parts.len() * 4);
        let end = 7_500 + port_count() + spare_port_count();
        assert!(ports.iter().all(|port| (7_500..end).contains(port)));
    }
}
