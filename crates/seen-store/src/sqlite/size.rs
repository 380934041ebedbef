//! What a namespace takes on disk, from a bounded part of its pages.
//!
//! A tree of SQLite has no record of its size. What is looked at are its first pages, from the root down
//! and from left to right. If that is all of them, the size is exact. Otherwise the pages of each depth
//! that were seen stand for all of that depth, and as each page above the leaves has one child more than
//! cells, the number of pages follows from the root downwards.

use seen_filter::history::HistorySize;
use seen_filter::{NamespaceId, StoreError};
use sqlx::SqlStr;

use super::inner::Inner;
use super::read::{numbers, one_row};

/// Pages of one tree that are looked at: 4 MiB.
const PAGES_MAX: u64 = 1_024;

/// The pages of one depth that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Level {
    depth: usize,
    pages: u64,
    cells: u64,
    bytes: u64,
}

/// A tree, as far as the pages tell that were looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tree {
    cells: u64,
    bytes: u64,
    exact: bool,
}

impl Inner {
    /// What a namespace takes.
    pub(crate) async fn size(&self, namespace: NamespaceId) -> Result<HistorySize, StoreError> {
        let table = self.tables.get(namespace)?;
        let rows = self.tree(&table.sql.rows_pages).await?;
        let index = match table.settings.time_index {
            true => Some(self.tree(&table.sql.time_index_pages).await?),
            false => None,
        };
        Ok(HistorySize {
            rows: rows.cells,
            rows_bytes: rows.bytes,
            time_index_bytes: index.map(|index| index.bytes),
            exact: rows.exact && index.is_none_or(|index| index.exact),
        })
    }

    async fn tree(&self, statement: &SqlStr) -> Result<Tree, StoreError> {
        let query = sqlx::query(statement.clone()).bind(PAGES_MAX as i64);
        let row = one_row(self, &self.pages, query).await?;
        let levels: Option<&str> = self.column(&row, 0)?;
        let levels = levels_of(levels.unwrap_or("")).ok_or_else(|| self.damaged("a size"))?;
        Ok(concluded(&levels, PAGES_MAX))
    }
}

/// The levels of a list of numbers, four a level; `None` if it is no such list.
fn levels_of(list: &str) -> Option<Vec<Level>> {
    let numbers: Option<Vec<u64>> =
        numbers(list).map(|number| u64::try_from(number?).ok()).collect();
    let level = |four: &[u64]| match *four {
        [depth, pages, cells, bytes] => {
            Some(Level { depth: usize::try_from(depth).ok()?, pages, cells, bytes })
        }
        _ => None,
    };
    let mut levels = numbers?.chunks(4).map(level).collect::<Option<Vec<Level>>>()?;
    levels.sort_unstable_by_key(|level| level.depth);
    Some(levels)
}

fn concluded(levels: &[Level], pages_max: u64) -> Tree {
    let sum = |of: fn(&Level) -> u64| levels.iter().map(of).sum::<u64>();
    if sum(|level| level.pages) < pages_max {
        return Tree {
            cells: sum(|level| level.cells),
            bytes: sum(|level| level.bytes),
            exact: true,
        };
    }
    let (mut pages, mut cells, mut bytes) = (1.0, 0.0, 0.0);
    for level in levels {
        let mean = |sum: u64| sum as f64 / level.pages.max(1) as f64;
        cells += pages * mean(level.cells);
        bytes += pages * mean(level.bytes);
        // Of the next depth.
        pages *= mean(level.cells + level.pages);
    }
    Tree { cells: cells as u64, bytes: bytes as u64, exact: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(depth: usize, pages: u64, cells: u64) -> Level {
        Level { depth, pages, cells, bytes: pages * 4_096 }
    }

    #[test]
    fn levels_are_read_in_any_order_and_checked() {
        let read = levels_of("1,3,60,12288,0,1,2,4096");
        assert_eq!(read, Some(vec![level(0, 1, 2), level(1, 3, 60)]));
        assert_eq!(levels_of(""), Some(Vec::new()));
        for wrong in ["1,2,3", "1,2,3,x", "1,2,3,-4"] {
            assert_eq!(levels_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_was_seen_whole_is_exact() {
        let tree = concluded(&[level(0, 1, 2), level(1, 3, 60)], 5);
        assert_eq!(tree, Tree { cells: 62, bytes: 4 * 4_096, exact: true });
        assert_eq!(concluded(&[], 5), Tree { cells: 0, bytes: 0, exact: true });
    }

    #[test]
    fn the_rest_is_concluded_from_the_pages_that_were_seen() {
        // A root with 10 children; two of them seen, each with 100 leaves of 70 cells.
        let seen = [level(0, 1, 9), level(1, 2, 198), level(2, 101, 7_070)];
        let tree = concluded(&seen, 104);
        assert_eq!(tree.cells, 9 + 10 * 99 + 1_000 * 70);
        assert_eq!((tree.bytes, tree.exact), ((1 + 10 + 1_000) * 4_096, false));
    }
}
