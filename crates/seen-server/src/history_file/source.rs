//! Where bytes come from, decompressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::parquet::MAGIC;

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

/// The file itself if it is a Parquet file.
pub(super) fn parquet(path: &Path) -> io::Result<Option<File>> {
    if path == Path::new("-") || !path.is_file() {
        return Ok(None);
    }
    let mut file = File::open(path)?;
    let mut start = Vec::with_capacity(MAGIC.len());
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok((start == MAGIC).then_some(file))
}

/// Decompresses what begins like something compressed.
pub(super) fn reader(raw: Box<dyn Read + Send>) -> io::Result<Reader> {
    let mut raw = BufReader::with_capacity(BUFFER_BYTES, raw);
    // A pipe may hand out its first bytes one by one: then it is not compressed in any way that a
    // person would pipe in here. Files and real compressors fill the buffer at once.
    let start = raw.fill_buf()?;
    if start.starts_with(&MAGIC) {
        let what = "it is Parquet, which cannot be read from a pipe; give the file";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
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
