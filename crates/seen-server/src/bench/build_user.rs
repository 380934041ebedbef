//! How long it takes to build a user from storage.

use std::time::{Duration, Instant};

use bytes::Bytes;
use seen_client::{Admin, ClientOptions};

use super::chart::{Bar, Chart};
use super::figure::{Figure, number};
use super::filter::{Server, block_on};
use super::load::{MARK, Pace, Shape, Source, Target, run};
use super::process::{cores, median};
use super::progress::Progress;
use super::synthetic::{NAMESPACE, mark_body};
use super::{BenchError, Outcome, Plan};

/// Histories that are built.
const SIZES: [u64; 3] = [1_000, 50_000, 500_000];
/// Items of one mark while they are made.
const ITEMS_PER_MARK: u64 = 1_000;
/// Users beyond those that other measurements know.
const FIRST_USER: u64 = 1 << 40;
/// The longest that making one history may take.
const MARKED_WITHIN: Duration = Duration::from_secs(120);
/// Builds of each, of which the median counts.
const BUILDS: usize = 5;
/// The longest that the feed may take to bring it back, and how often it is looked at.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Measures it.
///
/// # Errors
/// [`BenchError`].
pub(super) fn measure(plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
    progress.step("build_user: starting a server")?;
    let server = Server::on(cores(), 0, &plan.dir, plan.config.as_deref())?;
    let mark = Target { path: MARK, timeout: "50S", ..server.target.clone() };
    let url = format!("http://{}", server.part.address("admin")?);
    let sizes = plan.pick(&SIZES[..2], &SIZES[..]);
    let mut outcome = Outcome::default();
    let mut chart = Chart::new("build_user: from storage to memory", "ms");
    for (user, &size) in (FIRST_USER..).zip(sizes) {
        progress.step(format!("build_user: marking {} items", number(size as f64)))?;
        let shape =
            Shape { connections: 1, streams: 4, pace: Pace::Closed, lasting: MARKED_WITHIN };
        run(&mark, shape, marks_of(user, size))?.all_answered("marking a long history")?;
        progress.step(format!("build_user: {} items", number(size as f64)))?;
        let ms = build_ms(&url, user, size)?;
        outcome.figures.push(Figure::of(format!("build_user_{size}"), ms, "ms"));
        chart = chart.bar(Bar::ours(format!("{} items", number(size as f64)), ms));
    }
    outcome.charts.push(chart);
    if sizes.len() < SIZES.len() {
        outcome.notes.push("build_user: 500,000 items are left out by --quick".to_owned());
    }
    Ok(outcome)
}

fn marks_of(user: u64, size: u64) -> Source {
    let mut from = 0;
    Box::new(move || {
        let first = from;
        from = (first + ITEMS_PER_MARK).min(size);
        (first < size).then(|| Bytes::from(mark_body(user, first..from)))
    })
}

/// The median time of a build, as the server says; it looks every 2 ms whether it has ended.
fn build_ms(url: &str, user: u64, size: u64) -> Result<f64, BenchError> {
    block_on(async {
        let admin = Admin::new(&ClientOptions::new(url))
            .map_err(|error| BenchError::Wrong(error.to_string()))?;
        settled(&admin).await?;
        let mut times = Vec::with_capacity(BUILDS);
        for _ in 0..BUILDS {
            let built = admin
                .rebuild(user, NAMESPACE)
                .await
                .map_err(|error| BenchError::Call { what: "RebuildUser", error })?;
            if built.rows_read != size {
                let what = format!("a build of {size} items read {} rows", built.rows_read);
                return Err(BenchError::Wrong(what));
            }
            times.push(built.duration_ms as f64);
        }
        Ok(median(&times))
    })
}

/// Waits until the feed has brought back what was marked: what still arrives during a build is held
/// back for it, and too much of that begins the build anew.
async fn settled(admin: &Admin) -> Result<(), BenchError> {
    let began = Instant::now();
    while began.elapsed() < SETTLED_WITHIN {
        let status =
            admin.status().await.map_err(|error| BenchError::Call { what: "Status", error })?;
        if status.partitions.iter().all(|partition| partition.journal_entries == 0) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let what = format!("the feed had not brought back all marks after {SETTLED_WITHIN:?}");
    Err(BenchError::Wrong(what))
}
