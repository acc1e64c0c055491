//! The table of operations at two sizes.

use crate::processor::Cost;

/// One operation at one size. Times are in microseconds.
pub struct Row {
    pub name: &'static str,
    /// None of work that nothing waits for.
    pub time: Option<f64>,
    pub cost: Cost,
    /// Bytes of write-ahead log.
    pub wal: f64,
}

/// The ratio that an operation should not exceed, unless it is a listing.
const WANTED: f64 = 1.5;

pub fn print([small, large]: [u32; 2], columns: &[Vec<Row>]) {
    println!(
        "\n{:<44} {:>32}   {:>32}   {:>30}   {:>15}",
        "", "time, µs", "processor time of all, µs", "service + Postgres + Redis", "WAL, bytes"
    );
    println!(
        "{:<44} {small:>12} {large:>12} {:>6}   {small:>12} {large:>12} {:>6}   {:>30}   {:>15}",
        "users and sessions", "ratio", "ratio", "at the larger size", "at the larger"
    );
    for (before, after) in columns[0].iter().zip(&columns[1]) {
        let times = before.time.zip(after.time);
        let time_ratio = times.map(|(before, after)| after / before);
        let cost_ratio = after.cost.all() / before.cost.all();
        let cell = |value: Option<f64>, digits| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        println!(
            "{:<44} {:>12} {:>12} {:>6}   {:>12.1} {:>12.1} {cost_ratio:>6.2}   {:>30}   {:>15.0}{}",
            before.name,
            cell(before.time, 1),
            cell(after.time, 1),
            cell(time_ratio, 2),
            before.cost.all(),
            after.cost.all(),
            format!(
                "{:.1} + {:.1} + {:.1}",
                after.cost.service, after.cost.postgres, after.cost.redis
            ),
            after.wal,
            if time_ratio.is_some_and(|ratio| ratio > WANTED) || cost_ratio > WANTED {
                format!("  above {WANTED}")
            } else {
                String::new()
            }
        );
    }
}
