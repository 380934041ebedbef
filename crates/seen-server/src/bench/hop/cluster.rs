//! A proxy and its replicas, started and looked after.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use seen_client::{Admin, Client, ClientOptions};
use seen_cluster::map::{
    Epoch, MapDraft, PoolDraft, ReplicaAddress, Slot, SlotMap, SlotNumber, WEIGHT_DEFAULT,
};
use seen_filter::hash::VIRTUAL_SLOTS;
use seen_filter::{VirtualSet, VirtualSlot};
use seen_proto::v1::TrafficStatus;
use tempfile::TempDir;

use super::many::Placed;
use crate::bench::filter::{ITEMS, TIMEOUT, block_on, verified};
use crate::bench::load::{FILTER, LeanTarget, Writer};
use crate::bench::marks::metrics;
use crate::bench::part::Part;
use crate::bench::process::cpu_time;
use crate::bench::synthetic::Filters;
use crate::bench::{BenchError, Plan, certificates, system};
use crate::config::Config;
use crate::node::store_identity;

/// Users whose answers are looked at before anything is measured.
const VERIFIED_USERS: u64 = 50;

/// What is to be started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// Users in the memory of each replica.
    pub users: u64,
    /// Tag, slots, replicas of each slot; the first is the default.
    pub pools: &'static [(&'static str, u16, u16)],
    /// All replicas in one process, each with a link and a thread of its own.
    pub in_one: bool,
    pub tls: bool,
    /// As `proxy.rates`.
    pub rates: &'static str,
}

impl Wish {
    /// One replica.
    pub const fn one(users: u64) -> Self {
        Self { users, pools: &[("feed", 1, 1)], in_one: false, tls: false, rates: "" }
    }
}

/// A proxy and its replicas.
pub(super) struct Hop {
    pub proxy: Part,
    pub replicas: Vec<Part>,
    /// The proxy, asked for Filters.
    pub target: LeanTarget,
    /// Where certificates are.
    pub tls: Option<PathBuf>,
    users: u64,
    _folder: TempDir,
}

impl Hop {
    /// Starts all of it, its files in a folder within the plan's that is removed at the end.
    ///
    /// # Errors
    /// [`BenchError`]; wrong answers among them.
    pub fn start(wish: &Wish, plan: &Plan) -> Result<Self, BenchError> {
        let folder = tempfile::Builder::new().prefix("seen-bench-").tempdir_in(&plan.dir);
        let folder = folder.map_err(system("cannot make a folder for the cluster"))?;
        let tls = wish.tls.then(|| folder.path().to_owned());
        if let Some(tls) = &tls {
            certificates::make(tls)?;
        }
        let links = links(wish).map_err(system("cannot find free ports"))?;
        let map = folder.path().join("map.toml");
        let data = folder.path().join("data");
        let text = made(&data, wish, &links)?.to_toml();
        std::fs::write(&map, text).map_err(system("cannot write the map of slots"))?;
        let mut common = vec![format!("--threads=1"), format!("--map={}", map.display())];
        common.extend(tls.as_ref().map(|tls| format!("--tls={}", tls.display())));
        let replica = |links: &[Placed]| {
            let mut args = common.clone();
            args.push(format!("--users={}", wish.users));
            args.push(format!("--items={ITEMS}"));
            args.push(format!("--data-dir={}", data.display()));
            args.extend(links.iter().map(|link| format!("--link={}", link.text())));
            Part::start("serve", &args)
        };
        let each = if wish.in_one { links.len() } else { 1 };
        let replicas = links.chunks(each).map(replica).collect::<Result<Vec<_>, _>>()?;
        common.push(format!("--rates={}", wish.rates));
        let proxy = Part::start("proxy", &common)?;
        let target = LeanTarget {
            address: proxy.address("api")?,
            path: FILTER,
            timeout: TIMEOUT,
            tag: None,
            tls: tls.as_deref().map(certificates::client).transpose().map_err(cluster)?,
        };
        let hop = Self { proxy, replicas, target, tls, users: wish.users, _folder: folder };
        hop.verify()?;
        Ok(hop)
    }

    /// Refuses to measure a cluster whose answers are wrong.
    fn verify(&self) -> Result<(), BenchError> {
        if self.tls.is_some() {
            return Ok(());
        }
        let url = format!("http://{}", self.target.address);
        block_on(async {
            let client = Client::new(ClientOptions::new(url))
                .map_err(|error| BenchError::Wrong(error.to_string()))?;
            for at in 0..VERIFIED_USERS.min(self.users) {
                verified(&client, at * self.users / VERIFIED_USERS).await?;
            }
            Ok(())
        })
    }

    /// Filters of the users in memory, for one thread of the load.
    pub fn filters(&self, seed: u64) -> Writer {
        let mut filters = Filters::new(self.users, ITEMS, seed);
        Box::new(move |out| filters.put(out))
    }

