//! The report: a table, a JSON file and a chart.

use std::fmt::Write as _;

/// One row of the table: a result, its baseline and the bounds of their ratio.
pub struct ReportRow {
    name: String,
    unit: &'static str,
    ours: f64,
    theirs: f64,
    least: Option<f64>,
    most: Option<f64>,
}

impl ReportRow {
    pub fn new(name: impl Into<String>, unit: &'static str, ours: f64, theirs: f64) -> Self {
        Self {
            name: name.into(),
            unit,
            ours,
            theirs,
            least: None,
            most: None,
        }
    }

    pub fn at_least(mut self, ratio: f64) -> Self {
        self.least = Some(ratio);
        self
    }

    pub fn at_most(mut self, ratio: f64) -> Self {
        self.most = Some(ratio);
        self
    }

    fn ratio(&self) -> f64 {
        self.ours / self.theirs
    }

    fn holds(&self) -> bool {
        self.least.is_none_or(|least| self.ratio() >= least) && self.most.is_none_or(|most| self.ratio() <= most)
    }

    fn wanted(&self) -> String {
        match (self.least, self.most) {
            (Some(least), _) => format!("≥ {least:.2}"),
            (_, Some(most)) => format!("≤ {most:.2}"),
            (None, None) => String::new(),
        }
    }
}

/// Prints the table. After a full run, also writes the files.
pub fn write(rows: &[ReportRow], full: bool) {
    println!(
        "{:<66} {:>12} {:>12} {:<9} {:>6}  {:<7}",
        "", "ours", "against", "", "ratio", "wanted"
    );
    for row in rows {
        println!(
            "{:<66} {:>12.1} {:>12.1} {:<9} {:>6.2}  {:<7}{}",
            row.name,
            row.ours,
            row.theirs,
            row.unit,
            row.ratio(),
            row.wanted(),
            if row.holds() { "" } else { "  MISSED" }
        );
    }
    if !full {
        return;
    }
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    std::fs::write(docs.join("load.json"), json(rows)).unwrap();
    std::fs::write(docs.join("load.svg"), chart(rows)).unwrap();
    eprintln!("written: docs/load.json, docs/load.svg");
}

fn json(rows: &[ReportRow]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "case": row.name, "unit": row.unit, "ours": row.ours, "against": row.theirs,
                "ratio": row.ratio(), "least": row.least, "most": row.most,
            })
        })
        .collect();
    format!("{:#}\n", serde_json::json!({ "cases": rows }))
}

/// A chart with a bar for each row that has a bound. A bar shows the ratio in units of the bound; the vertical line is 1.
fn chart(rows: &[ReportRow]) -> String {
    const LEFT: u32 = 430;
    const HEIGHT: u32 = 26;
    const UNIT: f64 = 150.0;
    let bounded: Vec<&ReportRow> = rows.iter().filter(|row| row.least.or(row.most).is_some()).collect();
    let height = 40 + HEIGHT * u32::try_from(bounded.len()).unwrap();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"860\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" fill=\"#555\">how often better than what was asked for (the line is 1)</text>\n"
    );
    for (n, row) in bounded.iter().enumerate() {
        let y = 30 + HEIGHT * u32::try_from(n).unwrap();
        let better = row
            .least
            .map_or_else(|| row.most.unwrap_or(1.0) / row.ratio(), |least| row.ratio() / least);
        let width = (better.min(2.6) * UNIT).round();
        let colour = if row.holds() { "#3a7d44" } else { "#b3261e" };
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width}\" height=\"18\" fill=\"{colour}\"/>\n\
             <text x=\"{}\" y=\"{}\" fill=\"#fff\">{:.2} ({})</text>",
            LEFT - 8,
            y + 14,
            row.name.replace('&', "and"),
            LEFT + 6,
            y + 14,
            row.ratio(),
            row.wanted().replace("≥", "&#8805;").replace("≤", "&#8804;"),
        )
        .unwrap();
    }
    let x = f64::from(LEFT) + UNIT;
    writeln!(
        svg,
        "<line x1=\"{x}\" y1=\"24\" x2=\"{x}\" y2=\"{height}\" stroke=\"#000\" stroke-dasharray=\"4 3\"/>\n</svg>"
    )
    .unwrap();
    svg
}
