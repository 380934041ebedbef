//! The names in a map.

use seen_cluster::map::{Epoch, ReplicaAddress, Service, Slot, SlotMap};

use super::super::world::{Log, feed, slot};
use super::{Answer, Told, Watched, pass, text};

fn named(epoch: u32, replicas: &[&str], dns: Option<&str>, srv: Option<&str>) -> String {
    let slot = Slot {
        dns: dns.map(str::to_owned),
        srv: srv.map(str::to_owned),
        ..slot(0, "0-4095", replicas)
    };
    text(feed(epoch, vec![slot]))
}

fn service(target: &str, priority: u16, weight: u16) -> Service {
    Service { target: target.to_owned(), port: 7430, priority, weight }
}

#[tokio::test(start_paused = true)]
async fn all_ways_to_name_replicas_come_together() {
    let told = Told::default();
    told.hosts("one", &["10.0.0.9", "10.0.0.3"], 30);
    told.hosts("headless", &["10.0.0.5", "10.0.0.4", "10.0.0.3"], 30);
    told.hosts("six", &["2001:db8::1"], 30);
    told.hosts("pod-0", &["10.0.1.1"], 30);
    told.hosts("pod-1", &["10.0.1.2"], 30);
    told.hosts("spare", &["10.0.1.3"], 30);
    let services =
        vec![service("pod-0", 10, 50), service("pod-1", 10, 0), service("spare", 20, 60_000)];
    told.set("_link._tcp.seen", Answer::Services(services, 30));
    let stated = ["one:7430", "six:1", "127.0.0.1:5"];
    let map = named(1, &stated, Some("headless:7430"), Some("_link._tcp.seen"));
    let watched = Watched::start(&map, told).await;
    assert_eq!(
        watched.replicas(),
        [
            // 10.0.0.3 is there already, as `one`.
            "feed/0 10.0.0.4:7430 10.0.0.4:7430 100",
            "feed/0 10.0.0.5:7430 10.0.0.5:7430 100",
            "feed/0 127.0.0.1:5 127.0.0.1:5 100",
            "feed/0 one:7430 10.0.0.3:7430 100",
            "feed/0 pod-0:7430 10.0.1.1:7430 50",
            "feed/0 pod-1:7430 10.0.1.2:7430 1",
            "feed/0 six:1 [2001:db8::1]:1 100",
            "feed/0 spare:7430 10.0.1.3:7430 0",
        ]
    );
    let map = watched.handle.current();
    let slot = map.pool("feed").unwrap().owner(seen_filter::VirtualSlot::new(1));
    let weights: Vec<_> = slot.replicas.iter().map(|one| (one.name_hash, one.weight)).collect();
    assert_eq!(slot.weights, weights);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_moves_keeps_its_name_and_its_users() {
    let told = Told::default();
    told.hosts("pod-0", &["10.0.1.1"], 5);
    told.set("srv", Answer::Services(vec![service("pod-0", 1, 1)], 5));
    let watched = Watched::start(&named(1, &[], None, Some("srv")), told.clone()).await;
    let before = watched.handle.current();
    told.hosts("pod-0", &["10.0.1.7"], 5);
    let after = watched.next().await;
    let (old, new) = (&before.pools[0].slots[0], &after.pools[0].slots[0]);
    assert_eq!(old.weights, new.weights);
    assert_eq!(watched.replicas(), ["feed/0 pod-0:7430 10.0.1.7:7430 1"]);
    // A record that is new brings a host that is new.
    let two = vec![service("pod-0", 1, 1), service("pod-1", 1, 1)];
    told.hosts("pod-1", &["10.0.1.8"], 5);
    told.set("srv", Answer::Services(two, 5));
    assert_eq!(watched.next().await.pools[0].slots[0].replicas.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_replica_with_several_addresses_stays_where_it_is() {
    let told = Told::default();
    told.hosts("one", &["10.0.0.7"], 1);
    let watched = Watched::start(&named(1, &["one:1"], None, None), told.clone()).await;
    told.hosts("one", &["10.0.0.3", "10.0.0.7"], 1);
    pass(5).await;
    assert_eq!(
        (watched.replicas(), watched.handle.current().revision),
        (vec!["feed/0 one:1 10.0.0.7:1 100".to_owned()], 1)
    );
    told.hosts("one", &["10.0.0.3"], 1);
    watched.next().await;
    assert_eq!(watched.replicas(), ["feed/0 one:1 10.0.0.3:1 100"]);
}

#[tokio::test(start_paused = true)]
async fn answers_are_asked_for_again_after_their_time_within_bounds() {
    let told = Told::default();
    told.hosts("never", &["10.0.0.1"], 0);
    told.hosts("soon", &["10.0.0.2"], 10);
    told.hosts("late", &["10.0.0.3"], 86_400);
    let map = named(1, &["never:1", "soon:1", "late:1"], None, None);
    let watched = Watched::start(&map, told.clone()).await;
    assert_eq!(told.asked(), ["late", "never", "soon"]);
    pass(121).await;
    let asked = told.asked();
    let count = |name: &str| asked.iter().filter(|asked| *asked == name).count();
    assert_eq!((count("soon"), count("late")), (12, 2));
    assert!((115..=121).contains(&count("never")), "{}", count("never"));
    // What no map names any more is asked no more.
    watched.write(&named(2, &["soon:1"], None, None));
    watched.next().await;
    told.asked();
    pass(60).await;
    assert!(told.asked().iter().all(|name| name == "soon"));
}

#[tokio::test(start_paused = true)]
async fn a_name_without_an_answer_keeps_its_last_one_and_is_told_once() {
    let told = Told::default();
    told.hosts("one", &["10.0.0.1"], 1);
    told.hosts("headless", &["10.0.0.2"], 1);
    let watched =
        Watched::start(&named(1, &["one:1"], Some("headless:1"), None), told.clone()).await;
    let (log, _guard) = Log::listen();
    told.set("one", Answer::Failure);
    // No record is no answer, either.
    told.hosts("headless", &[], 1);
    pass(100).await;
    let said = log.take();
    assert!(said.len() == 2 && said.iter().all(|line| line.starts_with("WARN")), "{said:?}");
    assert_eq!(watched.handle.current().revision, 1);
    // Less and less often, but at least each 16 seconds and the time that a question takes.
    told.asked();
    pass(180).await;
    assert!((20..=24).contains(&told.asked().len()));
    told.hosts("one", &["10.0.0.3"], 1);
    watched.next().await;
    assert_eq!(watched.replicas()[1], "feed/0 one:1 10.0.0.3:1 100");
    let said = log.take();
    assert!(said.len() == 1 && said[0].contains("answered again"), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_holds_nothing_up_for_long() {
    let told = Told::default();
    told.hosts("one", &["10.0.0.1"], 60);
    told.set("two", Answer::Silence);
    let start = tokio::time::Instant::now();
    let watched = Watched::start(&named(1, &["one:1", "two:1"], None, None), told.clone()).await;
    assert!(start.elapsed().as_secs() < 6, "of the paused clock: {:?}", start.elapsed());
    assert_eq!(watched.replicas(), ["feed/0 one:1 10.0.0.1:1 100"]);
    // Meanwhile the file is looked at.
    watched.write(&named(2, &["two:1", "10.0.0.5:1"], None, None));
    assert_eq!(watched.next().await.map.epoch, Epoch::new(2));
    told.hosts("two", &["10.0.0.2"], 60);
    let answered = tokio::time::Instant::now();
    watched.next().await;
    // A question that is never answered is given up, and asked again.
    assert!(answered.elapsed().as_secs() < 20, "of the paused clock: {:?}", answered.elapsed());
    assert_eq!(
        watched.replicas(),
        ["feed/0 10.0.0.5:1 10.0.0.5:1 100", "feed/0 two:1 10.0.0.2:1 100"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_map_waits_for_its_names() {
    let told = Told::default();
    told.hosts("one", &["10.0.0.1"], 60);
    let watched = Watched::start(&named(1, &["one:1"], None, None), told.clone()).await;
    // More names than are asked at a time.
    let many: Vec<ReplicaAddress> = (0..60)
        .map(|at| {
            told.hosts(&format!("r{at}"), &[&format!("10.0.2.{at}")], 60);
            ReplicaAddress { address: format!("r{at}:1"), weight: 100 }
        })
        .collect();
    let mut draft = SlotMap::parse(&named(2, &["one:1"], None, None)).unwrap().to_draft();
    draft.pools[0].slots[0].replicas = many;
    watched.write(&text(draft));
    let map = watched.next().await;
    assert_eq!((map.map.epoch, map.replicas().count(), map.revision), (Epoch::new(2), 60, 2));
}