    /// CPU that the proxy has taken, and all replicas together.
    pub fn cpu(&self) -> Result<(Duration, Duration), BenchError> {
        let replicas = self.replicas.iter().map(Part::cpu).sum::<Result<Duration, _>>()?;
        Ok((self.proxy.cpu()?, replicas))
    }

    /// What else was going on than answers from memory, for the notes.
    ///
    /// # Errors
    /// A part is gone.
    pub fn looked_at(&self) -> Result<String, BenchError> {
        let flagged = match self.replicas.first() {
            Some(replica) => traffic(replica)?.degraded,
            None => 0,
        };
        let http = self.proxy.address("http")?;
        let text = metrics(http).map_err(system("cannot read the proxy's metrics"))?;
        let count = |name: &str, label: &str| sum(&text, name, label);
        let requests = count("seen_link_requests_total", "lane=\"filters\"");
        let writes = count("seen_link_writes_total", "lane=\"filters\"").max(1.0);
        Ok(format!(
            "{:.1} requests in a write to a replica, {} hedges, {} answers of the proxy's own, {flagged} flagged by the replica, {} refused",
            requests / writes,
            count("seen_proxy_attempts_total", "why=\"hedge\""),
            count("seen_proxy_own_answers_total", ""),
            count("seen_proxy_shed_total", ""),
        ))
    }
}

/// The sum of a metric's values with a label.
fn sum(text: &str, name: &str, label: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// What a part was asked and what became of it.
fn traffic(part: &Part) -> Result<TrafficStatus, BenchError> {
    let url = format!("http://{}", part.address("admin")?);
    let status = block_on(async {
        let admin = Admin::new(&ClientOptions::new(url))
            .map_err(|error| BenchError::Wrong(error.to_string()))?;
        admin.status().await.map_err(|error| BenchError::Call { what: "Status", error })
    })?;
    Ok(status.traffic.unwrap_or_default())
}

/// After all those questions storage must not have been asked, nor anything degraded.
pub(super) fn all_from_memory(part: &Part) -> Result<(), BenchError> {
    let traffic = traffic(part)?;
    // What waited for longer than its caller is an error: on a busy machine there are a few.
    let rare = traffic.filters / 1_000;
    if traffic.filters - traffic.hits > rare || traffic.degraded > rare || traffic.errors > rare {
        let what = format!("not every filter was answered from memory: {traffic:?}");
        return Err(BenchError::Wrong(what));
    }
    Ok(())
}

/// CPU of this process, which makes the load.
pub(super) fn own_cpu() -> Result<Duration, BenchError> {
    cpu_time(std::process::id()).map_err(system("cannot read the CPU"))
}

fn cluster(error: impl ToString) -> BenchError {
    BenchError::Cluster(error.to_string())
}

/// Every replica of the wish, each at a port that nobody has now.
fn links(wish: &Wish) -> io::Result<Vec<Placed>> {
    let mut held = Vec::new();
    let mut links = Vec::new();
    for (pool, slots, replicas) in wish.pools {
        for at in 0..slots * replicas {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let address: SocketAddr = listener.local_addr()?;
            held.push(listener);
            let (pool, slot) = ((*pool).to_owned(), at / replicas);
            links.push(Placed { pool, slot, link: address.to_string() });
        }
    }
    Ok(links)
}

/// The map of all these, for a store that is made with it.
fn made(data: &Path, wish: &Wish, links: &[Placed]) -> Result<SlotMap, BenchError> {
    let mut config = Config::default();
    config.storage.data_dir = data.to_owned();
    let identity = block_on(async { store_identity(&config).await.map_err(cluster) })?;
    let pool = |(tag, count, _): &(&'static str, u16, u16)| {
        let slots = (0..*count).map(|number| slot(tag, number, *count, links)).collect();
        PoolDraft { tag: (*tag).to_owned(), slots }
    };
    let pools: Vec<PoolDraft> = wish.pools.iter().map(pool).collect();
    let default_pool = wish.pools.first().map_or(String::new(), |(tag, ..)| (*tag).to_owned());
    let draft = MapDraft {
        epoch: Epoch::new(1),
        cluster: identity.cluster,
        slot_key: identity.slot_key,
        settings: vec![identity.settings],
        namespace_pools: BTreeMap::new(),
        default_pool,
        pools,
    };
    SlotMap::new(draft).map_err(cluster)
}

fn slot(pool: &str, number: u16, count: u16, links: &[Placed]) -> Slot {
    let own = links.iter().filter(|link| link.pool == pool && link.slot == number);
    let replica =
        |link: &Placed| ReplicaAddress { address: link.link.clone(), weight: WEIGHT_DEFAULT };
    let end = |at: u16| (u32::from(VIRTUAL_SLOTS) * u32::from(at) / u32::from(count)) as u16;
    Slot {
        number: SlotNumber::new(number),
        owned: (end(number)..end(number + 1)).map(VirtualSlot::new).collect::<VirtualSet>(),
        replicas: own.map(replica).collect(),
        ..Slot::default()
    }
}
