//! Secrets that an environment variable with `_FILE` names are read again when their files change, as certificates are.
//!
//! A new value is used once it works: a connection with it succeeds. Until then the one before stays in use. So it does not matter
//! whether the file or the server changes first.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::services::App;
use crate::config::{Config, Storage};
use crate::listener::RELOAD_INTERVAL;
use crate::secret::{SecretText, SharedSecret};
use crate::store::postgres::PostgresStore;
use crate::store::redis::Redis;

/// The longest pause before a value that does not work is tried again: a wrong password must not lock the account.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The files with secrets, and the parts that use them.
pub(super) struct SecretFiles {
    watched: tokio::sync::Mutex<Vec<Watched>>,
    reload_requested: Notify,
}

/// The secrets of one part, which change together.
struct Watched {
    /// The name in metrics.
    name: &'static str,
    /// The options and their files.
    files: Vec<(&'static str, PathBuf)>,
    user: Box<dyn UseSecrets>,
    in_effect: Vec<SecretText>,
    refused: Option<Refused>,
}

/// Values that are not in effect although the files have them.
struct Refused {
    values: Vec<SecretText>,
    logged: bool,
    /// How often they were tried.
    tries: u32,
    next_try: Instant,
}

/// A part that uses secrets.
#[async_trait]
trait UseSecrets: Send + Sync {
    /// Uses these values, by option, from now on. If it cannot, it changes nothing and returns the reason.
    async fn use_secrets(&self, values: &[(&'static str, SecretText)]) -> Result<(), String>;
}

impl SecretFiles {
    /// The files that the configuration names. `forward_auth` is the secret of `/authorize`.
    pub(super) fn of(config: &Config, app: &App, forward_auth: Option<&SharedSecret>) -> Self {
        let storage = &config.storage;
        let mut watched = Vec::new();
        let mut watch = |name, keys: &[&'static str], values: Vec<Option<&SecretText>>, user: Box<dyn UseSecrets>| {
            let values = keys.iter().zip(values);
            let (files, in_effect): (Vec<_>, Vec<_>) = values
                .filter_map(|(key, value)| Some(((*key, regular_file(config, key)?), value?.clone())))
                .unzip();
            if !files.is_empty() {
                watched.push(Watched {
                    name,
                    files,
                    user,
                    in_effect,
                    refused: None,
                });
            }
        };
        if let Some((database, redis)) = &app.stores.clustered {
            let user = storage.database_user.as_deref().map(SecretText::from);
            let values = vec![
                storage.database_url.as_ref(),
                user.as_ref(),
                storage.database_password.as_ref(),
            ];
            let keys = [
                "storage.database_url",
                "storage.database_user",
                "storage.database_password",
            ];
            let (storage, store) = (storage.clone(), database.clone());
            watch("database", &keys, values, Box::new(DatabaseUser { storage, store }));
            let storage = &config.storage;
            let user = storage.redis_user.as_deref().map(SecretText::from);
            let values = vec![
                storage.redis_url.as_ref(),
                user.as_ref(),
                storage.redis_password.as_ref(),
            ];
            let keys = ["storage.redis_url", "storage.redis_user", "storage.redis_password"];
            let (storage, store) = (storage.clone(), Arc::clone(redis));
            watch("redis", &keys, values, Box::new(RedisUser { storage, store }));
        }
        if let Some(secret) = forward_auth {
            let values = vec![config.gateway.forward_auth_secret.as_ref()];
            let user = ForwardAuthUser {
                gateway: config.gateway.clone(),
                secret: secret.clone(),
            };
            watch("forward_auth", &["gateway.forward_auth_secret"], values, Box::new(user));
        }
        describe();
        Self {
            watched: watched.into(),
            reload_requested: Notify::new(),
        }
    }

    /// Reads the files now instead of at the next interval.
    pub(super) fn reload_now(&self) {
        self.reload_requested.notify_one();
    }

    /// Uses the files whenever they change, until `halt`.
    pub(super) async fn follow(&self, halt: CancellationToken) {
        let mut watched = self.watched.lock().await;
        loop {
            tokio::select! {
                () = halt.cancelled() => return,
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
                () = self.reload_requested.notified() => {}
            }
            for part in watched.iter_mut() {
                part.reload().await;
            }
        }
    }
}

/// The file of the option, if it can be read more than once: a pipe cannot.
fn regular_file(config: &Config, key: &str) -> Option<PathBuf> {
    let path = config.file_of(key)?;
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file())
        .then(|| path.to_owned())
}

impl Watched {
    async fn reload(&mut self) {
        let paths: Vec<PathBuf> = self.files.iter().map(|(_, path)| path.clone()).collect();
        // A file on a network volume can be slow.
        let read =
            tokio::task::spawn_blocking(move || paths.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>());
        let read = read.await.unwrap_or_else(|error| Err(error.to_string()));
        let values = match read {
            Ok(values) if values == self.in_effect => return self.accept(),
            Ok(values) => values,
            Err(error) => return self.refuse(Vec::new(), &error),
        };
        let is_known = |refused: &&Refused| refused.values == values;
        if self
            .refused
            .as_ref()
            .filter(is_known)
            .is_some_and(|refused| Instant::now() < refused.next_try)
        {
            return;
        }
        let by_key = self.files.iter().zip(&values);
        let by_key: Vec<_> = by_key.map(|((key, _), value)| (*key, value.clone())).collect();
        match self.user.use_secrets(&by_key).await {
            Ok(()) => {
                self.in_effect = values;
                self.accept();
                metrics::counter!("countersign_secret_reloads_total", "of" => self.name, "outcome" => "taken")
                    .increment(1);
                tracing::info!(
                    options = self.options(),
                    "the new secret is in effect for new connections"
                );
            }
            Err(error) => self.refuse(values, &error),
        }
    }

    /// Ends the report of refused values.
    fn accept(&mut self) {
        if self.refused.take().is_some() {
            metrics::gauge!("countersign_secret_files_refused", "of" => self.name).set(0.0);
        }
    }

    /// Keeps the values that are in effect. It is logged, once, if the next try fails too: a file may be half written.
    fn refuse(&mut self, values: Vec<SecretText>, error: &str) {
        let (before, logged) = match &self.refused {
            Some(before) if before.values == values => (before.tries, before.logged),
            Some(_) | None => (0, false),
        };
        if before > 0 && !logged {
            metrics::counter!("countersign_secret_reloads_total", "of" => self.name, "outcome" => "refused")
                .increment(1);
            metrics::gauge!("countersign_secret_files_refused", "of" => self.name).set(1.0);
            let options = self.options();
            tracing::error!(
                error,
                options,
                "the new secret cannot be used: the one before stays in effect, and the new one is tried again"
            );
        }
        let pause = (RELOAD_INTERVAL * 2u32.saturating_pow(before.saturating_sub(1).min(8))).min(MAX_PAUSE);
        self.refused = Some(Refused {
            values,
            logged: logged || before > 0,
            tries: before + 1,
            // The second try is not delayed.
            next_try: if before == 0 {
                Instant::now()
            } else {
                Instant::now() + pause
            },
        });
    }

    fn options(&self) -> String {
        let keys: Vec<_> = self.files.iter().map(|(key, _)| *key).collect();
        keys.join(", ")
    }
}

fn read(path: &Path) -> Result<SecretText, String> {
    let text = SecretText::read_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if text.is_empty() {
        return Err(format!("{}: it is empty", path.display()));
    }
    Ok(text)
}

/// Postgres with the login of `storage`.
struct DatabaseUser {
    storage: Storage,
    store: PostgresStore,
}

#[async_trait]
impl UseSecrets for DatabaseUser {
    async fn use_secrets(&self, values: &[(&'static str, SecretText)]) -> Result<(), String> {
        let url = with(&self.storage, values)
            .database()
            .map_err(|error| error.to_string())?;
        let url = url.ok_or("storage.database_url is empty")?;
        let before = self.storage.database().map_err(|error| error.to_string())?;
        if before.is_none_or(|before| before.database != url.database) {
            return Err("another database cannot be used while the service runs: restart it".to_owned());
        }
        self.store.change_url(&url).await.map_err(|error| error.to_string())
    }
}

/// Redis with the login of `storage`.
struct RedisUser {
    storage: Storage,
    store: Arc<Redis>,
}

#[async_trait]
impl UseSecrets for RedisUser {
    async fn use_secrets(&self, values: &[(&'static str, SecretText)]) -> Result<(), String> {
        let url = with(&self.storage, values).redis().map_err(|error| error.to_string())?;
        let url = url.ok_or("storage.redis_url is empty")?;
        self.store.change_login(&url).await.map_err(|error| error.to_string())
    }
}

/// The section with these values.
fn with(storage: &Storage, values: &[(&'static str, SecretText)]) -> Storage {
    let mut storage = storage.clone();
    for (key, value) in values {
        let text = || Some(value.expose().to_owned());
        match *key {
            "storage.database_url" => storage.database_url = Some(value.clone()),
            "storage.database_user" => storage.database_user = text(),
            "storage.database_password" => storage.database_password = Some(value.clone()),
            "storage.redis_url" => storage.redis_url = Some(value.clone()),
            "storage.redis_user" => storage.redis_user = text(),
            "storage.redis_password" => storage.redis_password = Some(value.clone()),
            _ => {}
        }
    }
    storage
}

/// `/authorize`.
struct ForwardAuthUser {
    gateway: crate::config::Gateway,
    secret: SharedSecret,
}

#[async_trait]
impl UseSecrets for ForwardAuthUser {
    async fn use_secrets(&self, values: &[(&'static str, SecretText)]) -> Result<(), String> {
        let Some((_, value)) = values.first() else {
            return Ok(());
        };
        let mut gateway = self.gateway.clone();
        gateway.forward_auth_secret = Some(value.clone());
        gateway.check_secret().map_err(|error| error.to_string())?;
        self.secret.replace(value.clone());
        Ok(())
    }
}

fn describe() {
    metrics::describe_counter!(
        "countersign_secret_reloads_total",
        "Changed files with secrets, by whether the new value was taken or refused."
    );
    metrics::describe_gauge!(
        "countersign_secret_files_refused",
        "1 while a file has a secret that cannot be used and the one before stays in effect."
    );
    for of in ["database", "redis", "forward_auth"] {
        for outcome in ["taken", "refused"] {
            metrics::counter!("countersign_secret_reloads_total", "of" => of, "outcome" => outcome).increment(0);
        }
        metrics::gauge!("countersign_secret_files_refused", "of" => of).set(0.0);
    }
}
