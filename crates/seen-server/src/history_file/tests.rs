use std::io::Write;

use proptest::prelude::*;
use seen_filter::{Item, UnixMillis, UserId};

use super::*;

fn event(user: u64, kind: u8, id: u64, ms: u64) -> Event {
    Event { user: UserId::new(user), item: Item::new(kind, id), at: UnixMillis::new(ms) }
}

/// Reads bytes as a file would be read.
fn file(bytes: &[u8], malformed_max: u64) -> HistoryFile {
    let reader = source::reader(Box::new(io::Cursor::new(bytes.to_vec()))).expect("readable");
    HistoryFile::new(Path::new("test.tsv"), Form::Lines(Lines::new(reader)), malformed_max)
}

fn all(file: &mut HistoryFile) -> Result<Vec<Event>, HistoryFileError> {
    let mut events = Vec::new();
    while let Some(event) = file.next_event()? {
        events.push(event);
    }
    Ok(events)
}

fn read(text: &str) -> Vec<Event> {
    all(&mut file(text.as_bytes(), 0)).expect("well formed")
}

#[test]
fn columns_and_separators_are_understood() {
    let text = "user\titem\ttime\n1\t2\t1000129890\r\n\n# a comment\n3,4,255,1000129890123\n\
                \"5\", \"6\" ,0, 2001-09-10T13:51:30Z\n18446744073709551615\t0\t0";
    let expected = [
        event(1, 0, 2, 1_000_129_890_000),
        event(3, 255, 4, 1_000_129_890_123),
        event(5, 0, 6, 1_000_129_890_000),
        event(u64::MAX, 0, 0, 0),
    ];
    assert_eq!(read(text), expected);
    assert_eq!(read("\u{feff}user,item,time\n1,2,3\n"), [event(1, 0, 2, 3_000)]);
    assert_eq!(read(""), []);
}

#[test]
fn times_are_seconds_or_milliseconds_or_dates() {
    let at = |time: &str| read(&format!("1\t2\t{time}\n"))[0].at.get();
    assert_eq!(at("99999999999"), 99_999_999_999_000);
    assert_eq!(at("100000000000"), 100_000_000_000);
    assert_eq!(at("1000129890.5"), 1_000_129_890_500);
    assert_eq!(at("1000129890.123456"), 1_000_129_890_123);
    assert_eq!(at("2018-02-14 00:28:07"), 1_518_568_087_000);
    assert_eq!(at("2018-02-14T00:28:07.250Z"), 1_518_568_087_250);
}

#[test]
fn malformed_lines_are_named_counted_and_refused_past_a_limit() {
    let wrong = [
        "1\t2",
        "1\t2\t3\t4\t5",
        "x\t2\t3",
        "-1\t2\t3",
        "+1\t2\t3",
        "18446744073709551616\t2\t3",
        "1\t2\t256\t3",
        "1\t2\tyesterday",
        "1\t2\t1.",
        "1\t2\t1969-12-31T23:59:59Z",
        "1\t2\t253402300800000",
        "1\t2\t99999999999999999999999",
        "1\t2\t",
    ];
    let text = format!("1\t2\t3\n{}\n4\t5\t6\n", wrong.join("\n"));
    let mut tolerant = file(text.as_bytes(), wrong.len() as u64);
    assert_eq!(all(&mut tolerant).unwrap().len(), 2);
    assert_eq!(tolerant.malformed(), wrong.len() as u64);
    assert_eq!(tolerant.first_malformed().len(), MALFORMED_SHOWN_MAX);
    let first = tolerant.first_malformed()[0].to_string();
    assert_eq!(first, "line 2: 2 columns; 3 or 4: \"1\\t2\"");
    let error = all(&mut file(text.as_bytes(), wrong.len() as u64 - 1)).unwrap_err().to_string();
    assert!(error.contains("13 malformed lines, allowed: 12 (--malformed-max)"), "{error}");
    assert!(error.contains("line 4: user is no whole number"), "{error}");
}

#[test]
fn only_the_first_line_may_be_a_heading() {
    assert_eq!(read("uid,iid,ts\n1,2,3\n").len(), 1);
    assert!(all(&mut file(b"1,2,3\nuid,iid,ts\n", 0)).is_err());
    assert!(all(&mut file(b"user7,2,3\n", 0)).is_err(), "a string id is no heading");
}

#[test]
fn a_line_without_an_end_costs_bounded_memory() {
    let text = [b"1\t2\t3\n".as_slice(), &[b'7'; 1 << 20], b"\n4\t5\t6\n"].concat();
    let mut file = file(&text, 1);
    assert_eq!(all(&mut file).unwrap(), [event(1, 0, 2, 3_000), event(4, 0, 5, 6_000)]);
    assert!(file.first_malformed()[0].to_string().starts_with("line 2: longer than 4096 bytes"));
    let Form::Lines(lines) = &file.form else { panic!("it has lines") };
    assert!(lines.buffered() <= LINE_BYTES_MAX);
}

