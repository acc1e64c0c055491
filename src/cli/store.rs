//! Opening the stores for the commands that work on them directly. An operator who can open the stores may do everything.

use std::sync::Arc;
use std::time::Duration;

use super::{Context, Failure};
use crate::account::Principal;
use crate::account::users::UserKey;
use crate::app::{self, Access, App};
use crate::model::audit::Origin;
use crate::model::{Caller, CallerScope, Identity, User};

/// A hash takes a fraction of a second, and no other command waits for the hashing pool.
const HASH_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the configured stores, whether or not a server runs on them.
pub(super) async fn open(context: &Context) -> Result<Arc<App>, Failure> {
    let config = context.config(Vec::new())?;
    let stores = app::open(&config, Access::Subcommand).await?;
    context.store.get_or_init(|| config.storage.describe());
    Ok(App::build(&config, stores).await?)
}

/// The owner of the store as a caller, for operations that take one.
pub(super) fn owner() -> Caller {
    Caller {
        identity: Identity::Anonymous,
        scopes: CallerScope::ALL.map(|scope| scope.as_str().to_owned()).to_vec(),
        origin: Origin::cli(),
    }
}

/// The user with this username.
pub(super) async fn user(app: &App, name: &str) -> Result<User, Failure> {
    Ok(app.users.get(&Principal::owner(), UserKey::Name(name)).await?)
}

/// The deadline for hashing a password, as monotonic time of the clock.
pub(super) fn deadline(app: &App) -> Duration {
    app.stores.clock.monotonic() + HASH_TIMEOUT
}
