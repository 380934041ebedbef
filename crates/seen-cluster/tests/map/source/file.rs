//! The file.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use seen_cluster::map::{Epoch, MapSource, PoolDraft, SourceOptions};
use seen_filter::SlotKey;

use super::super::world::{Log, feed, slot, two_slots};
use super::{Told, Watched, pass, text};

#[tokio::test(start_paused = true)]
async fn a_newer_map_is_taken_over_and_told() {
    let watched = Watched::start(&two_slots().to_toml(), Told::default()).await;
    let before = watched.handle.current();
    assert_eq!((before.map.epoch, before.revision), (Epoch::new(7), 1));
    assert_eq!(watched.replicas().len(), 4);
    let mut revisions = watched.handle.revisions();
    let draft = feed(9, vec![slot(0, "0-4095", &["10.0.0.2:7430", "10.0.0.1:9"])]);
    watched.write(&text(draft));
    let after = watched.next().await;
    assert_eq!((after.map.epoch, after.revision), (Epoch::new(9), 2));
    assert_eq!(*revisions.borrow_and_update(), 2);
    assert_eq!(
        watched.replicas(),
        ["feed/0 10.0.0.1:9 10.0.0.1:9 100", "feed/0 10.0.0.2:7430 10.0.0.2:7430 100"]
    );
    assert_eq!(before.map.epoch, Epoch::new(7), "whoever holds the old one keeps it");
    assert!(watched.told.asked().is_empty(), "addresses are not looked up");
}

#[tokio::test(start_paused = true)]
async fn a_broken_file_keeps_the_map_and_is_told_once() {
    let watched = Watched::start(&two_slots().to_toml(), Told::default()).await;
    let (log, _guard) = Log::listen();
    watched.write("epoch = 8\n");
    pass(10).await;
    let said = log.take();
    assert!(said.len() == 1 && said[0].contains("missing field"), "{said:?}");
    watched.write("epoch = 8\npool = \"");
    pass(10).await;
    let said = log.take();
    assert!(said.len() == 1 && said[0].contains("line 2"), "{said:?}");
    fs::remove_file(watched.path()).unwrap();
    pass(10).await;
    let said = log.take();
    assert!(said.len() == 1 && said[0].contains("cannot be read"), "{said:?}");
    watched.write(&two_slots().to_toml());
    pass(10).await;
    let said = log.take();
    assert!(said.len() == 1 && said[0].contains("as before"), "{said:?}");
    assert_eq!(watched.handle.current().revision, 1);
    let mut map = two_slots();
    map.epoch = Epoch::new(8);
    watched.write(&map.to_toml());
    assert_eq!(watched.next().await.map.epoch, Epoch::new(8));
}

#[tokio::test(start_paused = true)]
async fn a_map_that_may_not_follow_is_refused_and_told_once() {
    let watched = Watched::start(&two_slots().to_toml(), Told::default()).await;
    let (log, _guard) = Log::listen();
    let of = |change: &dyn Fn(&mut seen_cluster::map::MapDraft)| {
        let mut draft = two_slots().to_draft();
        draft.epoch = Epoch::new(8);
        change(&mut draft);
        text(draft)
    };
    let refused = [
        (of(&|draft| draft.epoch = Epoch::new(6)), "epoch 6 is before 7"),
        (of(&|draft| draft.cluster = 5), "cluster is 0000000000000005"),
        (of(&|draft| draft.slot_key = SlotKey::from_words((5, 5))), "slot_key is another one"),
        (
            of(&|draft| {
                draft.epoch = Epoch::new(7);
                draft.settings = vec![5];
            }),
            "another map of epoch 7",
        ),
    ];
    for (text, why) in refused {
        watched.write(&text);
        pass(5).await;
        let said = log.take();
        assert!(said.len() == 1 && said[0].contains(why), "{why}: {said:?}");
        assert!(said[0].starts_with("WARN"), "{said:?}");
        assert_eq!(watched.handle.current().revision, 1);
    }
    // The same map in other words is fine, and is no news.
    watched.write(&format!("# The same.\n{}", two_slots().to_toml()));
    pass(5).await;
    assert_eq!(log.take(), Vec::<String>::new());
    assert_eq!(watched.handle.current().revision, 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_not_believed() {
    let watched = Watched::start(&two_slots().to_toml(), Told::default()).await;
    let mut draft = two_slots().to_draft();
    draft.epoch = Epoch::new(8);
    draft.pools.push(PoolDraft {
        tag: "push".to_owned(),
        slots: vec![slot(0, "0-4095", &["10.0.9.1:7430"])],
    });
    let whole = text(draft);
    // Its beginning is a map, too, of the same epoch: taken over, it would keep the whole one out.
    let beginning = &whole[..whole.rfind("[[pool]]").unwrap()];
    assert!(seen_cluster::map::SlotMap::parse(beginning).is_ok());
    watched.write(beginning);
    // The look that finds it comes a second after the start's; the next one 50 ms later.
    tokio::time::sleep(Duration::from_millis(1_010)).await;
    watched.write(&whole);
    let map = watched.handle.changed(1).await;
    assert_eq!((map.revision, map.pools.len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_start_needs_a_map() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        SourceOptions { path: folder.path().join("map.toml"), resolver: Arc::new(Told::default()) };
    let missing = MapSource::start(options.clone()).await.err().unwrap();
    assert!(missing.to_string().contains("cannot be read"), "{missing}");
    fs::write(&options.path, "epoch = 1\n").unwrap();
    let broken = MapSource::start(options).await.err().unwrap();
    assert!(broken.to_string().contains("missing field"), "{broken}");
}
