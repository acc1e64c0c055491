//! `doctor`: checks whether the service could run with this configuration and these stores. It changes nothing.

use std::fmt::Write as _;

use serde_json::json;

use super::output::print;
use super::text::printable;
use super::{Context, Failure};
use crate::app::doctor::{self, State};

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let findings = doctor::examine(&config).await;
    let worst = findings.iter().map(|finding| finding.state).max();
    let code = worst.map_or(0, State::exit_code);
    if context.out.is_json() {
        let checks: Vec<_> = findings
            .iter()
            .map(|finding| json!({"check": finding.about, "state": name(finding.state), "message": finding.message}))
            .collect();
        context.out.value(&json!({"healthy": code == 0, "checks": checks}))?;
    } else {
        let mut text = String::new();
        for finding in &findings {
            // Writing to a `String` cannot fail.
            let _ = writeln!(
                text,
                "{:<13}  {:<13}  {}",
                name(finding.state).to_lowercase(),
                finding.about,
                printable(&finding.message)
            );
        }
        print(&text)?;
    }
    if code == 0 {
        Ok(())
    } else {
        Err(Failure::exit_code(code))
    }
}

const fn name(state: State) -> &'static str {
    match state {
        State::Good => "OK",
        State::Doubtful => "WARNING",
        State::Bad => "FAILED",
        State::Unreachable => "UNREACHABLE",
        State::Misconfigured => "MISCONFIGURED",
    }
}
