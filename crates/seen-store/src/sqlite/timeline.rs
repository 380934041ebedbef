//! Tells a restored copy of the file from the file itself (coherence row 53): positions of a copy
//! would number other commits than the ones that readers already know under the same numbers.
//!
//! A side file, `<file>.timeline`, remembers which file this is (inode number and time of birth; not
//! the device number, which changes from boot to boot), its timeline, how often it was opened for
//! writing, and a commit number that it had certainly reached. At every open for writing the two
//! are compared while the file's write lock is held, so that processes that open at the same time
//! see the same answer; a difference begins a new timeline.
//!
//! Detected: the file copied or moved to another place or machine; an older copy put in its place,
//! by a new file or by overwriting it; the folder restored from an archive, side file included.
//! Not detected: a whole disk or machine put back to a snapshot (nothing inside it changes), and an
//! overwriting in place, within the process's last second before it was killed, by a copy made in
//! that same second. For these there is `SqliteOptions::new_timeline`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::connection::with_suffix;

/// What the side file remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// The timeline.
    pub timeline: u64,
    /// How often the file was opened for writing.
    pub opens: u64,
    /// A commit that the file contained when this was written.
    pub head: u64,
    /// The file's inode number.
    pub inode: u64,
    /// The file's time of birth in nanoseconds since 1970; 0 where the file system keeps none.
    pub born_ns: u64,
}

/// Why the file is taken for a copy, for the log.
pub(crate) fn difference(remembered: &Marker, found: &Marker) -> Option<&'static str> {
    if remembered.timeline != found.timeline {
        Some("the side file belongs to another timeline")
    } else if (remembered.inode, remembered.born_ns) != (found.inode, found.born_ns) {
        Some("the file is not the one that the side file was written for")
    } else if remembered.opens != found.opens {
        Some("the file was opened a different number of times than the side file says")
    } else if found.head < remembered.head {
        Some("the file lacks commits that it had")
    } else {
        None
    }
}

/// The file's inode number and time of birth.
pub(crate) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    let born = metadata.created().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let born_ns = born.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(0));
    Ok((metadata.ino(), born_ns))
}

/// The side file. All access is under the database's write lock.
#[derive(Debug)]
pub(crate) struct SideFile(File);

/// The side file has one line of fixed length, so that it is overwritten in one piece.
const LINE_BYTES: usize = 160;

impl SideFile {
    /// Opens the side file of the database at `path`, or makes an empty one.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let side = with_suffix(path, ".timeline");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.open(side).map(Self)
    }

    /// What it says, or `None` if it is new or not whole.
    pub(crate) fn read(&mut self) -> io::Result<Option<Marker>> {
        let mut text = String::new();
        self.0.seek(SeekFrom::Start(0))?;
        let read = (&mut self.0).take(2 * LINE_BYTES as u64).read_to_string(&mut text);
        match read {
            Ok(_) => Ok(parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Overwrites what it says. Without `durable` a power failure may undo it, which loses the
    /// detection of some copies and never takes the file itself for one.
    pub(crate) fn write(&mut self, marker: &Marker, durable: bool) -> io::Result<()> {
        self.0.seek(SeekFrom::Start(0))?;
        self.0.write_all(line(marker).as_bytes())?;
        if durable {
            self.0.sync_all()?;
        }
        Ok(())
    }
}

fn line(marker: &Marker) -> String {
    let Marker { timeline, opens, head, inode, born_ns } = marker;
    let body = format!("seen-timeline 1 {timeline:016x} {opens} {head} {inode} {born_ns}");
    let sum = crc32fast::hash(body.as_bytes());
    // Padded so that an older, longer line never shows behind a shorter one.
    format!("{:<width$}\n", format!("{body} {sum:08x}"), width = LINE_BYTES - 1)
}

fn parse(text: &str) -> Option<Marker> {
    let (body, sum) = text.lines().next()?.trim_end().rsplit_once(' ')?;
    if u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(body.as_bytes()) {
        return None;
    }
    let mut words = body.strip_prefix("seen-timeline 1 ")?.split(' ');
    let marker = Marker {
        timeline: u64::from_str_radix(words.next()?, 16).ok()?,
        opens: words.next()?.parse().ok()?,
        head: words.next()?.parse().ok()?,
        inode: words.next()?.parse().ok()?,
        born_ns: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(marker)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: Marker =
        Marker { timeline: u64::MAX, opens: 3, head: 1_000, inode: 77, born_ns: 1_790_000_000 };

    #[test]
    fn a_marker_is_read_back_whole_or_not_at_all() {
        let text = line(&MARKER);
        assert_eq!(text.len(), LINE_BYTES);
        assert_eq!(parse(&text), Some(MARKER));
        let largest = Marker {
            opens: u64::MAX,
            head: u64::MAX,
            inode: u64::MAX,
            born_ns: u64::MAX,
            ..MARKER
        };
        assert_eq!(line(&largest).len(), LINE_BYTES);
        for at in 0..text.trim_end().len() {
            let mut torn = text.clone().into_bytes();
            torn[at] ^= 1;
            assert_eq!(parse(&String::from_utf8_lossy(&torn)), None, "byte {at}");
        }
        assert_eq!(parse(""), None);
    }

    #[test]
    fn every_kind_of_copy_is_told() {
        assert_eq!(difference(&MARKER, &MARKER), None);
        let further = Marker { head: 1_001, ..MARKER };
        assert_eq!(difference(&MARKER, &further), None, "commits after the marker's last second");
        for (what, found) in [
            ("another timeline", Marker { timeline: 1, ..MARKER }),
            ("another file", Marker { inode: 78, ..MARKER }),
            ("a new file under a reused number", Marker { born_ns: 1, ..MARKER }),
            ("from an earlier session", Marker { opens: 2, ..MARKER }),
            ("from earlier in this session", Marker { head: 999, ..MARKER }),
        ] {
            assert!(difference(&MARKER, &found).is_some(), "{what}");
        }
    }
}
