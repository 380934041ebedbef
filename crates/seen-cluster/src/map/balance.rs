//! Which virtual slots move when slots come and go: as few as can be.

use seen_filter::hash::VIRTUAL_SLOTS;
use seen_filter::{VirtualSet, VirtualSlot};

use super::{Slot, SlotNumber};

/// Gives what was freed to those that own least, and lets newcomers take from those that own most until each has its share. Nothing else
/// moves: what is uneven among the others stays.
pub(super) fn share_out(slots: &mut [Slot], freed: &VirtualSet, newcomers: &[SlotNumber]) {
    if slots.is_empty() {
        return;
    }
    let mut counts: Vec<usize> = slots.iter().map(|slot| slot.owned.len()).collect();
    let mut gains = vec![0; slots.len()];
    for _ in 0..freed.len() {
        let least = least(&counts);
        counts[least] += 1;
        gains[least] += 1;
    }
    hand_out(slots, freed, &gains);
    let share = usize::from(VIRTUAL_SLOTS) / slots.len();
    let (mut gains, mut losses) = (vec![0; slots.len()], vec![0; slots.len()]);
    for at in 0..slots.len() {
        while newcomers.contains(&slots[at].number) && counts[at] < share {
            let most = most(&counts);
            counts[most] -= 1;
            losses[most] += 1;
            counts[at] += 1;
            gains[at] += 1;
        }
    }
    let taken = take_away(slots, &losses);
    hand_out(slots, &taken, &gains);
}

/// Moves so few that no slot owns over one more than another.
pub(super) fn even_out(slots: &mut [Slot]) {
    if slots.is_empty() {
        return;
    }
    let total = usize::from(VIRTUAL_SLOTS);
    let (share, rest) = (total / slots.len(), total % slots.len());
    // Who owns most keeps the one more.
    let mut order: Vec<usize> = (0..slots.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(slots[*at].owned.len()));
    let mut quotas = vec![share; slots.len()];
    order.iter().take(rest).for_each(|at| quotas[*at] += 1);
    let count = |at: usize| slots[at].owned.len();
    let losses: Vec<_> = (0..slots.len()).map(|at| count(at).saturating_sub(quotas[at])).collect();
    let gains: Vec<_> = (0..slots.len()).map(|at| quotas[at].saturating_sub(count(at))).collect();
    let taken = take_away(slots, &losses);
    hand_out(slots, &taken, &gains);
}

fn least(counts: &[usize]) -> usize {
    (0..counts.len()).min_by_key(|at| counts[*at]).unwrap_or(0)
}

fn most(counts: &[usize]) -> usize {
    (0..counts.len()).rev().max_by_key(|at| counts[*at]).unwrap_or(0)
}

/// Takes so many from each slot, its highest: what is left stays in few ranges.
fn take_away(slots: &mut [Slot], losses: &[usize]) -> VirtualSet {
    let mut taken = VirtualSet::NONE;
    for (slot, loss) in slots.iter_mut().zip(losses) {
        let highest: Vec<VirtualSlot> = slot.owned.iter().rev().take(*loss).collect();
        for one in highest {
            slot.owned.remove(one);
            taken.insert(one);
        }
    }
    taken
}

/// Gives so many to each slot, in ranges as long as can be.
fn hand_out(slots: &mut [Slot], what: &VirtualSet, gains: &[usize]) {
    let mut left = what.iter();
    for (slot, gain) in slots.iter_mut().zip(gains) {
        left.by_ref().take(*gain).for_each(|one| {
            slot.owned.insert(one);
        });
    }
}
