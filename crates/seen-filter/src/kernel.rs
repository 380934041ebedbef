//! The inner loops over a batch of ids: in plain code, and in AVX2 and AVX-512 where the CPU has
//! them. All give the same answers, and the bits lie in the same places on every CPU.

use std::fmt;

use crate::bloom::Blocks;
use crate::hash::KindKey;

mod calibrate;
mod plain;
#[cfg_attr(not(target_arch = "x86_64"), path = "kernel/absent.rs")]
mod x86;

pub use calibrate::calibrate;

/// Ids that one pass of a kernel handles; bounds what it keeps on the stack.
pub(crate) const BATCH: usize = 256;

/// Ids between two steps of [`Ahead`]; also the widest vector.
const STRIDE: usize = 8;

/// Words of one cache line.
pub(crate) const LINE_WORDS: usize = 8;

/// The hashes of a batch.
pub(crate) type Hashes = [u64; BATCH];

/// One bit for each id of a batch.
pub(crate) type BatchMask = [u64; BATCH / 64];

/// Which form of the inner loops computes a batch. Never changes an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Form);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Avx2(x86::Avx2),
    Avx512(x86::Avx512),
}

impl Kernel {
    /// Plain code, for every CPU.
    pub const PLAIN: Kernel = Kernel(Form::Plain);

    /// The AVX2 form, if this CPU can run it.
    pub fn avx2() -> Option<Kernel> {
        x86::Avx2::detect().map(|token| Kernel(Form::Avx2(token)))
    }

    /// The AVX-512 form, if this CPU can run it and is of a generation that keeps its clock then.
    pub fn avx512() -> Option<Kernel> {
        x86::Avx512::detect().map(|token| Kernel(Form::Avx512(token)))
    }

    /// All kernels that this CPU can run, the plain one first.
    pub fn available() -> impl Iterator<Item = Kernel> {
        [Some(Self::PLAIN), Self::avx2(), Self::avx512()].into_iter().flatten()
    }

    /// A short stable name.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Form::Plain => "plain",
            Form::Avx2(_) => "avx2",
            Form::Avx512(_) => "avx512",
        }
    }

    /// Hashes at most [`BATCH`] ids, and meanwhile asks for the cache lines of `ahead`.
    pub(crate) fn hash(self, key: &KindKey, ids: &[[u8; 8]], hashes: &mut Hashes, ahead: &[u64]) {
        let ahead = Ahead::over(ahead, ids.len());
        match self.0 {
            Form::Plain => plain::hash(key, ids, hashes, ahead),
            Form::Avx2(token) => token.hash(key, ids, hashes, ahead),
            Form::Avx512(token) => token.hash(key, ids, hashes, ahead),
        }
    }

    /// Sets the bits of the hashes that any of the layers contains.
    pub(crate) fn probe(self, layers: &[Blocks<'_>], hashes: &[u64], found: &mut BatchMask) {
        // Several layers in one pass share the hash's bit numbers; this many are there until a
        // rebuild is due.
        for layers in layers.chunks(5) {
            match *layers {
                [a] => self.probe_some([a], hashes, found),
                [a, b] => self.probe_some([a, b], hashes, found),
                [a, b, c] => self.probe_some([a, b, c], hashes, found),
                [a, b, c, d] => self.probe_some([a, b, c, d], hashes, found),
                [a, b, c, d, e] => self.probe_some([a, b, c, d, e], hashes, found),
                _ => {}
            }
        }
    }

    fn probe_some<const LAYERS: usize>(
        self,
        layers: [Blocks<'_>; LAYERS],
        hashes: &[u64],
        found: &mut BatchMask,
    ) {
        match self.0 {
            Form::Plain => plain::probe(layers, hashes, found),
            Form::Avx2(token) => token.probe(layers, hashes, found),
            Form::Avx512(token) => token.probe(layers, hashes, found),
        }
    }

    /// Sets the bits of the ids that are among `wanted`.
    pub(crate) fn scan<const N: usize>(
        self,
        wanted: &[u64; N],
        ids: &[[u8; 8]],
        found: &mut BatchMask,
    ) {
        match self.0 {
            Form::Plain => plain::scan(wanted, ids, found),
            Form::Avx2(token) => token.scan(wanted, ids, found),
            Form::Avx512(token) => token.scan(wanted, ids, found),
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Cache lines to ask for, a few with each step of a loop that computes meanwhile. Asking for all of
/// them at once first is slower: the CPU tracks only so many misses, and then stops computing too.
struct Ahead<'a> {
    words: &'a [u64],
    next: usize,
    lines_per_step: usize,
}

impl<'a> Ahead<'a> {
    /// Spreads the lines of `words` over the steps of a loop over `ids` ids.
    fn over(words: &'a [u64], ids: usize) -> Self {
        let steps = (ids / STRIDE).max(1);
        Self { words, next: 0, lines_per_step: words.len().div_ceil(LINE_WORDS).div_ceil(steps) }
    }

    #[inline(always)]
    fn step(&mut self) {
        for _ in 0..self.lines_per_step {
            x86::prefetch(self.words, self.next);
            self.next += LINE_WORDS;
        }
    }
}

/// Asks for all cache lines of these words.
pub(crate) fn prefetch(words: &[u64]) {
    Ahead::over(words, 1).step();
}

/// Asks for the two blocks that each hash picks in a layer.
pub(crate) fn prefetch_blocks(layer: Blocks<'_>, hashes: &[u64]) {
    for hash in hashes {
        let (in_a, in_b) = layer.picks(*hash);
        x86::prefetch(layer.a, in_a);
        x86::prefetch(layer.b, in_b);
    }
}
