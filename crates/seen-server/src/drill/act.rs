//! Does a fault, whatever it is done to, and heals it again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::time::sleep;

use super::catalog::{Does, Entry};
use super::faults::{self, parts, signal, whole};
use super::load::Load;
use super::network::{self, Place};
use super::stage::{Act, Stage};
use super::{DrillError, limits, pressure};
use crate::cli::dev_cluster::{DevCluster, Part, counted};

/// How long a replica stands still before Kafka forgets what it has not read.
const STILL_FOR: Duration = Duration::from_secs(2);
/// Of moments: how long one is, and how long nothing happens after it.
const MOMENT: Duration = Duration::from_millis(200);
const BETWEEN: Duration = Duration::from_millis(800);
/// What replicas count that says more of a fault than its answers do.
const EVIDENCE: [(&str, &str); 3] = [
    ("seen_feed_gaps_total", "gaps in the feed"),
    ("seen_doubts_total", "doubts"),
    ("seen_kafka_errors_total", "troubles that Kafka reported"),
];

/// All that a fault may be done to.
pub(super) struct Scene<'a> {
    /// The parts.
    pub cluster: &'a DevCluster,
    /// The callers.
    pub load: &'a Arc<Load>,
    /// The servers.
    pub stage: Option<Arc<dyn Stage>>,
    /// How long the long faults last.
    pub long: Duration,
}

/// What is told of a fault that was done and healed.
pub(super) struct Done {
    /// When it was healed.
    pub healed: Instant,
    /// Warm-ups that it tore, where it is about them.
    pub cut: Option<u64>,
    /// What there is to tell.
    pub notes: Vec<String>,
}

/// Does it, for as long as it lasts, and heals it.
///
/// # Errors
/// [`DrillError::Stage`] if it cannot be done here; another one if the cluster is not there any more.
pub(super) async fn done(
    entry: &Entry,
    scene: &Scene<'_>,
    draw: &mut impl FnMut(usize) -> usize,
) -> Result<Done, DrillError> {
    let cluster = scene.cluster;
    let before = evidence(cluster).await;
    let (mut cut, mut notes) = (None, Vec::new());
    let began = Instant::now();
    let window = if entry.window > Duration::from_secs(60) { scene.long } else { entry.window };
    let replica = parts(cluster, &format!("feed-{}-", draw(2)))[draw(2)];
    let proxy = parts(cluster, "proxy-")[draw(2)];
    match entry.does {
        Does::Parts => cut = faults::inject(entry.fault, cluster, scene.load, draw).await?,
        Does::Stage(act) => {
            scene.begin(act).await?;
            sleep(window).await;
            scene.heal(act).await?;
        }
        Does::Moments(act) => {
            let until = Instant::now() + window;
            while Instant::now() < until {
                scene.begin(act).await?;
                sleep(MOMENT).await;
                scene.heal(act).await?;
                sleep(BETWEEN).await;
            }
        }
        Does::Gap => {
            signal(cluster, replica, Signal::STOP)?;
            sleep(STILL_FOR).await;
            let forgotten = scene.begin(Act::KafkaForgets).await;
            sleep(window.saturating_sub(STILL_FOR)).await;
            signal(cluster, replica, Signal::CONT)?;
            forgotten?;
        }
        Does::Network(place, network) => {
            let ports = scene.ports(place, replica)?;
            network::begin(network, &ports).await.map_err(DrillError::Stage)?;
            sleep(window).await;
            network::heal().await.map_err(DrillError::Heal)?;
        }
        Does::Limit(limit) => {
            let limited = limits::begin(limit, cluster, scene.load, (replica, proxy)).await?;
            sleep(window).await;
            limits::heal(limited, cluster).await?;
        }
        Does::Press(press) => {
            let stage = scene.stage.as_deref();
            notes.push(pressure::press(press, cluster, scene.load, stage, window).await?);
        }
    }
    // Parts come back by themselves, and how long that takes is part of the recovery.
    let healed = match entry.does {
        Does::Parts => began + entry.window,
        _ => Instant::now(),
    };
    whole(cluster).await?;
    let after = evidence(cluster).await;
    for ((_, what), (before, after)) in EVIDENCE.iter().zip(before.iter().zip(after)) {
        if after > *before {
            notes.push(format!("{} {what}", after - before));
        }
    }
    Ok(Done { healed, cut, notes })
}

impl Scene<'_> {
    async fn begin(&self, act: Act) -> Result<(), DrillError> {
        self.blocking(move |stage| stage.begin(act)).await
    }

    async fn heal(&self, act: Act) -> Result<(), DrillError> {
        self.blocking(move |stage| stage.heal(act)).await.map_err(unhealed)
    }

    async fn blocking(
        &self,
        act: impl FnOnce(&dyn Stage) -> Result<(), String> + Send + 'static,
    ) -> Result<(), DrillError> {
        let stage = self.stage()?;
        let done = tokio::task::spawn_blocking(move || act(stage.as_ref())).await;
        done.unwrap_or_else(|panic| Err(panic.to_string())).map_err(DrillError::Stage)
    }

    fn stage(&self) -> Result<Arc<dyn Stage>, DrillError> {
        let none = || DrillError::Stage("the servers are not in reach of the drill".to_owned());
        self.stage.clone().ok_or_else(none)
    }

    fn ports(&self, place: Place, replica: &Part) -> Result<Vec<u16>, DrillError> {
        let all = parts(self.cluster, "").into_iter();
        Ok(match place {
            Place::Storage => self.stage()?.storage_ports(),
            Place::OneLink => vec![replica.named()],
            Place::Links => all.filter(|part| part.slot().is_some()).map(Part::named).collect(),
        })
    }
}

/// What cannot be undone was done all the same.
fn unhealed(error: DrillError) -> DrillError {
    match error {
        DrillError::Stage(why) => DrillError::Heal(why),
        other => other,
    }
}

/// What all replicas have counted by now. One that was started again begins at 0.
async fn evidence(cluster: &DevCluster) -> Vec<u64> {
    let mut sums = vec![0; EVIDENCE.len()];
    for part in parts(cluster, "").into_iter().filter(|part| part.slot().is_some()) {
        for (sum, (counter, _)) in sums.iter_mut().zip(EVIDENCE) {
            *sum += counted(part, counter, &[]).await.unwrap_or(0);
        }
    }
    sums
}
