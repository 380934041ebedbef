//! What users take in memory, by what the operating system says a process holds.

use super::chart::{Bar, Chart};
use super::figure::{Aim, Figure, number};
use super::part::Part;
use super::progress::Progress;
use super::{BenchError, Effort, Outcome, Plan};

/// Bits an item of a classic Bloom filter at 1 %, by formula: `ln(1/p) / ln(2)^2`. No table, no
/// header, no allocator.
const CLASSIC_BITS: f64 = 9.585;
/// Users of 16 items.
const SMALL_USERS: u64 = 1_000_000;

fn users(plan: &Plan) -> u64 {
    plan.memory_users.unwrap_or(match plan.effort {
        Effort::Quick => 20_000,
        Effort::Usual => 200_000,
        Effort::Full => 1_000_000,
    })
}

/// Users that grow. Their every mark is applied one by one, so that a million of them take a quarter
/// of an hour; with few, the fixed costs of the table show.
fn growing_users(plan: &Plan, users: u64) -> u64 {
    users.min(match plan.effort {
        Effort::Quick => 6_000,
        Effort::Usual => 60_000,
        Effort::Full => users,
    })
}

/// Measures it.
///
/// # Errors
/// [`BenchError`].
pub(super) fn measure(plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
    let users = users(plan);
    let growing = growing_users(plan, users);
    let small = plan.pick(SMALL_USERS / 5, SMALL_USERS);
    let part = |phase: &str, users: u64| -> Result<Part, BenchError> {
        progress.step(format!("memory: {} users ({phase})", number(users as f64)))?;
        Part::start("footprint", &[format!("--phase={phase}"), format!("--users={users}")])
    };
    let built = part("build", users)?.number("bits_per_item")?;
    let growth = part("growth", growing)?;
    let grown = growth.number("bits_per_item")?;
    let reread = growth.number("rows_reread_per_mark")?;
    let bytes = part("small", small)?.number("bytes_per_user")?;
    let classic = "classic Bloom filter, by formula";
    let figures = vec![
        Figure::of("memory_after_build", built, "bits of resident memory an item")
            .against(CLASSIC_BITS, classic)
            .aim(Aim::AtMost(10.5)),
        Figure::of("memory_while_growing", grown, "bits of resident memory an item")
            .against(CLASSIC_BITS, classic)
            .aim(Aim::AtMost(13.0)),
        Figure::of("memory_rows_reread", reread, "rows read again for each mark")
            .aim(Aim::AtMost(3.0)),
        Figure::of("memory_user_of_16", bytes, "bytes of resident memory a user")
            .aim(Aim::AtMost(200.0)),
    ];
    let chart = Chart::new("memory: bits an item, everything included", "bits")
        .bar(Bar::ours("after a build", built))
        .bar(Bar::ours("while growing by half", grown))
        .bar(Bar::rival("classic, by formula", CLASSIC_BITS))
        .limit(10.5)
        .limit(13.0);
    let note = format!(
        "memory: {} users just built and {} growing, sizes drawn from the real histories above \
         1,000 items; {} users of 16 items",
        number(users as f64),
        number(growing as f64),
        number(small as f64)
    );
    Ok(Outcome { figures, charts: vec![chart], notes: vec![note], ..Outcome::default() })
}
