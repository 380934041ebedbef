//! Asking replicas who they are and how they fare, by the hello of the link.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use seen_cluster::link::transfer::TransferClient;
use seen_cluster::link::{ClientOptions, VERSION_MAX, VERSION_MIN};
use seen_cluster::map::{ResolvedMap, SlotNumber};
use seen_proto::v1;

use crate::node::LinkTls;

/// How long a replica may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What a replica of the map said.
pub(super) struct Told {
    /// The pool in which the map has it.
    pub pool: String,
    /// The slot in which the map has it.
    pub slot: SlotNumber,
    /// Its name in the map.
    pub name: String,
    /// Its weight.
    pub weight: u16,
    /// What it says of itself, or why it says nothing.
    pub said: Result<(v1::ReplicaIdentity, v1::ReplicaState), String>,
}

/// Asks every replica of the map at once.
pub(super) async fn all(map: &ResolvedMap, tls: Option<&LinkTls>) -> Vec<Told> {
    let asked = map.replicas().map(|(pool, slot, replica)| async move {
        let said = one(&replica.address.to_string(), &replica.name, tls).await;
        Told {
            pool: pool.pool.tag().to_owned(),
            slot: slot.number,
            name: replica.name.to_string(),
            weight: replica.weight,
            said,
        }
    });
    join_all(asked).await
}

/// Asks whoever is at an address, whatever it is.
async fn one(
    address: &str,
    name: &str,
    tls: Option<&LinkTls>,
) -> Result<(v1::ReplicaIdentity, v1::ReplicaState), String> {
    // A tool names neither cluster nor slot: it wants to be told.
    let hello = v1::LinkHello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        lane: v1::LinkLane::Transfer.into(),
        program: format!("seen {}", env!("CARGO_PKG_VERSION")),
        ..v1::LinkHello::default()
    };
    let mut options = ClientOptions::new(address, Arc::new(move || hello.clone()));
    options.connect_timeout = ANSWER_MAX;
    if let Some(tls) = tls {
        let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
        options.tls = Some(tls.client.clone());
        options.tls_name = Some(tls.name.clone().unwrap_or_else(|| host.to_owned()));
    }
    let client = TransferClient::connect(options).await.map_err(|cut| cut.to_string())?;
    Ok((client.identity.clone(), client.state.clone()))
}
