//! The replica at the other end, and what a tool must know to ask it for entries.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use seen_cluster::link::transfer::TransferClient;
use seen_cluster::link::{ClientOptions, VERSION_MAX, VERSION_MIN};
use seen_cluster::map::key_check;
use seen_filter::{Incarnation, SlotKey, UserId, VirtualSet};
use seen_proto::v1;
use seen_replica::settings::namespace_digest;
use seen_replica::warm::{Ask, Dialect, NamespaceLine, STREAM_VERSIONS};

use crate::cli::CliError;
use crate::config::Config;
use crate::node::{self, LinkTls};

/// How long a replica may take to answer the hello.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// A replica that sends nothing for so long is given up; it may rest between entries, so as not to slow its callers.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Which users are meant.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Meant {
    /// Only users of these virtual slots, as in 0-1023,2050 [default: all]
    #[arg(long, value_name = "RANGES", value_parser = slots)]
    pub slots: Option<VirtualSet>,
    /// How many of the users, hottest first: more than 0, at most 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    pub share: f64,
    /// Only this history [default: all]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
}

impl Meant {
    /// In thousandths, at least one of them.
    pub fn share_permille(&self) -> u16 {
        ((self.share * 1_000.0).round() as u16).clamp(1, 1_000)
    }

    /// So many of these users.
    pub fn share_of(&self, users: u64) -> u64 {
        if self.share >= 1.0 { users } else { (users as f64 * self.share).ceil() as u64 }
    }
}

fn slots(text: &str) -> Result<VirtualSet, String> {
    let set = VirtualSet::parse(text)?;
    if set.is_empty() { Err("it names no slot; leave it out for all".to_owned()) } else { Ok(set) }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if share > 0.0 && share <= 1.0 { Ok(share) } else { Err("more than 0, at most 1".to_owned()) }
}

/// A `HOST:PORT`.
pub(in crate::cli) fn address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(1..)) => Ok(text.to_owned()),
        _ => Err("HOST:PORT, with a port of 1 to 65535".to_owned()),
    }
}

/// Says hello to a replica. A tool names neither cluster nor slot: it wants to be told.
///
/// # Errors
/// Nobody answers there, or somebody else than a replica.
pub(in crate::cli) async fn connect(
    flag: &str,
    address: &str,
    tls: Option<&LinkTls>,
) -> Result<TransferClient, CliError> {
    let hello = v1::LinkHello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        lane: v1::LinkLane::Transfer.into(),
        program: format!("seen {}", env!("CARGO_PKG_VERSION")),
        ..v1::LinkHello::default()
    };
    let mut options = ClientOptions::new(address, Arc::new(move || hello.clone()));
    options.connect_timeout = ANSWER_MAX;
    options.silence_timeout = SILENCE_MAX;
    options.write_timeout = SILENCE_MAX;
    if let Some(tls) = tls {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        options.tls = Some(tls.client.clone());
        options.tls_name = Some(tls.name.clone().unwrap_or_else(|| host.to_owned()));
    }
    let client = TransferClient::connect(options).await.map_err(|cut| {
        format!("{flag} {address}: {cut}; name the link port of a replica (cluster.link_listen)")
    })?;
    Ok(client)
}

/// What the configured store and namespaces say: whoever asks for entries must hash as the replicas do.
pub(in crate::cli) struct Own {
    dialect: Dialect,
    slot_key: SlotKey,
    namespaces: Vec<NamespaceLine>,
}

impl Own {
    /// Looks at the configured store.
    ///
    /// # Errors
    /// There is none, or it has no such namespace.
    pub async fn open(config: &Config, namespace: Option<&str>) -> Result<Self, CliError> {
        if !node::store_is_there(config) {
            let what = format!(
                "storage.data_dir {}: there is no store in it; name the cluster's (--config, --set)",
                config.storage.data_dir.display()
            );
            return Err(what.into());
        }
        let all = config.namespaces();
        let names: Vec<_> = all.iter().map(|one| one.name.as_str()).collect();
        if let Some(name) = namespace
            && !names.contains(&name)
        {
            let what =
                format!("--namespace {name}: not configured; there are {}", names.join(", "));
            return Err(what.into());
        }
        let meant = all.iter().filter(|one| namespace.is_none_or(|name| one.name == name));
        let namespaces = meant.map(|one| NamespaceLine {
            number: one.id,
            digest: namespace_digest(one),
            name: one.name.clone(),
        });
        let namespaces = namespaces.collect();
        let identity = node::store_identity(config).await?;
        let dialect = Dialect::own(identity.hash_key, identity.cluster);
        Ok(Self { dialect, slot_key: identity.slot_key, namespaces })
    }

    /// Whether a replica is of the configured store's cluster.
    ///
    /// # Errors
    /// It is of another one.
    pub fn check(
        &self,
        flag: &str,
        address: &str,
        replica: &v1::ReplicaIdentity,
    ) -> Result<(), CliError> {
        let same_key = replica.slot_key_check == key_check(&self.slot_key);
        if replica.cluster == self.dialect.cluster && same_key {
            return Ok(());
        }
        let what = format!(
            "{flag} {address}: it is of cluster {:016x}, and the configured store of {:016x}; name the cluster's \
             configuration (--config, --set)",
            replica.cluster, self.dialect.cluster
        );
        Err(what.into())
    }

    /// What to ask a donor for.
    pub fn ask(&self, meant: &Meant, share_permille: u16) -> Ask {
        let slots = meant.slots.as_ref().map_or(VirtualSet::ALL, |slots| slots.iter().collect());
        Ask {
            versions: STREAM_VERSIONS,
            dialect: self.dialect,
            // Drawn at random: a donor gives each receiver one stream at a time.
            receiver: Incarnation::new(RandomState::new().hash_one("seen")),
            slots,
            share_permille,
            namespaces: self.namespaces.clone(),
            users: Vec::new(),
        }
    }

    /// Whether a user is of these slots.
    pub fn is_of(&self, slots: &VirtualSet, user: UserId) -> bool {
        slots.contains(self.slot_key.virtual_slot(user))
    }
}
