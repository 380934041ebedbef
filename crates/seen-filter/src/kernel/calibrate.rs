//! The choice of the kernel at start-up, by measurement.

use crate::hash::HashKey;
use crate::ids::{Item, Kind, UnixMillis};
use crate::kernel::Kernel;
use crate::packed::PackedIds;
use crate::sizing::Sizing;
use crate::state::UserState;
use crate::verdicts::Verdicts;
use crate::{Builder, settings};

/// Items of the trial's history: a typical long one, which fits the second-level cache.
const ITEMS: u64 = 4_000;
/// Candidates of a trial request.
const CANDIDATES: u64 = 400;
/// Trials of each kernel; the best one counts.
const TRIALS: u32 = 40;

/// Chooses the fastest kernel for this CPU by trying each on a cached filter, since wide vectors are
/// slow under some CPUs' security microcode and in some virtual machines. Another than the plain one
/// has to be faster by a tenth of its time.
///
/// `now_ns` is a monotonic clock in nanoseconds. Takes about a millisecond.
pub fn calibrate(now_ns: &mut dyn FnMut() -> u64) -> Kernel {
    let key = HashKey::new(0, [0; 16]);
    let state = trial_state(&key);
    let request: Vec<u8> = (0..CANDIDATES).flat_map(|id| (id * 20).to_le_bytes()).collect();
    let ids = PackedIds::new(&request).unwrap_or(PackedIds::EMPTY);
    let mut chosen = (Kernel::PLAIN, u64::MAX);
    for kernel in Kernel::available() {
        let key = key.with_kernel(kernel);
        let mut best_ns = u64::MAX;
        for _ in 0..TRIALS {
            let mut seen = Verdicts::new();
            let before = now_ns();
            state.check(&key, Kind::default(), ids, 0, &mut seen);
            // Used, or the compiler might leave the work out.
            std::hint::black_box(seen);
            best_ns = best_ns.min(now_ns().saturating_sub(before));
        }
        if kernel == Kernel::PLAIN || best_ns < chosen.1 - chosen.1 / 10 {
            chosen = (kernel, best_ns);
        }
    }
    chosen.0
}

fn trial_state(key: &HashKey) -> UserState {
    let mut builder = Builder::new(key, &Sizing::new(settings::RATE_DEFAULT, None));
    (0..ITEMS).for_each(|id| builder.push(Item::new(0, id), UnixMillis::default(), 0));
    builder.finish()
}
