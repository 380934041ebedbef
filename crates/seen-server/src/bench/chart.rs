//! Bar charts as inline SVG.

use std::fmt::Write;

use super::figure::number;

/// Height of one bar and the space below it, width of labels, bars and values, in SVG units.
const BAR_HEIGHT: f64 = 18.0;
const BAR_STEP: f64 = 26.0;
const LABEL_WIDTH: f64 = 170.0;
const BARS_WIDTH: f64 = 430.0;
const VALUE_WIDTH: f64 = 90.0;

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    label: String,
    value: f64,
    class: &'static str,
}

impl Bar {
    /// One of this program's.
    pub fn ours(label: impl Into<String>, value: f64) -> Self {
        Self { label: label.into(), value, class: "ours" }
    }

    /// One of a rival's.
    pub fn rival(label: impl Into<String>, value: f64) -> Self {
        Self { label: label.into(), value, class: "rival" }
    }
}

/// Bars of one unit below each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    title: String,
    unit: &'static str,
    bars: Vec<Bar>,
    limits: Vec<f64>,
}

impl Chart {
    /// A chart without bars.
    pub fn new(title: impl Into<String>, unit: &'static str) -> Self {
        Self { title: title.into(), unit, bars: Vec::new(), limits: Vec::new() }
    }

    /// The same with another bar below.
    pub fn bar(mut self, bar: Bar) -> Self {
        self.bars.push(bar);
        self
    }

    /// The same with a line where the aim lies.
    pub fn limit(mut self, value: f64) -> Self {
        self.limits.push(value);
        self
    }

    /// As a figure of HTML.
    pub(super) fn html(&self) -> String {
        let values = self.bars.iter().map(|bar| bar.value).chain(self.limits.iter().copied());
        let top = values.fold(f64::MIN_POSITIVE, f64::max);
        let scale = |value: f64| value.max(0.0) / top * BARS_WIDTH;
        let height = BAR_STEP * self.bars.len() as f64;
        let width = LABEL_WIDTH + BARS_WIDTH + VALUE_WIDTH;
        let mut out = format!(
            "<figure><figcaption>{} ({})</figcaption>\n\
             <svg viewBox=\"0 0 {width} {height}\" role=\"img\">\n",
            escaped(&self.title),
            escaped(self.unit)
        );
        for (at, bar) in self.bars.iter().enumerate() {
            let y = BAR_STEP * at as f64;
            let text_y = y + BAR_HEIGHT * 0.75;
            let length = scale(bar.value).max(1.0);
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "<text x=\"{:.0}\" y=\"{text_y:.1}\" text-anchor=\"end\">{}</text>\
                 <rect class=\"{}\" x=\"{LABEL_WIDTH}\" y=\"{y:.1}\" width=\"{length:.1}\" \
                 height=\"{BAR_HEIGHT}\"/><text x=\"{:.1}\" y=\"{text_y:.1}\">{}</text>",
                LABEL_WIDTH - 8.0,
                escaped(&bar.label),
                bar.class,
                LABEL_WIDTH + length + 6.0,
                number(bar.value)
            );
        }
        for limit in &self.limits {
            let x = LABEL_WIDTH + scale(*limit);
            let _ = writeln!(
                out,
                "<line class=\"aim\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{height}\"/>"
            );
        }
        out.push_str("</svg></figure>\n");
        out
    }
}

/// Text that cannot be mistaken for markup.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
