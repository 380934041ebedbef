//! Looks up what was imported: Filter with `confirm`, which asks storage about every item that memory
//! calls read.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream;
use seen_client::limits::CANDIDATES_MAX;
use seen_client::{Client, FilterCall, Item, Session};
use tokio::sync::mpsc;

use super::ImportArgs;
use crate::cli::CliError;
use crate::cli::calls::{by_kind, described};
use crate::history_file::{Event, HistoryFile, HistoryFileError};

/// Events that are grouped by user at once.
const WINDOW_EVENTS: usize = 65_536;
/// Questions under way at the same time.
const QUESTIONS_MAX: usize = 32;
/// How often a flagged answer is asked for again.
const ASKED_MAX: usize = 5;
/// Missing items that are told by name.
const STORIES_MAX: usize = 10;

/// What the look-up came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verified {
    /// Events looked up.
    pub(super) checked: u64,
    /// Events that are not there.
    pub(super) missing: u64,
    /// The first of them, for people.
    pub(super) stories: Vec<String>,
}

/// Looks every event of all files up.
///
/// # Errors
/// A file that cannot be read again, or a service that refuses.
pub(super) async fn all(args: &ImportArgs, client: &Client) -> Result<Verified, CliError> {
    let mut verified = Verified::default();
    for path in &args.files {
        let mut file = HistoryFile::open_named(path, args.malformed_max, args.columns.as_ref())?;
        let (windows, mut parts) = mpsc::channel(1);
        let reading = tokio::task::spawn_blocking(move || -> Result<(), HistoryFileError> {
            loop {
                let mut window = Vec::with_capacity(WINDOW_EVENTS);
                while window.len() < WINDOW_EVENTS
                    && let Some(event) = file.next_event()?
                {
                    window.push(event);
                }
                if window.is_empty() || windows.blocking_send(window).is_err() {
                    return Ok(());
                }
            }
        });
        while let Some(window) = parts.recv().await {
            check(args, client, window, &mut verified).await?;
        }
        reading.await??;
    }
    Ok(verified)
}

/// Looks these events up.
///
/// # Errors
/// A service that refuses.
pub(super) async fn sample(
    args: &ImportArgs,
    client: &Client,
    events: Vec<Event>,
) -> Result<Verified, CliError> {
    let mut verified = Verified::default();
    for window in events.chunks(WINDOW_EVENTS) {
        check(args, client, window.to_vec(), &mut verified).await?;
    }
    Ok(verified)
}

async fn check(
    args: &ImportArgs,
    client: &Client,
    events: Vec<Event>,
    verified: &mut Verified,
) -> Result<(), CliError> {
    let mut by_user: BTreeMap<u64, Vec<Item>> = BTreeMap::new();
    for event in events {
        by_user.entry(event.user.get()).or_default().push(event.item);
    }
    let questions = by_user.into_iter().flat_map(|(user, mut items)| {
        items.sort_unstable();
        items.chunks(CANDIDATES_MAX).map(|part| (user, part.to_vec())).collect::<Vec<_>>()
    });
    let mut answers = stream::iter(questions)
        .map(|(user, items)| ask(args, client, user, items))
        .buffer_unordered(QUESTIONS_MAX);
    while let Some(answer) = answers.next().await {
        let (user, checked, missing) = answer?;
        verified.checked += checked;
        verified.missing += missing.len() as u64;
        let room = STORIES_MAX.saturating_sub(verified.stories.len());
        let told = missing.iter().take(room);
        let tell = |item: &Item| format!("missing: item {item} of user {user}");
        verified.stories.extend(told.map(tell));
    }
    Ok(())
}

/// User, items asked about, and those of them that are not there.
type Answered = (u64, u64, Vec<Item>);

/// Asks about some items of one user; which of them are not there.
async fn ask(
    args: &ImportArgs,
    client: &Client,
    user: u64,
    items: Vec<Item>,
) -> Result<Answered, CliError> {
    let session = Session::new(user);
    let call = FilterCall::new(&args.namespace).confirm(true);
    let call = by_kind(&items).fold(call, |call, (kind, ids)| call.items(kind, ids));
    for _ in 0..ASKED_MAX {
        let answer = client.filter(&session, call.clone()).await.map_err(described)?;
        if answer.is_flagged() {
            continue;
        }
        let place = |place: &u32| items.get(*place as usize).copied();
        let missing = answer.unseen.iter().filter_map(place).collect();
        return Ok((user, items.len() as u64, missing));
    }
    Err(format!("user {user}: {ASKED_MAX} answers in a row were degraded; verify later").into())
}
