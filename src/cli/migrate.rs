//! `migrate`: bring the stores' schema up to date.

use serde_json::json;

use super::{Context, Failure};
use crate::app::{self, Access};

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    app::open(&config, Access::Beside).await?;
    context.out.note("the schema is up to date");
    if context.out.is_json() {
        context.out.value(&json!({"up_to_date": true}))
    } else {
        Ok(())
    }
}
