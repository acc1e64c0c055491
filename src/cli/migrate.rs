//! `migrate`: bring the stores' schema up to date.

use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::json;

use super::output::progress;
use super::{Context, Failure};
use crate::app::{self, Access};

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let progress = spinner();
    let opened = app::open(&config, Access::Beside).await;
    progress.finish_and_clear();
    opened?;
    context.out.note("the schema is up to date");
    if context.out.is_json() {
        context.out.value(&json!({"up_to_date": true}))
    } else {
        Ok(())
    }
}

/// How long it has been at it, for people who look on: a step over a large table takes its time, and how much is not known.
fn spinner() -> ProgressBar {
    let bar = progress(None, "{spinner} bringing the schema up to date: {elapsed}");
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
