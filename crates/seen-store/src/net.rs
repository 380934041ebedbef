//! What is left of several operations on one row when they share a commit: each row is touched once,
//! in key order, whatever the calls said about it in turn.

use seen_filter::TimeRule;

/// One operation of one call on one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op<K> {
    pub key: K,
    /// The order in which the calls came.
    pub turn: u32,
    /// The time of an append, or `None` for a remove.
    pub append: Option<i64>,
}

/// What is left of all operations on one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Net {
    Append(i64),
    Remove,
    /// Removed and added again: its old time must not be kept.
    Replace(i64),
}

impl Net {
    fn then(before: Option<Self>, append: Option<i64>, rule: TimeRule) -> Self {
        let keeps = rule == TimeRule::First;
        match (before, append) {
            (_, None) => Self::Remove,
            (None, Some(time)) => Self::Append(time),
            (Some(Self::Remove), Some(time)) => Self::Replace(time),
            (Some(Self::Append(first)), Some(time)) => {
                Self::Append(if keeps { first } else { time })
            }
            (Some(Self::Replace(first)), Some(time)) => {
                Self::Replace(if keeps { first } else { time })
            }
        }
    }
}

/// Each row's net operation, in key order.
pub(crate) fn net<K: Ord + Copy>(mut ops: Vec<Op<K>>, rule: TimeRule) -> Vec<(K, Net)> {
    ops.sort_unstable_by_key(|op| (op.key, op.turn));
    let mut rows: Vec<(K, Net)> = Vec::with_capacity(ops.len());
    for op in ops {
        match rows.last_mut() {
            Some((key, net)) if *key == op.key => *net = Net::then(Some(*net), op.append, rule),
            _ => rows.push((op.key, Net::then(None, op.append, rule))),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net_of(ops: &[Option<i64>], rule: TimeRule) -> Option<Net> {
        ops.iter().fold(None, |net, op| Some(Net::then(net, *op, rule)))
    }

    #[test]
    fn rows_come_once_and_in_key_order() {
        let op = |key: u8, turn: u32, append| Op { key, turn, append };
        let ops = vec![op(3, 0, Some(1)), op(1, 3, None), op(3, 2, Some(9)), op(1, 1, Some(4))];
        let rows = net(ops, TimeRule::First);
        assert_eq!(rows, [(1, Net::Remove), (3, Net::Append(1))]);
    }

    #[test]
    fn operations_on_one_row_leave_what_doing_them_in_turn_would() {
        for rule in [TimeRule::First, TimeRule::Last] {
            // Every sequence of up to six removes and appends, against a row that exists or not.
            for length in 1..=6_u32 {
                for bits in 0..1_u32 << length {
                    let op = |n: u32| (bits >> n & 1 == 1).then_some(i64::from(10 + n));
                    let ops: Vec<_> = (0..length).map(op).collect();
                    for row_before in [None, Some(5)] {
                        let each = ops.iter().fold(row_before, |row, op| match (row, op) {
                            (_, None) => None,
                            (Some(kept), Some(_)) if rule == TimeRule::First => Some(kept),
                            (_, Some(time)) => Some(*time),
                        });
                        let at_once = match (net_of(&ops, rule), row_before) {
                            (Some(Net::Remove) | None, _) => None,
                            (Some(Net::Append(_)), Some(kept)) if rule == TimeRule::First => {
                                Some(kept)
                            }
                            (Some(Net::Append(time) | Net::Replace(time)), _) => Some(time),
                        };
                        assert_eq!(at_once, each, "{ops:?} on {row_before:?} by {rule:?}");
                    }
                }
            }
        }
    }
}
