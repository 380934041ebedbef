//! The outbox in the orders in which threads may take its lock: shuttle runs each test some thousand times, each time with other turns,
//! and tells if all are asleep.
//!
//! `cargo test -p seen-cluster --features shuttle --lib outbox`

use shuttle::sync::MutexGuard;

/// A lock that is used as that of `parking_lot`.
pub(super) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shuttle::future::block_on;
    use shuttle::thread;

    use super::super::Outbox;

    /// How often each story is played: by chance, and with few but well-placed turns.
    const PLAYED: usize = 3_000;

    fn play(story: fn()) {
        shuttle::check_random(story, PLAYED);
        shuttle::check_pct(story, PLAYED, 3);
    }

    /// Takes until so many bytes came, and sleeps whenever there is nothing.
    async fn written(outbox: &Outbox<u64>, bytes: usize) -> Vec<u8> {
        let (mut all, mut spare) = (Vec::new(), Vec::new());
        while all.len() < bytes {
            if outbox.take(&mut spare, |_| ()) {
                all.extend(&spare);
            } else {
                outbox.woken().await;
            }
        }
        all
    }

    #[test]
    fn whatever_is_put_is_written_once_and_nobody_sleeps_over_it() {
        play(|| {
            let outbox = Arc::new(Outbox::new(0));
            let putters: Vec<_> = [[1, 2], [3, 4]]
                .into_iter()
                .map(|bytes| {
                    let outbox = Arc::clone(&outbox);
                    thread::spawn(move || {
                        for byte in bytes {
                            outbox.put(|waiting| {
                                waiting.buffer.push(byte);
                                waiting.extra += 1;
                            });
                        }
                    })
                })
                .collect();
            let mut all = block_on(written(&outbox, 4));
            putters.into_iter().for_each(|putter| putter.join().expect("no panic"));
            let at = |byte| all.iter().position(|other| *other == byte);
            assert!(at(1) < at(2) && at(3) < at(4), "out of order: {all:?}");
            all.sort_unstable();
            assert_eq!(all, [1, 2, 3, 4]);
            assert_eq!(outbox.lock().extra, 4);
        });
    }

    #[test]
    fn credit_is_given_back_once_with_the_write_that_follows_the_answer() {
        play(|| {
            let outbox = Arc::new(Outbox::new(0_u8));
            let answering: Vec<_> = [1, 2]
                .into_iter()
                .map(|cost| {
                    let outbox = Arc::clone(&outbox);
                    thread::spawn(move || {
                        outbox.put(|waiting| {
                            waiting.buffer.push(0);
                            waiting.extra += cost;
                        });
                    })
                })
                .collect();
            let (mut answers, mut credit, mut spare) = (0, 0, Vec::new());
            // As the end that answers does: what is owed goes behind the answers, in the same write.
            let give_back = |waiting: &mut super::super::Waiting<u8>| {
                let owed = std::mem::take(&mut waiting.extra);
                if owed > 0 {
                    waiting.buffer.push(owed);
                }
            };
            block_on(async {
                while answers < 2 || credit < 3 {
                    if outbox.take(&mut spare, give_back) {
                        answers += spare.iter().filter(|byte| **byte == 0).count();
                        credit += spare.iter().map(|byte| u32::from(*byte)).sum::<u32>();
                        assert_ne!(spare.last(), Some(&0), "answered, and the credit kept");
                    } else {
                        outbox.woken().await;
                    }
                }
            });
            answering.into_iter().for_each(|one| one.join().expect("no panic"));
            assert_eq!((answers, credit), (2, 3));
        });
    }

    #[test]
    fn bytes_that_are_being_written_count_until_the_next_are_taken() {
        play(|| {
            let outbox = Arc::new(Outbox::new(0));
            let putter = {
                let outbox = Arc::clone(&outbox);
                thread::spawn(move || {
                    // As whoever sends does: only while little waits. Two are the most that ever do.
                    for byte in 0..3 {
                        while !outbox.put(|waiting| {
                            let fits = waiting.bytes() < 2;
                            if fits {
                                waiting.buffer.push(byte);
                            }
                            assert!(waiting.bytes() <= 2, "more waits than may");
                            fits
                        }) {
                            thread::yield_now();
                        }
                    }
                })
            };
            let all = block_on(written(&outbox, 3));
            assert_eq!(all, [0, 1, 2]);
            putter.join().expect("no panic");
        });
    }
}
