//! More callers than usual, and a user who is more than usual.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::load::Load;
use super::shares::Shares;
use super::stage::{BigUser, Stage};
use super::{DrillError, capacity};
use crate::cli::dev_cluster::DevCluster;

/// How long few come before many do.
const BEFORE_PEAK: Duration = Duration::from_secs(10);
/// How often the big user is asked about.
const BIG_EVERY: Duration = Duration::from_millis(50);

/// How more is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Press {
    /// About one user with a long history.
    BigUser,
    /// So many times what the parts bear, of all calls.
    Overload(u32),
    /// So many times what was usual right before.
    Peak(u32),
}

/// Does it for as long as the fault lasts. What there is to tell of it.
///
/// # Errors
/// It cannot be done here.
pub(super) async fn press(
    press: Press,
    cluster: &DevCluster,
    load: &Arc<Load>,
    stage: Option<&dyn Stage>,
    window: Duration,
) -> Result<String, DrillError> {
    match press {
        Press::BigUser => {
            let user = stage.and_then(Stage::big_user);
            let user =
                user.ok_or_else(|| DrillError::Stage("there is no such user left".to_owned()))?;
            Ok(big_user(load, user, window).await)
        }
        Press::Peak(times) => {
            // So that the peak is what the callers of this machine can do, whatever they usually do is the peak.
            let peak = load.filters_per_s();
            let calm = raised(load, (peak / times).max(1), BEFORE_PEAK).await;
            let offered = raised(load, peak, window).await;
            Ok(format!("{calm:.0} Filters a second came, and then {offered:.0}"))
        }
        Press::Overload(times) => {
            let limited = Shares::give(cluster)?;
            let borne = capacity::borne(load).await;
            load.tally.count(|counts| counts.add(&borne.wrong));
            let (rate, why) = (borne.filters_per_s, borne.why);
            if rate == 0 {
                let what = format!("the parts bear nothing with so little of the processor: {why}");
                return Err(DrillError::Stage(what));
            }
            let offered = raised(load, rate.saturating_mul(times), window).await;
            drop(limited);
            Ok(format!("{rate} Filters a second were borne ({why}), {offered:.0} came"))
        }
    }
}

/// Changes the rate for a while. What came in a second.
async fn raised(load: &Load, to: u32, window: Duration) -> f64 {
    let usual = load.filters_per_s();
    let (before, began) = (load.begun(), Instant::now());
    load.set_filters_per_s(to);
    sleep(window).await;
    load.set_filters_per_s(usual);
    (load.begun() - before) as f64 / began.elapsed().as_secs_f64()
}

async fn big_user(load: &Load, user: BigUser, window: Duration) -> String {
    let began = Instant::now();
    let mut ticks = interval(BIG_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut asked, mut flagged, mut sure) = (0_u32, 0_u32, None);
    while began.elapsed() < window {
        ticks.tick().await;
        asked += 1;
        match load.ask_big(user).await {
            true => sure = sure.or(Some(began.elapsed())),
            false => flagged += 1,
        }
    }
    let sure = match sure {
        None => "none was sure".to_owned(),
        Some(after) => format!("the first sure one after {:.2} s", after.as_secs_f64()),
    };
    format!("{asked} questions about them, {flagged} flagged, {sure}")
}
