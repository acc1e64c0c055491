//! The commands that work on the stores themselves: whoever can open those may do anything.

use std::sync::Arc;
use std::time::Duration;

use super::{Context, Failure};
use crate::account::Principal;
use crate::account::users::UserKey;
use crate::app::{self, Access, App};
use crate::model::audit::Origin;
use crate::model::grant::OWN_SCOPES;
use crate::model::{Caller, Identity, User};

/// A hash takes a fraction of a second, and there is no queue here.
const HASHING: Duration = Duration::from_secs(30);

/// Opens the configured stores, beside a server or without one.
pub(super) async fn open(context: &Context) -> Result<Arc<App>, Failure> {
    let config = context.config(Vec::new())?;
    let stores = app::open(&config, Access::Beside).await?;
    Ok(App::build(&config, stores).await?)
}

/// The owner of the store, where a rule wants a caller.
pub(super) fn owner() -> Caller {
    Caller {
        identity: Identity::Anonymous,
        scopes: OWN_SCOPES.map(str::to_owned).to_vec(),
        origin: Origin::cli(),
    }
}

/// The user of that name.
pub(super) async fn user(app: &App, name: &str) -> Result<User, Failure> {
    Ok(app.users.get(&Principal::owner(), UserKey::Name(name)).await?)
}

/// Until when a hash is waited for: a moment of the clock's monotonic time.
pub(super) fn deadline(app: &App) -> Duration {
    app.clock.monotonic() + HASHING
}
