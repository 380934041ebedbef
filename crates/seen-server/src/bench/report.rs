//! The report: one self-contained HTML page.

use std::fmt::Write;

use super::Outcome;
use super::chart::escaped;
use super::figure::{HEADS, cells};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2430;--paper:#fff;--line:#d5dae2;--ours:#2266bb;\
--rival:#9aa5b4;--aim:#c03a2b}\
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--paper:#14181f;--line:#39414d;\
--ours:#5b9cf0;--rival:#6d7888;--aim:#ef7a6c}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);\
max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%;margin:1rem 0}\
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid var(--line)}\
td:nth-child(n+2):nth-child(-n+4){text-align:right;font-variant-numeric:tabular-nums}\
figure{margin:1.5rem 0}figcaption{font-weight:600;margin-bottom:.4rem}\
svg{width:100%;height:auto}svg text{fill:var(--ink);font-size:12px}\
.ours{fill:var(--ours)}.rival{fill:var(--rival)}.aim{stroke:var(--aim);stroke-dasharray:4 3}\
.missed{color:var(--aim);font-weight:600}";

/// The page.
pub fn html(outcome: &Outcome) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>seen bench</title>\
         <style>{STYLE}</style></head><body>\n<h1>seen bench</h1>\n<ul>\n"
    );
    for note in outcome.notes.iter().chain(&outcome.failures) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "<li>{}</li>", escaped(note));
    }
    out.push_str("</ul>\n<table><tr>");
    for head in HEADS {
        let _ = write!(out, "<th>{head}</th>");
    }
    out.push_str("</tr>\n");
    for figure in &outcome.figures {
        out.push_str("<tr>");
        for cell in cells(figure) {
            let class = if cell == "missed" { " class=\"missed\"" } else { "" };
            let _ = write!(out, "<td{class}>{}</td>", escaped(&cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str(
        "</table>\n<p>Dashed lines are aims. Shorter bars are better, but for rates.</p>\n",
    );
    outcome.charts.iter().for_each(|chart| out.push_str(&chart.html()));
    out.push_str("</body></html>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::super::chart::{Bar, Chart};
    use super::super::figure::{Aim, Figure};
    use super::*;

    #[test]
    fn the_page_is_self_contained_and_marks_what_was_missed() {
        let chart = Chart::new("a <chart>", "us").bar(Bar::ours("seen", 2.0)).limit(1.0);
        let outcome = Outcome {
            figures: vec![Figure::of("a", 2.0, "us").aim(Aim::AtMost(1.0))],
            charts: vec![chart],
            notes: vec!["a & b".to_owned()],
            failures: vec!["c was not measured".to_owned()],
        };
        let page = html(&outcome);
        assert!(page.contains("<td class=\"missed\">missed</td>"));
        assert!(page.contains("a &lt;chart&gt;") && page.contains("a &amp; b"));
        assert!(page.contains("c was not measured"));
        assert!(page.contains("<rect class=\"ours\" x=\"170\" y=\"0.0\" width=\"430.0\""));
        assert!(page.contains("x1=\"385.0\""), "the aim lies at half of the bar: {page}");
        assert!(!page.contains("http"), "nothing is loaded from elsewhere");
    }
}
