use super::*;

fn load(busy: f64, connections: usize) -> Load {
    Load { busy, connections, newcomers: 0 }
}

/// Places so many connections one after the other; on which threads they went.
fn placed(loads: &mut [Load], connections: usize) -> Vec<usize> {
    let place = |_| {
        let next = least_loaded(loads);
        loads[next].connections += 1;
        loads[next].newcomers += 1;
        next
    };
    (0..connections).map(place).collect()
}

#[test]
fn idle_threads_take_turns() {
    assert_eq!(placed(&mut [Load::default(); 3], 6), [0, 1, 2, 0, 1, 2]);
    assert_eq!(placed(&mut [Load::default(); 2], 2), [0, 1]);
    // As well if the first one is known already by the time that the second one comes.
    assert_eq!(least_loaded(&[load(0.0, 1), load(0.0, 0)]), 1);
    assert_eq!(least_loaded(&[load(0.02, 1), load(0.09, 0)]), 1, "noise makes no difference");
}

#[test]
fn newcomers_do_not_share_a_thread_because_another_has_idle_connections() {
    // A watcher of health is open on the second thread, and does nothing.
    assert_eq!(placed(&mut [load(0.0, 0), load(0.0, 1)], 2), [0, 1]);
    assert_eq!(placed(&mut [load(0.0, 0), load(0.0, 9)], 4), [0, 1, 0, 1]);
}

#[test]
fn one_busy_connection_outweighs_many_idle_ones() {
    assert_eq!(least_loaded(&[load(0.9, 1), load(0.05, 20)]), 1);
    assert_eq!(least_loaded(&[load(0.05, 9), load(0.1, 2)]), 1, "both are about idle");
}

#[test]
fn a_burst_does_not_all_go_to_the_lowest_sample() {
    let mut loads = [load(0.3, 2), load(0.0, 2)];
    placed(&mut loads, 20);
    assert!(loads[0].newcomers >= 6 && loads[1].newcomers >= 6, "{loads:?}");
}

#[test]
fn two_busy_connections_on_one_thread_are_parted() {
    let loads = [load(1.0, 3), load(0.0, 0)];
    assert_eq!(to_relieve(&loads), Some((0, 1.0)));
    for read in [[(7, 500), (8, 500), (9, 1)], [(9, 1), (8, 500), (7, 500)]] {
        assert_eq!(to_move(1.0, 1.0, &read), Some(7), "whatever their order");
    }
    assert_eq!(to_relieve(&[load(1.0, 3), load(0.7, 1)]), None, "no room elsewhere");
    assert_eq!(to_relieve(&[load(0.5, 3), load(0.0, 1)]), None, "not hot");
}

#[test]
fn a_single_busy_connection_is_left_alone() {
    assert_eq!(to_move(1.0, 1.0, &[(7, 500)]), None);
    assert_eq!(to_move(1.0, 1.0, &[(7, 500), (8, 0)]), None);
    assert_eq!(to_move(1.0, 0.5, &[]), None);
    assert_eq!(to_move(1.0, 0.7, &[(7, 950), (8, 50)]), None, "the small one changes nothing");
}

#[test]
fn moves_that_help_follow_each_other_and_others_wait_ever_longer() {
    let mut pace = Pace::default();
    let mut waited = |loads: &[Load]| {
        let samples = (1..).find(|_| pace.sampled()).expect("at some time");
        pace.moved(loads);
        samples
    };
    let gap = |gap: f64| [load(1.0, 2), load(1.0 - gap, 2)];
    assert_eq!([1.0, 0.8, 0.5].map(|apart| waited(&gap(apart))), [4, 4, 4]);
    assert_eq!(
        [0.5, 0.5, 0.45, 0.5, 0.5, 0.5].map(|apart| waited(&gap(apart))),
        [4, 8, 16, 32, 64, 64]
    );
    let mut calm = pace;
    assert!((0..CALM_SAMPLES).filter(|_| calm.sampled()).count() > 0);
    assert_eq!((calm.wait, calm.apart), (WAIT_SAMPLES_MIN, None), "forgotten");
}

/// A connection with what it really does, and what it reads meanwhile.
#[derive(Clone, Copy)]
struct Client {
    busy: f64,
    bytes: u64,
}

/// Threads with clients that come back at once when they are asked to move; how many samples of how
/// many found each a move to make.
fn moves(threads: &mut [Vec<Client>], samples: u32) -> Vec<u32> {
    let mut pace = Pace::default();
    let mut busy = vec![0.0; threads.len()];
    let mut moved = Vec::new();
    for sample in 0..samples {
        for (busy, clients) in busy.iter_mut().zip(threads.iter()) {
            let share: f64 = clients.iter().map(|client| client.busy).sum();
            *busy += 0.5 * (share.min(1.0) - *busy);
        }
        let mut loads: Vec<Load> =
            threads.iter().zip(&busy).map(|(clients, busy)| load(*busy, clients.len())).collect();
        let (true, Some((hot, gap))) = (pace.sampled(), to_relieve(&loads)) else { continue };
        let read: Vec<(u64, u64)> =
            (0..).zip(&threads[hot]).map(|(id, client)| (id, client.bytes)).collect();
        let Some(id) = to_move(busy[hot], gap, &read) else { continue };
        pace.moved(&loads);
        let client = threads[hot].remove(id as usize);
        let total: u64 = read.iter().map(|(_, bytes)| bytes).sum();
        busy[hot] *= 1.0 - client.bytes as f64 / total as f64;
        (loads[hot].busy, loads[hot].connections) = (busy[hot], threads[hot].len());
        threads[least_loaded(&loads)].push(client);
        moved.push(sample);
    }
    moved
}

#[test]
fn load_that_can_be_evened_out_is_and_then_stays() {
    for hot in 2..=8 {
        let client = Client { busy: 1.0 / hot as f64, bytes: 1_000 };
        let mut threads = vec![Vec::new(); 4];
        threads[0] = vec![client; hot];
        let moved = moves(&mut threads, 2_000);
        let busiest = threads.iter().map(|clients| clients.len()).max().expect("threads");
        assert!(client.busy * busiest as f64 <= 0.85, "{hot}: {busiest} on one thread");
        assert!(moved.len() <= hot && moved.last().is_none_or(|last| *last < 100), "{moved:?}");
    }
}

#[test]
fn nothing_is_sent_to_and_fro_where_bytes_mislead() {
    // One client works hard for few bytes, the others read much for next to nothing.
    let hard = Client { busy: 0.95, bytes: 150 };
    let easy = Client { busy: 0.01, bytes: 400 };
    let mut threads = vec![vec![hard, easy, easy], vec![easy, easy]];
    let samples = 10_000;
    let moved = moves(&mut threads, samples);
    // At worst once in the longest wait, after the first few.
    let most = (samples / WAIT_SAMPLES_MAX) as usize + 8;
    assert!(moved.len() <= most, "{} moves", moved.len());
    let late = moved.windows(2).rev().take(10).map(|pair| pair[1] - pair[0]);
    assert!(late.min().is_none_or(|wait| wait >= WAIT_SAMPLES_MAX), "{moved:?}");
}
