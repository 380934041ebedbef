//! Which thread gets a connection, and which connection should move: decisions over plain numbers.

/// Threads whose load differs by less than this are equally loaded: samples are noisy.
const BUSY_TOLERANCE: f64 = 0.1;
/// What a new connection is expected to add to a thread's load: the average of those known, within
/// these bounds, since one very busy connection says little about the next.
const BUSY_PER_CONNECTION: (f64, f64) = (0.01, 0.1);
/// A thread at least this busy is worth relieving.
const HOT_BUSY_MIN: f64 = 0.8;
/// A thread is relieved only where another is less busy by this much.
const GAP_MIN: f64 = 0.4;

/// What is known of one thread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// Share of time that it works, 0 to 1.
    pub(super) busy: f64,
    /// Its open connections.
    pub(super) connections: usize,
    /// Those of them that came after `busy` was sampled.
    pub(super) newcomers: usize,
}

/// The thread that gets the next connection: the least busy one, and among equally busy ones the one
/// with the fewest connections. Newcomers count as much as an average connection, or else all
/// connections of a burst would go where one sample was lowest.
pub(super) fn least_loaded(loads: &[Load]) -> usize {
    let busy: f64 = loads.iter().map(|load| load.busy).sum();
    let known: usize =
        loads.iter().map(|load| load.connections.saturating_sub(load.newcomers)).sum();
    let (least_each, most_each) = BUSY_PER_CONNECTION;
    let each = (busy / known.max(1) as f64).clamp(least_each, most_each);
    let expected = |load: &Load| load.busy + load.newcomers as f64 * each;
    let least = loads.iter().map(expected).fold(f64::INFINITY, f64::min);
    let equal = |load: &Load| expected(load) <= least + BUSY_TOLERANCE;
    loads
        .iter()
        .enumerate()
        .filter(|(_, load)| equal(load))
        .min_by_key(|(index, load)| (load.connections, *index))
        .map_or(0, |(index, _)| index)
}

/// The thread to relieve and the busy share to move away from it, if any thread is busy while
/// another has room.
pub(super) fn to_relieve(loads: &[Load]) -> Option<(usize, f64)> {
    let by_busy = |a: &(usize, &Load), b: &(usize, &Load)| a.1.busy.total_cmp(&b.1.busy);
    let (hot, hottest) = loads.iter().enumerate().max_by(by_busy)?;
    let (_, coldest) = loads.iter().enumerate().min_by(by_busy)?;
    let gap = hottest.busy - coldest.busy;
    (hottest.busy >= HOT_BUSY_MIN && gap >= GAP_MIN).then_some((hot, gap))
}

/// Of a hot thread's connections, given by what each read lately, the one whose leaving evens out
/// `gap` best; none where moving any would only move the heat.
pub(super) fn to_move(busy: f64, gap: f64, read: &[(u64, u64)]) -> Option<u64> {
    let total: u64 = read.iter().map(|(_, bytes)| bytes).sum();
    let share = |bytes: u64| busy * bytes as f64 / total.max(1) as f64;
    read.iter()
        .map(|(id, bytes)| (*id, share(*bytes)))
        .filter(|(_, load)| *load > 0.0 && *load < gap)
        .min_by(|(_, a), (_, b)| (a - gap / 2.0).abs().total_cmp(&(b - gap / 2.0).abs()))
        .map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::{Load, least_loaded, to_move, to_relieve};

    fn load(busy: f64, connections: usize) -> Load {
        Load { busy, connections, newcomers: 0 }
    }

    #[test]
    fn idle_threads_take_turns() {
        let mut loads = [Load::default(); 3];
        let order: Vec<usize> = (0..6)
            .map(|_| {
                let next = least_loaded(&loads);
                loads[next].connections += 1;
                loads[next].newcomers += 1;
                next
            })
            .collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn one_busy_connection_outweighs_many_idle_ones() {
        assert_eq!(least_loaded(&[load(0.9, 1), load(0.05, 20)]), 1);
        assert_eq!(least_loaded(&[load(0.05, 9), load(0.1, 2)]), 1, "both are about idle");
    }

    #[test]
    fn a_burst_does_not_all_go_to_the_lowest_sample() {
        let mut loads = [load(0.3, 2), load(0.0, 2)];
        for _ in 0..20 {
            let next = least_loaded(&loads);
            loads[next].connections += 1;
            loads[next].newcomers += 1;
        }
        assert!(loads[0].newcomers >= 6 && loads[1].newcomers >= 6, "{loads:?}");
    }

    #[test]
    fn two_busy_connections_on_one_thread_are_parted() {
        let loads = [load(1.0, 3), load(0.0, 0)];
        assert_eq!(to_relieve(&loads), Some((0, 1.0)));
        assert_eq!(to_move(1.0, 1.0, &[(7, 500), (8, 500), (9, 1)]), Some(7));
        assert_eq!(to_relieve(&[load(1.0, 3), load(0.7, 1)]), None, "no room elsewhere");
        assert_eq!(to_relieve(&[load(0.5, 3), load(0.0, 1)]), None, "not hot");
    }

    #[test]
    fn a_single_busy_connection_is_left_alone() {
        assert_eq!(to_move(1.0, 1.0, &[(7, 500)]), None);
        assert_eq!(to_move(1.0, 1.0, &[(7, 500), (8, 0)]), None);
        assert_eq!(to_move(1.0, 0.5, &[]), None);
    }
}
