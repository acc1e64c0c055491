//! What was found: a table, a file for programs, a chart for people.

use std::fmt::Write as _;

/// One line of the table.
pub struct Line {
    name: &'static str,
    unit: &'static str,
    ours: f64,
    theirs: f64,
    least: Option<f64>,
    most: Option<f64>,
}

impl Line {
    pub const fn of(name: &'static str, unit: &'static str, ours: f64, theirs: f64) -> Self {
        Self {
            name,
            unit,
            ours,
            theirs,
            least: None,
            most: None,
        }
    }

    pub const fn at_least(mut self, ratio: f64) -> Self {
        self.least = Some(ratio);
        self
    }

    pub const fn at_most(mut self, ratio: f64) -> Self {
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

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints the table; after a full run the files are written too.
pub fn tell(lines: &[Line], full: bool) {
    println!(
        "{:<66} {:>12} {:>12} {:<9} {:>6}  {:<7}",
        "", "ours", "against", "", "ratio", "wanted"
    );
    for line in lines {
        println!(
            "{:<66} {:>12.1} {:>12.1} {:<9} {:>6.2}  {:<7}{}",
            line.name,
            line.ours,
            line.theirs,
            line.unit,
            line.ratio(),
            line.wanted(),
            if line.holds() { "" } else { "  MISSED" }
        );
    }
    if !full {
        return;
    }
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    std::fs::write(docs.join("load.json"), json(lines)).unwrap();
    std::fs::write(docs.join("load.svg"), chart(lines)).unwrap();
    eprintln!("written: docs/load.json, docs/load.svg");
}

fn json(lines: &[Line]) -> String {
    let lines: Vec<_> = lines
        .iter()
        .map(|line| {
            serde_json::json!({
                "case": line.name, "unit": line.unit, "ours": line.ours, "against": line.theirs,
                "ratio": line.ratio(), "least": line.least, "most": line.most,
            })
        })
        .collect();
    format!("{:#}\n", serde_json::json!({ "cases": lines }))
}

/// A bar for each line that has a bound: how its ratio stands to that bound, which is the same vertical line for all.
fn chart(lines: &[Line]) -> String {
    const LEFT: u32 = 430;
    const HEIGHT: u32 = 26;
    const UNIT: f64 = 150.0;
    let bounded: Vec<&Line> = lines.iter().filter(|line| line.least.or(line.most).is_some()).collect();
    let height = 40 + HEIGHT * u32::try_from(bounded.len()).unwrap();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"860\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" fill=\"#555\">how often better than what was asked for (the line is 1)</text>\n"
    );
    for (n, line) in bounded.iter().enumerate() {
        let y = 30 + HEIGHT * u32::try_from(n).unwrap();
        let better = line
            .least
            .map_or_else(|| line.most.unwrap_or(1.0) / line.ratio(), |least| line.ratio() / least);
        let width = (better.min(2.6) * UNIT).round();
        let colour = if line.holds() { "#3a7d44" } else { "#b3261e" };
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width}\" height=\"18\" fill=\"{colour}\"/>\n\
             <text x=\"{}\" y=\"{}\" fill=\"#fff\">{:.2} ({})</text>",
            LEFT - 8,
            y + 14,
            line.name.replace('&', "and"),
            LEFT + 6,
            y + 14,
            line.ratio(),
            line.wanted().replace("≥", "&#8805;").replace("≤", "&#8804;"),
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
