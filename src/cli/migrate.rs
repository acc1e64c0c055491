//! `migrate`: brings the schema of the stores up to date.

use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::json;

use super::output::progress;
use super::{Context, Failure};
use crate::app::{self, Access};

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let progress = spinner();
    let opened = app::open(&config, Access::Migrate).await;
    progress.finish_and_clear();
    opened?;
    context.store.get_or_init(|| config.storage.describe());
    context.out.note("the schema is up to date");
    if context.out.is_json() {
        context.out.value(&json!({"upToDate": true}))
    } else {
        Ok(())
    }
}

/// Shows the elapsed time on a terminal. A migration of a large table may take long, and how long is not known.
fn spinner() -> ProgressBar {
    let bar = progress(None, "{spinner} bringing the schema up to date: {elapsed}");
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
