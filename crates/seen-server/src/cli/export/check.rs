//! Reads files of an export again, and looks rows of it up in storage.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use seen_filter::history::{ITEMS_PER_CALL_MAX, Question};
use seen_filter::{Item, NamespaceId, RowKey, UserId};

use super::ExportArgs;
use super::manifest::{Key, Manifest, Segment, hex};
use super::walk::{again, namespace_id};
use crate::cli::CliError;
use crate::cli::import::HowMany;
use crate::cli::import::sample::Sample;
use crate::config::Config;
use crate::history_file::{Event, HistoryFile, RowSum};
use crate::node::Reading;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Files and rows that are told by name.
const STORIES_MAX: usize = 10;
/// Rows that are looked up together.
const WINDOW_ROWS: usize = 10_000;

/// What reading again came to.
pub(crate) struct Checked {
    /// Rows that were read.
    pub(crate) rows: u64,
    /// Files that are not as they were written.
    pub(crate) damaged: u64,
    /// The first of them, for people.
    pub(crate) stories: Vec<String>,
    sample: Vec<Event>,
}

/// What looking up came to.
#[derive(Default)]
pub(super) struct LookedUp {
    /// Rows looked up.
    pub(super) rows: u64,
    /// Rows that storage does not have.
    pub(super) missing: u64,
    /// The first of them, for people.
    pub(super) stories: Vec<String>,
}

/// Reads every file again: its bytes, its rows, and their sums. Draws a sample of the rows.
///
/// # Errors
/// None but a task that failed; what is wrong with a file is told in the answer.
pub(crate) async fn files(
    folder: &Path,
    manifest: &Manifest,
    how_many: HowMany,
) -> Result<Checked, CliError> {
    let (folder, manifest) = (folder.to_owned(), manifest.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let mut sample = Sample::new(match how_many {
            HowMany::All => 0,
            HowMany::Sample(rows) => rows,
        });
        let mut checked = Checked { rows: 0, damaged: 0, stories: Vec::new(), sample: Vec::new() };
        for (file, path) in manifest.paths(&folder) {
            match one(file, &path, &mut sample) {
                Ok(()) => checked.rows += file.rows,
                Err(what) => {
                    checked.damaged += 1;
                    if checked.stories.len() < STORIES_MAX {
                        checked.stories.push(format!("damaged: {}: {what}", path.display()));
                    }
                }
            }
        }
        checked.sample = sample.into_events();
        checked
    });
    Ok(reading.await?)
}

/// Compares one file with what the manifest says.
fn one(expected: &Segment, path: &Path, sample: &mut Sample) -> Result<(), String> {
    let (bytes, crc32) = sum(path).map_err(|error| error.to_string())?;
    if bytes != expected.bytes {
        return Err(format!("{bytes} bytes, and {} were written", expected.bytes));
    }
    if hex(crc32) != expected.crc32 {
        return Err(format!("its checksum is {}, and was {}", hex(crc32), expected.crc32));
    }
    let mut file = HistoryFile::open(path, 0).map_err(|error| error.to_string())?;
    let (mut rows, mut first, mut last) = (RowSum::default(), None, None);
    while let Some(event) = file.next_event().map_err(|error| error.to_string())? {
        rows.add(&event);
        sample.offer(event);
        let key: RowKey = (event.user, event.item);
        first = first.or(Some(key));
        last = Some(key);
    }
    let found = (rows.rows(), hex(rows.crc32()), first.map(Key::from), last.map(Key::from));
    let (expected_first, expected_last) = (Some(expected.first), Some(expected.last));
    if found != (expected.rows, expected.rows_crc32.clone(), expected_first, expected_last) {
        return Err(format!(
            "{} rows of checksum {}, and {} of {} were written",
            found.0, found.1, expected.rows, expected.rows_crc32
        ));
    }
    Ok(())
}

/// A file's length and checksum.
fn sum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut bytes, mut crc32) = (0, crc32fast::Hasher::new());
    loop {
        let read = match file.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok((bytes, crc32.finalize()));
        }
        bytes += read as u64;
        crc32.update(&buffer[..read]);
    }
}

/// Looks the sample up in storage, or all rows of the files that are whole.
pub(super) async fn look_up(
    args: &ExportArgs,
    config: &Config,
    store: &Reading,
    manifest: &Manifest,
    how_many: HowMany,
    checked: &Checked,
) -> Result<LookedUp, CliError> {
    let namespace = namespace_id(args, config);
    let mut looked_up = LookedUp::default();
    if let HowMany::Sample(_) = how_many {
        let mut sample = checked.sample.clone();
        // In key order the store walks its pages once.
        sample.sort_unstable_by_key(|event| (event.user, event.item));
        for window in sample.chunks(WINDOW_ROWS) {
            window_of(store, namespace, window, &mut looked_up).await?;
        }
        return Ok(looked_up);
    }
    if checked.damaged > 0 {
        return Ok(looked_up);
    }
    for (_, path) in manifest.paths(&args.out) {
        let mut file = HistoryFile::open(&path, 0)?;
        loop {
            let mut window = Vec::with_capacity(WINDOW_ROWS);
            while window.len() < WINDOW_ROWS
                && let Some(event) = file.next_event()?
            {
                window.push(event);
            }
            if window.is_empty() {
                break;
            }
            window_of(store, namespace, &window, &mut looked_up).await?;
        }
    }
    Ok(looked_up)
}

async fn window_of(
    store: &Reading,
    namespace: NamespaceId,
    window: &[Event],
    looked_up: &mut LookedUp,
) -> Result<(), CliError> {
    let mut by_user: BTreeMap<UserId, Vec<Item>> = BTreeMap::new();
    for event in window {
        by_user.entry(event.user).or_default().push(event.item);
    }
    let parts = |(user, items): (UserId, Vec<Item>)| {
        let parts = items.chunks(ITEMS_PER_CALL_MAX).map(|items| (user, items.to_vec()));
        parts.map(|(user, items)| Question { user, items }).collect::<Vec<_>>()
    };
    let questions: Vec<Question> = by_user.into_iter().flat_map(parts).collect();
    let answers = again(|| store.history.check(namespace, questions.clone())).await?;
    for (question, found) in questions.iter().zip(answers.found) {
        looked_up.rows += question.items.len() as u64;
        for (item, _) in question.items.iter().zip(found).filter(|(_, found)| !found) {
            looked_up.missing += 1;
            if looked_up.stories.len() < STORIES_MAX {
                let story = format!("not in storage: item {item} of user {}", question.user);
                looked_up.stories.push(story);
            }
        }
    }
    Ok(())
}
