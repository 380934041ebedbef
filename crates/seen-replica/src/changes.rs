//! That something changed, told to all who follow it.

use parking_lot::Mutex;
use tokio::sync::watch;

/// Tells that something changed. Whoever follows has a channel of its own and is woken in the order in which they came: one
/// channel for all wakes them in an order of its own each time, which a simulation could not repeat.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    followers: Mutex<Vec<watch::Sender<u64>>>,
}

impl Changes {
    /// Changes whenever something did; the number itself says nothing.
    pub fn follow(&self) -> watch::Receiver<u64> {
        let (sender, receiver) = watch::channel(0);
        let mut followers = self.followers.lock();
        followers.retain(|follower| !follower.is_closed());
        followers.push(sender);
        receiver
    }

    /// Something changed.
    pub fn tell(&self) {
        for follower in self.followers.lock().iter() {
            follower.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_follow_are_told_and_who_left_is_forgotten() {
        let changes = Changes::default();
        let (mut one, two) = (changes.follow(), changes.follow());
        changes.tell();
        assert!(one.has_changed().expect("open") && two.has_changed().expect("open"));
        one.mark_unchanged();
        drop(two);
        let three = changes.follow();
        assert_eq!(changes.followers.lock().len(), 2);
        assert!(!three.has_changed().expect("open"), "told only of what comes later");
        changes.tell();
        assert!(one.has_changed().expect("open") && three.has_changed().expect("open"));
    }
}
