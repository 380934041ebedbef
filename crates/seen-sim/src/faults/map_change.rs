//! A map that changes while everything runs: another slot comes, takes its share, and goes again.

use std::sync::Arc;
use std::time::Duration;

use seen_cluster::map::SlotNumber;
use seen_cluster::map::plan::{PlanOptions, Target, Wish, plan};
use tokio::time::sleep;

use crate::cluster::{POOL, Seat, members};
use crate::dice::Dice;
use crate::world::World;

/// How long it takes at most until somebody has the new map, in milliseconds.
const SPREADS_MS_MAX: u64 = 400;
/// How long each epoch stands at least.
const STANDS: Duration = Duration::from_millis(600);

/// Grows the cluster by a slot, and shrinks it again.
pub(super) async fn grow_and_shrink(world: &Arc<World>, mut dice: Dice, stays: Duration) {
    let shape = world.cluster.shape;
    let number = shape.slots;
    let seats: Vec<Seat> = (0..shape.replicas).map(|n| Seat { slot: number, number: n }).collect();
    seats.iter().for_each(|seat| world.start_replica(*seat));
    let (tag, slot) = (POOL.to_owned(), SlotNumber::new(number));
    let comes = Wish::Slot { tag: tag.clone(), slot, members: members(number, shape.replicas) };
    change(world, comes, &mut dice).await;
    sleep(stays).await;
    change(world, Wish::NoSlot { tag, slot }, &mut dice).await;
    seats.iter().for_each(|seat| world.remove_replica(*seat));
}

async fn change(world: &Arc<World>, wish: Wish, dice: &mut Dice) {
    let plan = plan(&world.map(), &Target::Wishes(vec![wish]), &PlanOptions::default());
    let steps = match plan {
        Ok(plan) => plan.steps,
        Err(error) => return world.callers.broken(None, 4, format!("no plan: {error}")),
    };
    for step in steps {
        let what = format!("epoch {} of the map: {}", step.map.epoch.get(), step.kind.label());
        world.cluster.trace.tell(&"fault".into(), what);
        world.publish(&step.map, || dice.ms(0..=SPREADS_MS_MAX));
        sleep(STANDS + dice.ms(0..=400)).await;
    }
}
