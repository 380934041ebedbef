//! Plans that are carried out, over a file and a cluster that follows it.

use std::collections::HashMap;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use seen_cluster::map::apply::{
    ApplyError, ApplyOptions, ClusterState, ClusterView, Progress, ProxyReport, ReplicaReport,
    ReplicaSays, apply,
};
use seen_cluster::map::plan::{Plan, Target, Wish, plan};
use seen_cluster::map::{Epoch, MapFile, SlotMap, SlotNumber};
use tempfile::TempDir;

use super::plan::{no_third_slot, planned, third_slot};
use super::world::two_slots;

/// A cluster in which everything takes a few looks: the map is read, then users arrive.
#[derive(Default)]
struct Cluster {
    /// By replica: the epoch that it has, since so many looks.
    seen: Mutex<HashMap<String, (Epoch, u32)>>,
    silent: Vec<String>,
    settings: Mutex<u64>,
    /// The proxy is that many epochs behind, for as long as this is positive.
    slow_looks: Mutex<u32>,
    looks: Mutex<u32>,
}

impl Cluster {
    fn report(&self, map: &SlotMap, tag: &str, slot: SlotNumber, name: &str) -> ReplicaReport {
        let mut seen = self.seen.lock().unwrap();
        let (epoch, looks) = seen.entry(name.to_owned()).or_default();
        *looks += 1;
        if *epoch != map.epoch && *looks > 2 {
            (*epoch, *looks) = (map.epoch, 0);
        }
        let follows = !map.pool(tag).unwrap().slot(slot).unwrap().incoming.is_empty();
        let incoming =
            if follows && *epoch == map.epoch { (*looks * 300).min(1_000) } else { 1_000 };
        let says = ReplicaSays {
            epoch: *epoch,
            is_ready: *looks > 0 || !follows,
            incoming_permille: incoming,
            settings: *self.settings.lock().unwrap(),
        };
        let said = match self.silent.iter().any(|silent| silent == name) {
            true => Err("connection refused".to_owned()),
            false => Ok(says),
        };
        ReplicaReport { tag: tag.to_owned(), slot, name: name.to_owned(), said }
    }
}

impl ClusterView for Cluster {
    fn look<'a>(&'a self, map: &'a SlotMap) -> BoxFuture<'a, ClusterState> {
        Box::pin(async move {
            *self.looks.lock().unwrap() += 1;
            let slots = map
                .pools()
                .iter()
                .flat_map(|pool| pool.slots().iter().map(|slot| (pool.tag(), slot)));
            let replicas = slots.flat_map(|(tag, slot)| {
                let report = |replica: &seen_cluster::map::ReplicaAddress| {
                    self.report(map, tag, slot.number, &replica.address)
                };
                slot.replicas.iter().map(report).collect::<Vec<_>>()
            });
            let mut slow = self.slow_looks.lock().unwrap();
            *slow = slow.saturating_sub(1);
            let behind = u32::from(*slow > 0);
            let proxy = ProxyReport {
                name: "10.9.0.1".to_owned(),
                epoch: Ok(Epoch::new(map.epoch.get() - behind)),
            };
            ClusterState { replicas: replicas.collect(), proxies: vec![proxy] }
        })
    }
}

struct World {
    folder: TempDir,
    cluster: Cluster,
}

impl World {
    fn new(map: &SlotMap) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("map.toml"), map.to_toml()).unwrap();
        Self { folder, cluster: Cluster::default() }
    }

    fn file(&self) -> MapFile {
        MapFile::open(self.folder.path().join("map.toml")).unwrap()
    }

    fn map(&self) -> SlotMap {
        self.file().read().unwrap()
    }

    /// Carries a plan out, and returns what was told.
    async fn apply(
        &self,
        plan: &Plan,
        options: &ApplyOptions,
    ) -> (Result<(), ApplyError>, Vec<String>) {
        let mut told = Vec::new();
        let mut tell = |progress: Progress<'_>| told.push(shown(progress));
        let result = apply(&self.file(), plan, &self.cluster, options, &mut tell).await;
        told.dedup();
        (result, told)
    }
}