#[test]
fn compression_is_seen_from_the_first_bytes() {
    let text = b"1\t2\t3\n4\t5\t6\n".repeat(50_000);
    let zstd = zstd::encode_all(&text[..], 1).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text).unwrap();
    let gzip = gzip.finish().unwrap();
    // Two members or frames one after another are one file, as `cat` makes them.
    for packed in
        [zstd.clone(), gzip.clone(), [&zstd[..], &zstd].concat(), [&gzip[..], &gzip].concat()]
    {
        let mut file = file(&packed, 0);
        let events = all(&mut file).unwrap();
        assert!(matches!(events.len(), 100_000 | 200_000));
        assert_eq!(file.position().bytes % text.len() as u64, 0);
    }
    let cut = &zstd[..zstd.len() - 20];
    let error = all(&mut file(cut, 0)).unwrap_err().to_string();
    assert!(error.contains("test.tsv cannot be read after line"), "{error}");
    let error = HistoryFile::open(Path::new("/no/such/file"), 0).unwrap_err().to_string();
    assert!(error.starts_with("cannot open /no/such/file: "), "{error}");
    assert!(HistoryFile::open(Path::new("/"), 0).is_err(), "a folder");
}

#[test]
fn reading_goes_on_where_it_stopped_and_only_in_the_same_file() {
    let text = "user\titem\ttime\n1\t2\t3\nwrong\n4\t5\t6\n7\t8\t9";
    let again = |text: &str, position: Position| {
        let (mut rest, mut before) = (file(text.as_bytes(), 1), Vec::new());
        rest.read_again(position, |event| before.push(event)).map(|()| (rest, before))
    };
    let mut whole = file(text.as_bytes(), 1);
    let mut positions = vec![whole.position()];
    while whole.next_event().unwrap().is_some() {
        positions.push(whole.position());
    }
    for (read, position) in positions.into_iter().enumerate() {
        let (mut rest, before) = again(text, position).unwrap();
        assert_eq!((rest.position(), before.len()), (position, read));
        assert_eq!(all(&mut rest).unwrap().len(), 3 - read);
        assert_eq!(rest.position().lines, 5);
    }
    let end = whole.position();
    let other = text.replace("1\t2\t3", "1\t2\t4");
    let error = again(&other, end).map(|_| ()).expect_err("another file").to_string();
    assert!(error.contains("no longer begins with the 5 lines"), "{error}");
    assert!(again(text, Position { bytes: 1_000, ..end }).is_err(), "it has become shorter");
    assert!(again(text, Position { bytes: end.bytes - 1, ..end }).is_err(), "in a line");
    let longer = format!("{text}\n10\t11\t12\n");
    assert!(again(&longer, end).is_err(), "the last line had no end then: it may be another now");
}

/// What an honest exporter may write for one event.
fn written() -> impl Strategy<Value = (Event, String)> {
    let separators = prop_oneof![Just("\t"), Just(","), Just(" , "), Just("\t ")];
    let ends = prop_oneof![Just("\n"), Just("\r\n"), Just("\n\n"), Just("\n#\n")];
    let times = 100_000_000_000..253_402_300_799_999_u64;
    (any::<u64>(), any::<u64>(), any::<Option<u8>>(), times, separators, ends).prop_map(
        |(user, id, kind, ms, separator, end)| {
            let kind_text = kind.map(|kind| format!("{kind}{separator}")).unwrap_or_default();
            let line = format!("{user}{separator}{id}{separator}{kind_text}{ms}{end}");
            (event(user, kind.unwrap_or(0), id, ms), line)
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(lines in prop::collection::vec(written(), 0..50)) {
        let text: String = lines.iter().map(|(_, line)| line.as_str()).collect();
        let expected: Vec<Event> = lines.iter().map(|(event, _)| *event).collect();
        prop_assert_eq!(read(&text), expected);
    }

    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        // Compressed headers with garbage behind them are errors; everything else is lines.
        let Ok(reader) = source::reader(Box::new(io::Cursor::new(bytes.clone()))) else {
            return Ok(());
        };
        let mut file = HistoryFile::new(Path::new("x"), Form::Lines(Lines::new(reader)), u64::MAX);
        if let Ok(events) = all(&mut file) {
            prop_assert!(events.len() as u64 + file.malformed() <= file.position().lines);
            prop_assert_eq!(file.position().bytes, bytes.len() as u64);
        }
    }

    #[test]
    fn no_line_breaks_it(line in "[0-9a-zT:.,\t\" #+-]{0,60}") {
        let _ = line::parse(line.as_bytes());
        let _ = line::is_heading(line.as_bytes());
    }

    #[test]
    fn every_position_can_be_gone_on_from(
        lines in prop::collection::vec(written(), 1..20),
        stop in any::<prop::sample::Index>(),
    ) {
        let text: String = lines.iter().map(|(_, line)| line.as_str()).collect();
        let stop = stop.index(lines.len() + 1);
        let mut first = file(text.as_bytes(), 0);
        for _ in 0..stop {
            first.next_event().unwrap();
        }
        let mut rest = file(text.as_bytes(), 0);
        rest.read_again(first.position(), |_| {}).unwrap();
        let expected: Vec<Event> = lines[stop..].iter().map(|(event, _)| *event).collect();
        prop_assert_eq!(all(&mut rest).unwrap(), expected);
    }
}

#[test]
fn what_is_written_is_read_as_the_same_event() {
    for (user, kind, id, at) in [
        (0, 0, 0, 0),
        (u64::MAX, 255, u64::MAX, 253_402_300_799_999),
        (7, 1, 2, 1),
        (7, 1, 3, 99_999_999_999),
        (7, 1, 4, 100_000_000_000),
        (7, 1, 5, 1_001),
    ] {
        let (user, at) = (UserId::new(user), UnixMillis::new(at));
        let event = Event { user, item: Item::new(kind, id), at };
        let mut text = Vec::new();
        write_line(&mut text, &event);
        let line = text.strip_suffix(b"\n").expect("a whole line");
        assert_eq!(line::parse(line), Ok(Some(event)), "{}", String::from_utf8_lossy(line));
    }
}
