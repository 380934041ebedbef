//! As much of Redis' protocol as the comparison needs.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest that one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Longest text that an answer may hold.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Adds a command to a pipeline.
pub(super) fn put_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    put_number(out, b'*', words.len() as u64);
    for word in words {
        put_number(out, b'$', word.len() as u64);
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn put_number(out: &mut Vec<u8>, mark: u8, number: u64) {
    out.push(mark);
    out.extend_from_slice(number.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Number(i64),
    Text(String),
    List(Vec<Answer>),
    Nothing,
}

/// A connection.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    line: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self { stream: BufReader::with_capacity(READ_BYTES, stream), line: Vec::new() })
    }

    /// Sends commands without waiting for answers.
    pub fn send(&mut self, pipeline: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(pipeline)
    }

    /// One command and its answer.
    pub fn ask(&mut self, words: &[&[u8]]) -> io::Result<Answer> {
        let mut pipeline = Vec::new();
        put_command(&mut pipeline, words);
        self.send(&pipeline)?;
        self.answer()
    }

    /// The next answer; an error of the server's is an error.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let (mark, rest) = self.head()?;
        let number = || rest.parse::<i64>().map_err(|_| unexpected(&rest));
        match mark {
            b':' => Ok(Answer::Number(number()?)),
            b'+' => Ok(Answer::Text(rest)),
            b'-' => Err(io::Error::other(rest)),
            b'$' => self.text(number()?),
            b'*' => {
                let length = number()?.max(0);
                (0..length).map(|_| self.answer()).collect::<io::Result<_>>().map(Answer::List)
            }
            _ => Err(unexpected(&rest)),
        }
    }

    /// The next answer, which must be a number: cheaper, as it makes no text.
    pub fn number(&mut self) -> io::Result<i64> {
        self.read_line()?;
        let digits = self.line.strip_prefix(b":").and_then(|rest| std::str::from_utf8(rest).ok());
        digits
            .and_then(|digits| digits.trim_end().parse().ok())
            .ok_or_else(|| unexpected(&String::from_utf8_lossy(&self.line)))
    }

    fn read_line(&mut self) -> io::Result<()> {
        self.line.clear();
        match self.stream.read_until(b'\n', &mut self.line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn head(&mut self) -> io::Result<(u8, String)> {
        self.read_line()?;
        let text = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        let mark = text.bytes().next().filter(u8::is_ascii).ok_or_else(|| unexpected(&text))?;
        Ok((mark, text[1..].to_owned()))
    }

    fn text(&mut self, length: i64) -> io::Result<Answer> {
        let Ok(length) = usize::try_from(length) else { return Ok(Answer::Nothing) };
        if length > TEXT_BYTES_MAX {
            return Err(unexpected(&format!("a text of {length} bytes")));
        }
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(Answer::Text(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer: {what}"))
}
