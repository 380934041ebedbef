//! Named bugs: a line that defends the promise is taken away, and the checks must find it. Works only with the `sabotage` feature.

use std::ops::Range;

use crate::{Options, Played};

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// The rule, or row of the table of interleavings, that the line is of.
    pub rule: &'static str,
    /// What is not done any more.
    pub what: &'static str,
}

const fn bug(name: &'static str, rule: &'static str, what: &'static str) -> Bug {
    Bug { name, rule, what }
}

/// All bugs that can be seen.
pub const BUGS: &[Bug] = &[
    bug("R1", "R1", "pending, ring and journal are merged at an install"),
    bug("R2", "R2", "old snapshots are refused"),
    bug("R3", "R3", "transfers come from clean entries, and stand where the donor stands"),
    bug("R4", "R4", "own marks go into memory before the acknowledgement"),
    bug("R5", "R5", "tokens are looked at"),
    bug("R6", "R6", "a commit counts once all of it was applied"),
    bug("R7", "R7", "users are cached only where their partition is followed"),
    bug("R8", "R8", "a gap raises the epoch"),
    bug("R9", "R9", "a fence proves what came before its write"),
    bug("R10", "R10", "removed ids are contested, and rebuilt"),
    bug("R9Begun", "R9", "a fence proves nothing before it comes back"),
    bug("R1Journal", "R1, row 29", "own marks are merged at an install"),
    bug("R1Generation", "R1, row 7", "a late build does not replace a later one"),
    bug("R2Ring", "R2, row 3", "an old snapshot needs a ring that reaches it"),
    bug("R3Clean", "R3, row 60", "entries that owe a rebuild are not given away"),
    bug("R3Position", "R3, row 31", "a donor stands where it says"),
    bug("R8Whole", "R8", "only a build that began after a doubt settles it"),
    bug("R9Released", "R9, row 26", "a fence releases only what was acknowledged before its write"),
    bug("R9Presented", "R9", "a fence covers only what was presented before its write"),
    bug("R9Writer", "R9, row 58", "only the own incarnation's fence proves anything"),
    bug("R10Forget", "R10, row 49", "a forgotten user's entry goes at once"),
    bug("R10Suspect", "R10, row 59", "a commit that a remove overtook is suspect"),
    bug("replica.incarnation", "R9, row 58", "each life of a replica has a name of its own"),
    bug("replica.failed_write", "row 44", "only what is committed is acknowledged"),
    bug("replica.unknown_write", "row 11", "a lost outcome is no acknowledgement"),
    bug("replica.late_commit", "row 11", "a write that takes too long is of unknown outcome"),
    bug("replica.expired_write", "row 38", "a write whose time is over is not begun"),
    bug("replica.flag", "R5", "what storage could not be asked about is flagged"),
    bug("replica.session", "row 28", "an acknowledgement's token holds the session's"),
    bug("proxy.deadline", "promise 4", "the proxy answers before the deadline"),
    bug("proxy.flag", "promise 2", "the proxy's own word is flagged"),
    bug("proxy.hedged_write", "row 38", "a write is never sent to two"),
    bug("proxy.unknown_write", "row 38", "a write of unknown outcome is not repeated"),
    bug("proxy.lost_write", "row 38", "a write that is lost with its link is not repeated"),
    bug("proxy.moved", "row 27", "moved users without a token carry a claim"),
    bug("proxy.back", "row 27", "a home that is back does not know what was written meanwhile"),
    bug("proxy.strayed", "row 37", "who wrote elsewhere than at home carries a claim"),
    bug("hash.checked", "row 32", "bits that were made with another key are refused"),
    bug("link.reopen", "promise 4", "a connection that broke is opened again"),
    bug("link.credit", "promise 4", "what was answered gives its credit back"),
];

/// Lines behind which another one defends the same: without them work is done in vain, and no promise is broken. Why is told in
/// `docs/simulation.md`.
pub const BEHIND: &[Bug] = &[
    bug("R8Install", "R8, row 52", "a gap during a build refuses its install"),
    bug("R10UserEpoch", "row 41", "a snapshot from before a forget is refused"),
    bug("replica.late_write", "rows 36, 38", "a write that waited in a frozen process is not done"),
];

/// The bug of this name.
pub fn named(name: &str) -> Option<Bug> {
    BUGS.iter().chain(BEHIND).find(|bug| bug.name == name).copied()
}

/// Gives a defence back when it is dropped.
#[derive(Debug)]
pub struct GivenBack(());

impl Drop for GivenBack {
    fn drop(&mut self) {
        #[cfg(feature = "sabotage")]
        seen_cluster::sabotage::take_away(None);
    }
}

/// Takes a defence away from this thread, until what it returns is dropped.
///
/// # Errors
/// The feature is not on.
pub fn take_away(name: Option<&'static str>) -> Result<GivenBack, String> {
    #[cfg(feature = "sabotage")]
    seen_cluster::sabotage::take_away(name);
    match name {
        Some(_) if cfg!(not(feature = "sabotage")) => {
            Err("build with `--features sabotage` to take a defence away".to_owned())
        }
        _ => Ok(GivenBack(())),
    }
}

/// How a bug was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// After how many seeds.
    pub seeds: u64,
    /// The check that found it.
    pub promise: u8,
    /// The story.
    pub story: String,
}

/// Plays seeds without a defence until a promise is broken.
///
/// # Errors
/// The simulation itself could not be set up.
pub fn find(bug: Bug, seeds: Range<u64>, over: impl Fn() -> bool) -> Result<Option<Found>, String> {
    find_by(crate::play, bug, seeds, over)
}

/// The same by another way to play a seed.
///
/// # Errors
/// The simulation itself could not be set up.
pub fn find_by(
    play: impl Fn(u64, Options) -> Result<Played, String>,
    bug: Bug,
    seeds: Range<u64>,
    over: impl Fn() -> bool,
) -> Result<Option<Found>, String> {
    let first = seeds.start;
    for seed in seeds {
        if over() {
            return Ok(None);
        }
        let options = Options { without: Some(bug.name), ..Options::quiet() };
        let played = play(seed, options)?;
        if let Some(broken) = played.report.broken.first() {
            let promise = broken.promise;
            let told = play(seed, Options { traced: true, ..options })?;
            let story = told.story().unwrap_or_default();
            return Ok(Some(Found { seeds: seed - first + 1, promise, story }));
        }
    }
    Ok(None)
}
