//! Positions as producers write them.

use crate::event::Position;

/// One transaction: MariaDB's `0-1-6`, MySQL's `uuid:27`. A set, a range or a tagged id is none.
pub(crate) fn transaction(text: &str) -> Option<Position> {
    mysql(text).or_else(|| mariadb(text))
}

fn mariadb(text: &str) -> Option<Position> {
    let (domain, rest) = text.split_once('-')?;
    let (server, seq) = rest.split_once('-')?;
    Some(Position::MariaDb {
        domain: digits(domain)?.parse().ok()?,
        server: digits(server)?.parse().ok()?,
        seq: digits(seq)?.parse().ok()?,
    })
}

fn mysql(text: &str) -> Option<Position> {
    let (uuid, number) = text.split_once(':')?;
    let number = digits(number)?.parse().ok()?;
    let mut source = [0; 16];
    let mut nibbles = 0;
    for (at, byte) in uuid.bytes().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        let nibble = u8::try_from(char::from(byte).to_digit(16)?).ok()?;
        let place = source.get_mut(nibbles / 2)?;
        *place = (*place << 4) | nibble;
        nibbles += 1;
    }
    (nibbles == 32).then_some(Position::MySql { source, number })
}

/// A place in a binary log; no file, no place.
pub(crate) fn place(file: &str, pos: u64) -> Option<Position> {
    (!file.is_empty()).then(|| Position::File { file: file.into(), pos })
}

/// Maxwell's `binlog.000006:800911`.
pub(crate) fn place_text(text: &str) -> Option<Position> {
    let (file, pos) = text.rsplit_once(':')?;
    place(file, digits(pos)?.parse().ok()?)
}

/// A text without a sign, which `parse` would take.
fn digits(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_printed() {
        for text in ["0-1-6", "4294967295-1-18446744073709551615"] {
            let read = transaction(text).expect("a position");
            assert!(matches!(read, Position::MariaDb { .. }));
            assert_eq!(read.to_string(), text);
        }
        let text = "3e11fa47-71ca-11e1-9e33-c80aa9429562:27";
        let read = transaction(text).expect("a position");
        assert!(matches!(read, Position::MySql { number: 27, .. }));
        assert_eq!(read.to_string(), text);
        let read = place_text("binlog.000006:800911").expect("a position");
        assert_eq!(read.to_string(), "binlog.000006:800911");
    }

    #[test]
    fn what_is_no_single_transaction_is_no_position() {
        for text in [
            "",
            "0-1",
            "0-1-6,1-1-7",
            "0-1-+6",
            "4294967296-1-1",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-27",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:tag:27",
            "3e11fa47-71ca-11e1-9e33-c80aa942956:27",
            "3e11fa47-71ca-11e1-9e33-c80aa94295621:27",
            "3e11fa47x71ca-11e1-9e33-c80aa9429562:27",
        ] {
            assert_eq!(transaction(text), None, "{text}");
        }
        assert_eq!(place("", 4), None);
        assert_eq!(place_text("800911"), None);
    }
}
