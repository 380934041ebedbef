//! What is in flight, by numbers that are never taken for each other: a place that is used again has another generation,
//! so that an answer which comes too late finds nobody.

/// Requests in flight.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    len: usize,
    max: usize,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

/// The number of a place in its present generation: `generation << 32 | index`.
const fn key(generation: u32, index: u32) -> u64 {
    (generation as u64) << 32 | index as u64
}

impl<T> Slab<T> {
    /// Room for `max` at once.
    pub fn new(max: usize) -> Self {
        let max = max.min(u32::MAX as usize);
        Self { places: Vec::new(), free: Vec::new(), len: 0, max }
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True if there is room for so many more.
    pub const fn has_room(&self, more: usize) -> bool {
        self.max - self.len >= more
    }

    /// Adds one, and gives it back where there is no room.
    ///
    /// # Errors
    /// The value.
    pub fn insert(&mut self, value: T) -> Result<u64, T> {
        if !self.has_room(1) {
            return Err(value);
        }
        self.len += 1;
        if let Some(index) = self.free.pop()
            && let Some(place) = self.places.get_mut(index as usize)
        {
            place.value = Some(value);
            return Ok(key(place.generation, index));
        }
        self.places.push(Place { generation: 1, value: Some(value) });
        Ok(key(1, self.places.len() as u32 - 1))
    }

    /// The one with this number, if it is still there.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let place = self.places.get_mut(key as u32 as usize)?;
        if place.generation != (key >> 32) as u32 {
            return None;
        }
        place.value.as_mut()
    }

    /// Takes the one with this number out, if it is still there.
    pub fn remove(&mut self, key: u64) -> Option<T> {
        let index = key as u32;
        let place = self.places.get_mut(index as usize)?;
        if place.generation != (key >> 32) as u32 {
            return None;
        }
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(index);
        self.len -= 1;
        Some(value)
    }

    /// The numbers of all.
    pub fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.iter().map(|(key, _)| key)
    }

    /// All, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            place.value.as_ref().map(|value| (key(place.generation, index as u32), value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_number_finds_nobody() {
        let mut slab = Slab::new(4);
        let first = slab.insert("first").expect("room");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second").expect("room");
        assert_eq!(first as u32, second as u32, "the place is used again");
        assert_ne!(first, second);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut "second"));
        assert_eq!(slab.get_mut(77), None, "a place that never was");
    }

    #[test]
    fn it_is_bounded() {
        let mut slab = Slab::new(2);
        let one = slab.insert(1).expect("room");
        slab.insert(2).expect("room");
        assert_eq!(slab.insert(3), Err(3));
        slab.remove(one);
        assert!(slab.insert(3).is_ok());
        assert_eq!(slab.len(), 2);
        assert_eq!(slab.keys().count(), 2);
    }
}
