//! One number, what it is compared with, and what it ought to be.

use std::fmt::{self, Write};

use serde::{Serialize, Serializer};

use super::Outcome;

/// What a figure ought to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// Ours is not above this.
    AtMost(f64),
    /// Ours is not below this.
    AtLeast(f64),
    /// Ours divided by the rival's is not above this.
    RatioAtMost(f64),
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "at most {}", number(*limit)),
            Self::AtLeast(limit) => write!(f, "at least {}", number(*limit)),
            Self::RatioAtMost(limit) => write!(f, "ratio at most {}", number(*limit)),
        }
    }
}

impl Serialize for Aim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One measured number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// A stable name.
    pub name: String,
    /// This program's number.
    pub ours: f64,
    /// The rival's in the same run, where there is one.
    pub rival: Option<f64>,
    /// Ours divided by the rival's.
    pub ratio: Option<f64>,
    /// The unit of both.
    pub unit: &'static str,
    /// Who the rival is.
    pub rival_is: Option<String>,
    /// What it ought to be, where an aim was set.
    pub aim: Option<Aim>,
    /// Whether it is.
    pub met: Option<bool>,
}

impl Figure {
    /// A number without a rival.
    pub fn of(name: impl Into<String>, ours: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            ours: rounded(ours),
            rival: None,
            ratio: None,
            unit,
            rival_is: None,
            aim: None,
            met: None,
        }
    }

    /// The same, compared. Call it before [`Figure::aim`].
    pub fn against(mut self, rival: f64, rival_is: impl Into<String>) -> Self {
        self.rival = Some(rounded(rival));
        self.ratio = (rival != 0.0).then(|| rounded(self.ours / rival));
        self.rival_is = Some(rival_is.into());
        self
    }

    /// The same, with what it ought to be.
    pub fn aim(mut self, aim: Aim) -> Self {
        self.aim = Some(aim);
        self.met = match aim {
            Aim::AtMost(limit) => Some(self.ours <= limit),
            Aim::AtLeast(limit) => Some(self.ours >= limit),
            Aim::RatioAtMost(limit) => self.ratio.map(|ratio| ratio <= limit),
        };
        self
    }
}

/// Four significant digits: no figure here is surer than that.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let magnitude = value.abs().log10().floor() as i32;
    let scale = 10_f64.powi(3 - magnitude);
    (value * scale).round() / scale
}

/// A number for people: thousands separated, no digits that mean nothing.
pub(super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    let digits = match magnitude {
        m if m >= 100.0 || m.fract() == 0.0 => 0,
        m if m >= 10.0 => 1,
        _ => 2,
    };
    let plain = format!("{value:.digits$}");
    let (whole, fraction) = plain.split_once('.').map_or((plain.as_str(), ""), |(w, f)| (w, f));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |rest| ("-", rest));
    let mut out = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// The cells of a figure, as tables show them.
pub(super) fn cells(figure: &Figure) -> [String; 7] {
    let optional = |value: Option<f64>| value.map(number).unwrap_or_default();
    let met = figure.met.map(|met| if met { "met" } else { "missed" }).unwrap_or_default();
    [
        figure.name.clone(),
        number(figure.ours),
        optional(figure.rival),
        figure.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
        figure.unit.to_owned(),
        figure.aim.map(|aim| aim.to_string()).unwrap_or_default(),
        met.to_owned(),
    ]
}

/// The heads of [`cells`].
pub(super) const HEADS: [&str; 7] = ["figure", "seen", "rival", "ratio", "unit", "aim", ""];

/// The figures as a table for a terminal, and the notes below it.
pub fn table(outcome: &Outcome) -> String {
    let figures = &outcome.figures;
    let rows: Vec<[String; 7]> = figures.iter().map(cells).collect();
    let widths: Vec<usize> = (0..HEADS.len())
        .map(|at| rows.iter().map(|row| row[at].len()).chain([HEADS[at].len()]).max().unwrap_or(0))
        .collect();
    let heads = HEADS.map(str::to_owned);
    let mut out = String::new();
    for row in [&heads].into_iter().chain(&rows) {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            // Numbers stand to the right of their columns.
            let _ = match at {
                1..=3 => write!(line, "{cell:>width$}  ", width = widths[at]),
                _ => write!(line, "{cell:<width$}  ", width = widths[at]),
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    for note in outcome.notes.iter().chain(&outcome.failures) {
        let _ = writeln!(out, "- {note}");
    }
    out
}

/// The figures as one JSON list on one line.
pub fn json(figures: &[Figure]) -> String {
    // Plain numbers and text: nothing in a figure can fail to be written.
    serde_json::to_string(figures).unwrap_or_else(|_| "[]".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_met_by_what_it_is_about() {
        let fast = Figure::of("a", 8.8, "us").against(8.0, "echo").aim(Aim::RatioAtMost(1.1));
        assert_eq!((fast.ratio, fast.met), (Some(1.1), Some(true)));
        let slow = Figure::of("a", 9.0, "us").against(8.0, "echo").aim(Aim::RatioAtMost(1.1));
        assert_eq!(slow.met, Some(false));
        assert_eq!(Figure::of("b", 39.0, "1/s").aim(Aim::AtLeast(40.0)).met, Some(false));
        assert_eq!(Figure::of("c", 24.0, "ms").aim(Aim::AtMost(25.0)).met, Some(true));
        assert_eq!(Figure::of("d", 1.0, "us").aim(Aim::RatioAtMost(1.1)).met, None, "no rival");
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(number(39_123_456.4), "39,123,456");
        assert_eq!(number(-1_234.0), "-1,234");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(1.1), "1.10");
        assert_eq!(number(100.0), "100");
        assert_eq!(rounded(123_456.0), 123_500.0);
        assert_eq!(rounded(0.012_345), 0.012_35);
    }

    #[test]
    fn the_list_has_the_promised_keys() {
        let list = json(&[Figure::of("a", 2.0, "us").against(1.0, "b")]);
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        for key in ["name", "ours", "rival", "ratio", "unit"] {
            assert!(!list[0][key].is_null(), "{key}");
        }
    }
}
