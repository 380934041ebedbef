//! Where bytes come from, decompressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

/// Bytes read ahead.
const BUFFER_BYTES: usize = 256 << 10;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Decompressed bytes.
pub(super) type Reader = Box<dyn BufRead + Send>;

/// The bytes of a file as they are; `-` is stdin.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    if path.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    Ok(Box::new(File::open(path)?))
}

/// Decompresses what begins like something compressed.
pub(super) fn reader(raw: Box<dyn Read + Send>) -> io::Result<Reader> {
    let mut raw = BufReader::with_capacity(BUFFER_BYTES, raw);
    // A pipe may hand out its first bytes one by one: then it is not compressed in any way that a
    // person would pipe in here. Files and real compressors fill the buffer at once.
    let start = raw.fill_buf()?;
    if start.starts_with(&ZSTD_MAGIC) {
        let zstd = zstd::stream::read::Decoder::with_buffer(raw)?;
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, zstd)));
    }
    if start.starts_with(&GZIP_MAGIC) {
        let gzip = MultiGzDecoder::new(raw);
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, gzip)));
    }
    Ok(Box::new(raw))
}
