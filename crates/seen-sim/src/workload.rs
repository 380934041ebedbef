//! What applications do: users in bursts and pauses, over all proxies, with tokens.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use crate::aim::Habit;
use crate::caller::{Callers, Session};
use crate::dice::Dice;
use crate::ledger::Deed;

/// Users with few items.
pub const LIGHT_USERS: u64 = 14;
/// Users with many.
pub const HEAVY_USERS: u64 = 2;
/// Items that a heavy user has from the start.
pub const HEAVY_ITEMS: u64 = 600;
/// The number of an item that nobody marks, and that takes many bytes.
const LARGE_ID: u64 = 1 << 56;

/// All users.
pub fn users() -> impl Iterator<Item = u64> {
    0..LIGHT_USERS + HEAVY_USERS
}

/// True if a user has many items.
pub const fn is_heavy(user: u64) -> bool {
    user >= LIGHT_USERS
}

/// How many items there are of a user.
const fn items_of(user: u64, habit: &Habit) -> u64 {
    if is_heavy(user) { HEAVY_ITEMS * 2 } else { habit.items }
}

/// One user at one device, until the end.
pub async fn browse(callers: Arc<Callers>, mut session: Session, mut dice: Dice, until: Instant) {
    sleep(dice.ms(0..=1_500)).await;
    while Instant::now() < until {
        for _ in 0..dice.within(1..=6) {
            act(&callers, &mut session, &mut dice).await;
            sleep(dice.ms(0..=60)).await;
        }
        sleep(dice.ms(100..=1_500)).await;
    }
}

async fn act(callers: &Callers, session: &mut Session, dice: &mut Dice) {
    let proxies = callers.proxies.lock().len() as u64;
    let proxy = dice.below(proxies) as usize;
    let habit = callers.cluster.shape.habit;
    let items = items_of(session.user, &habit);
    let mut some = |count: u64| {
        let mut ids: Vec<u64> = (0..count).map(|_| dice.below(items)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let (few, mut many) = (some(3), some(24));
    let strangers = (0..habit.strangers).map(|n| LARGE_ID + n);
    many.extend(strangers.clone());
    let forgets = 100 - habit.forgets_percent;
    let unmarks = forgets - habit.unmarks_percent;
    match dice.below(100) {
        0..58 => callers.filter(session, proxy, many).await,
        deed if deed >= 58 && deed < unmarks => {
            callers.write(session, proxy, Deed::Mark, few.clone()).await;
            // Whoever marked looks again, mostly elsewhere.
            let looks = if habit.looks_max > 1 { dice.within(1..=habit.looks_max) } else { 1 };
            for look in 0..looks {
                if look > 0 {
                    sleep(dice.ms(0..=habit.look_ms_max)).await;
                }
                let proxy = dice.below(proxies) as usize;
                let asked = few.iter().copied().chain(strangers.clone()).collect();
                callers.filter(session, proxy, asked).await;
            }
        }
        deed if deed >= unmarks && deed < forgets => {
            let one = few.into_iter().take(1).collect();
            callers.write(session, proxy, Deed::Unmark, one).await;
        }
        _ => callers.write(session, proxy, Deed::Forget, Vec::new()).await,
    }
}

/// Pushes items to many users at once, now and then.
pub async fn push(callers: Arc<Callers>, mut dice: Dice, until: Instant) {
    while Instant::now() < until {
        sleep(dice.ms(300..=1_200)).await;
        let items = callers.cluster.shape.habit.items;
        let mut ids: Vec<u64> = (0..3).map(|_| dice.below(items)).collect();
        ids.sort_unstable();
        ids.dedup();
        let proxy = dice.below(callers.proxies.lock().len() as u64) as usize;
        callers.push(proxy, &users().collect::<Vec<u64>>(), &ids).await;
    }
}
