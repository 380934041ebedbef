//! Things of one slot of one pool, as flags say them.

/// Something of one slot of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// The pool.
    pub pool: String,
    /// The slot within the pool.
    pub slot: u16,
    /// What is said of it.
    pub value: String,
}

/// Reads `pool/slot=value`.
pub(super) fn placed(text: &str) -> Result<Placed, String> {
    let wrong =
        || format!("{text:?} is not of the form pool/slot=value, as in feed/0=10.0.0.7:7430");
    let (place, value) = text.split_once('=').ok_or_else(wrong)?;
    let (pool, slot) = slot_of(place).map_err(|_| wrong())?;
    Ok(Placed { pool, slot, value: value.to_owned() })
}

/// Reads `pool/slot`.
pub(super) fn slot_of(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("{text:?} is not of the form pool/slot, as in feed/0");
    let (pool, slot) = text.split_once('/').ok_or_else(wrong)?;
    Ok((pool.to_owned(), slot.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let read = placed("feed/3=[::1]:7430").expect("a place");
        assert_eq!(read, Placed { pool: "feed".into(), slot: 3, value: "[::1]:7430".into() });
        for bad in ["feed", "feed/3", "feed=1.1.1.1:1", "feed/x=1.1.1.1:1", "feed/70000=a:1"] {
            assert!(placed(bad).is_err(), "{bad}");
        }
        assert_eq!(slot_of("push/2"), Ok(("push".to_owned(), 2)));
    }
}
