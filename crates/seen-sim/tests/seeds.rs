//! Seeds through the simulated cluster.

use seen_sim::{Options, Played, play};

fn clean(seeds: std::ops::Range<u64>, options: Options) {
    for seed in seeds {
        let played = play(seed, options).expect("a simulation");
        assert!(played.report.filters > 300, "{:?}", played.report);
        if let Some(story) = played.story() {
            panic!("{story}");
        }
    }
}

#[test]
fn without_faults_nothing_is_flagged_and_all_promises_are_kept() {
    clean(0..10, Options { faults: false, ..Options::default() });
}

#[test]
fn with_faults_all_promises_are_kept() {
    clean(1_000..1_030, Options::default());
}

/// A seed is a story that can be told again.
#[test]
fn twenty_seeds_twice_are_the_same_event_by_event() {
    for seed in 0..20 {
        let [one, other] = [(); 2].map(|()| play(seed, Options::default()).expect("a simulation"));
        let differs = one.events.iter().zip(&other.events).position(|(one, other)| one != other);
        if let Some(at) = differs {
            panic!("seed {seed}, event {at}:\n{}\n{}", one.events[at], other.events[at]);
        }
        assert_eq!(one, other, "seed {seed}");
    }
}

/// The checks can fail: what nothing defends against is found within a few seeds.
#[test]
fn events_that_vanish_without_a_word_are_found() {
    let options = Options { events_vanish: true, ..Options::default() };
    let mut seeds = (0..40).map(|seed| play(seed, options).expect("a simulation"));
    let is_found =
        |played: &Played| played.report.broken.iter().any(|broken| matches!(broken.promise, 2 | 3));
    let found = seeds.find(is_found).expect("found within 40 seeds");
    assert!(found.story().is_some_and(|story| story.contains("   1. ")));
}

/// So they do of pushes, and of the pool that some clusters keep for them: while all is played, and in the end.
#[test]
fn events_that_vanish_are_found_by_pushes_too() {
    let options = Options { events_vanish: true, ..Options::default() };
    let told = |played: &Played, what: &str| {
        let of_pushes = |broken: &&seen_sim::Broken| broken.what.starts_with("push, user");
        played.report.broken.iter().filter(of_pushes).any(|broken| broken.what.contains(what))
    };
    let (mut meanwhile, mut in_the_end) = (false, false);
    for seed in 0..60 {
        let played = play(seed, options).expect("a simulation");
        meanwhile |= told(&played, "are unread, though");
        in_the_end |= told(&played, "are unread, and in storage");
        if meanwhile && in_the_end {
            return;
        }
    }
    panic!("found meanwhile: {meanwhile}, in the end: {in_the_end}");
}