fn shown(progress: Progress<'_>) -> String {
    match progress {
        Progress::InPlace { at, step } => format!("{at} {} {}", step.kind.label(), step.map.epoch),
        Progress::Waiting { at, judgement, .. } => {
            let ready = judgement.missing.is_empty();
            format!(
                "{at} {} {}",
                if ready { "fulfilled" } else { "waits" },
                judgement.incoming_permille
            )
        }
        Progress::Draining { at, .. } => format!("{at} drains"),
        Progress::Finished => "finished".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn from_two_slots_to_three_and_back() {
    let world = World::new(&two_slots());
    let there = planned(&two_slots(), &[third_slot()]).unwrap();
    let (result, told) = world.apply(&there, &ApplyOptions::default()).await;
    result.unwrap();
    let expected = [
        "0 prepare 8",
        "0 waits 0",
        "0 waits 300",
        "0 waits 600",
        "0 waits 900",
        "0 fulfilled 1000",
        "1 switch 9",
        "1 fulfilled 1000",
        "1 drains",
        "2 done 10",
        "2 waits 1000",
        "2 fulfilled 1000",
        "finished",
    ];
    assert_eq!(told, expected);
    assert_eq!(world.map(), *there.goal());
    let back = planned(&world.map(), &[no_third_slot()]).unwrap();
    world.apply(&back, &ApplyOptions::default()).await.0.unwrap();
    assert!(world.map().says_the_same(&two_slots()));
    assert_eq!(world.map().epoch, Epoch::new(13));
}

#[tokio::test(start_paused = true)]
async fn the_drain_is_kept_to() {
    let world = World::new(&two_slots());
    let plan = planned(&two_slots(), &[third_slot()]).unwrap();
    let (mut fulfilled, mut done) = (None, None);
    let mut tell = |progress: Progress<'_>| match progress {
        Progress::Waiting { at: 1, judgement, .. } if judgement.missing.is_empty() => {
            fulfilled = Some(tokio::time::Instant::now());
        }
        Progress::InPlace { at: 2, .. } => done = Some(tokio::time::Instant::now()),
        _ => {}
    };
    apply(&world.file(), &plan, &world.cluster, &ApplyOptions::default(), &mut tell).await.unwrap();
    assert_eq!(done.unwrap() - fulfilled.unwrap(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn broken_off_anywhere_it_goes_on_from_the_map() {
    let plan = planned(&two_slots(), &[third_slot()]).unwrap();
    let whole = World::new(&two_slots());
    let events = whole.apply(&plan, &ApplyOptions::default()).await.1.len() + 20;
    for again in [true, false] {
        for end in 0..events {
            let world = World::new(&two_slots());
            let mut count = 0;
            let mut tell = |_: Progress<'_>| {
                count += 1;
                assert!(count <= end, "the process ends here");
            };
            let file = world.file();
            let options = ApplyOptions::default();
            let run = apply(&file, &plan, &world.cluster, &options, &mut tell);
            let broken = AssertUnwindSafe(run).catch_unwind().await.is_err();
            drop(file);
            let left = match again {
                true => plan.clone(),
                false => planned(&world.map(), &[third_slot()]).unwrap(),
            };
            let (result, told) = world.apply(&left, &options).await;
            result.unwrap();
            assert!(world.map().says_the_same(plan.goal()), "{end}: {told:?}");
            assert!(broken || end > 10, "{end}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_on_before_all_have_the_map() {
    let world = World::new(&two_slots());
    *world.cluster.slow_looks.lock().unwrap() = 40;
    let plan = planned(&two_slots(), &[third_slot()]).unwrap();
    let mut looks_at_switch = 0;
    let mut tell = |progress: Progress<'_>| {
        if let Progress::InPlace { at: 1, .. } = progress {
            looks_at_switch = *world.cluster.looks.lock().unwrap();
        }
    };
    apply(&world.file(), &plan, &world.cluster, &ApplyOptions::default(), &mut tell).await.unwrap();
    assert_eq!(looks_at_switch, 40, "the proxy had the old map until then");
}

#[tokio::test(start_paused = true)]
async fn a_silent_replica_holds_it_up_unless_it_may() {
    let mut world = World::new(&two_slots());
    world.cluster.silent = vec!["10.0.1.2:7430".to_owned()];
    let plan = planned(&two_slots(), &[third_slot()]).unwrap();
    let options = ApplyOptions { step_timeout: Duration::from_secs(60), ..ApplyOptions::default() };
    let error = world.apply(&plan, &options).await.0.unwrap_err().to_string();
    assert!(error.contains("10.0.1.2:7430 (pool feed, slot 1): connection refused"), "{error}");
    assert!(error.starts_with("epoch 8 waited for 60"), "{error}");
    assert_eq!(world.map().epoch, Epoch::new(8), "what was done stands");
    let lenient = ApplyOptions { silent_replicas_max: 1, ..options.clone() };
    world.apply(&plan, &lenient).await.0.unwrap();
    // All of a slot are never spared.
    world.cluster.silent.push("10.0.1.1:7430".to_owned());
    let lenient = ApplyOptions { silent_replicas_max: 2, ..lenient };
    let back = planned(&world.map(), &[no_third_slot()]).unwrap();
    assert!(matches!(world.apply(&back, &lenient).await.0, Err(ApplyError::Timeout { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_dead_replica_is_replaced() {
    let mut world = World::new(&two_slots());
    world.cluster.silent = vec!["10.0.1.2:7430".to_owned()];
    let slot = SlotNumber::new(1);
    let wishes = [
        Wish::NoReplica { tag: "feed".to_owned(), slot, address: "10.0.1.2:7430".to_owned() },
        Wish::Replica {
            tag: "feed".to_owned(),
            slot,
            replica: super::world::replica("10.0.1.3:7430", 100),
        },
    ];
    let plan = planned(&two_slots(), &wishes).unwrap();
    world.apply(&plan, &ApplyOptions::default()).await.0.unwrap();
    assert_eq!(world.map(), *plan.goal());
}

#[tokio::test(start_paused = true)]
async fn settings_wait_until_every_replica_has_them() {
    let mut from = two_slots();
    from.settings = vec![1];
    let world = World::new(&from);
    *world.cluster.settings.lock().unwrap() = 1;
    let plan = planned(&from, &[Wish::Settings(vec![2])]).unwrap();
    let options = ApplyOptions { step_timeout: Duration::from_secs(60), ..ApplyOptions::default() };
    let error = world.apply(&plan, &options).await.0.unwrap_err().to_string();
    assert!(error.contains("has settings 0000000000000001, not 0000000000000002"), "{error}");
    *world.cluster.settings.lock().unwrap() = 2;
    world.apply(&plan, &options).await.0.unwrap();
    assert_eq!(world.map().settings, [2]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_no_part_of_the_plan_is_left_alone() {
    let world = World::new(&two_slots());
    let plan = planned(&two_slots(), &[third_slot()]).unwrap();
    let mut other = two_slots();
    other.epoch = Epoch::new(30);
    world.file().write(&other).unwrap();
    let result = world.apply(&plan, &ApplyOptions::default()).await.0;
    assert!(matches!(result, Err(ApplyError::OtherMap(epoch)) if epoch == Epoch::new(30)));
    // Nor if it changes on the way.
    let world = World::new(&two_slots());
    let path = world.folder.path().join("map.toml");
    let mut tell = |progress: Progress<'_>| {
        if let Progress::Draining { .. } = progress {
            fs::write(&path, other.to_toml()).unwrap();
        }
    };
    let result =
        apply(&world.file(), &plan, &world.cluster, &ApplyOptions::default(), &mut tell).await;
    assert!(matches!(result, Err(ApplyError::OtherMap(epoch)) if epoch == Epoch::new(30)));
    assert_eq!(world.map(), other);
}

#[test]
fn a_file_is_replaced_whole_and_by_one_at_a_time() {
    let world = World::new(&two_slots());
    let path = world.folder.path().join("map.toml");
    let link = world.folder.path().join("link.toml");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let file = world.file();
    assert!(MapFile::open(&path).unwrap_err().to_string().contains("another process changes"));
    assert!(MapFile::open(&link).is_err(), "by another name it is the same file");
    // Whoever has it open reads the old one to its end.
    let mut old = fs::File::open(&path).unwrap();
    let mut map = two_slots();
    map.epoch = Epoch::new(8);
    file.write(&map).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut old, &mut text).unwrap();
    assert_eq!(SlotMap::parse(&text).unwrap(), two_slots());
    assert_eq!(file.read().unwrap(), map);
    drop(file);
    MapFile::open(&link).unwrap().write(&two_slots()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(world.map(), two_slots());
}

#[test]
fn a_plan_without_steps_is_done_at_once() {
    let same =
        plan(&two_slots(), &Target::Map(Box::new(two_slots())), &Default::default()).unwrap();
    assert!(same.steps.is_empty());
    let world = World::new(&two_slots());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (result, told) = runtime.block_on(world.apply(&same, &ApplyOptions::default()));
    assert!(result.is_ok() && told == ["finished"]);
}
