//! Tables for people: columns as wide as their content.

use std::fmt::Write;

/// A table of text.
#[derive(Debug, Clone, Default)]
pub struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { heading: heading.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    /// A table of names and values, without a heading.
    pub fn of_pairs() -> Self {
        Self::default()
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, row: [String; N]) -> &mut Self {
        self.rows.push(row.to_vec());
        self
    }

    /// Adds a name and its value.
    pub fn pair(&mut self, name: &str, value: impl ToString) -> &mut Self {
        self.row([name.to_owned(), value.to_string()])
    }

    /// True if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, a line each row. Numbers stand to the right in their column.
    pub fn render(&self) -> String {
        let all = || std::iter::once(&self.heading).chain(&self.rows);
        let columns = all().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &Vec<String>, column: usize| -> usize {
            row.get(column).map_or(0, |text| text.chars().count())
        };
        let width = |column: usize| all().map(|row| cell(row, column)).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let numeric = |column: usize| {
            let mut cells = self.rows.iter().filter_map(|row| row.get(column));
            !self.heading.is_empty()
                && !self.rows.is_empty()
                && cells.all(|text| text.starts_with(|first: char| first.is_ascii_digit()))
        };
        let right: Vec<bool> = (0..columns).map(numeric).collect();
        let mut out = String::new();
        for row in all().filter(|row| !row.is_empty()) {
            let mut line = String::new();
            for (column, text) in row.iter().enumerate() {
                let width = widths[column];
                // Writing to a String cannot fail.
                let _ = if right[column] {
                    write!(line, "{text:>width$}  ")
                } else {
                    write!(line, "{text:<width$}  ")
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// A whole number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_content() {
        let mut table = Table::new(["KIND", "ITEM", "ANSWER"]);
        table.row(["1".to_owned(), "1001".to_owned(), "read".to_owned()]);
        table.row(["2".to_owned(), "7".to_owned(), "unread".to_owned()]);
        let expected = "KIND  ITEM  ANSWER\n   1  1001  read\n   2     7  unread\n";
        assert_eq!(table.render(), expected);
        assert_eq!(Table::of_pairs().pair("a", 1).pair("long", "x").render(), "a     1\nlong  x\n");
    }

    #[test]
    fn thousands_stand_apart() {
        let shown: Vec<String> = [0, 999, 1_000, 1_234_567].map(grouped).to_vec();
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }
}
