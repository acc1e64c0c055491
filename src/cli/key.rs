//! `key`: manages the keys that sign tokens, directly on the store.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use zeroize::Zeroizing;

use super::input::Confirm;
use super::{Context, Failure, store};
use crate::grpc::convert;
use crate::model::KeyId;
use crate::model::audit::Origin;
use crate::model::text::check_reason;
use crate::proto::{ListKeysResponse, RevokeKeyResponse, RotateKeyResponse};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List the signing keys, oldest first.
    List,
    /// Make the next key sign, once it was published long enough for every verifier to know it.
    Rotate {
        /// Make it sign now, although caches may not know it yet.
        #[arg(long)]
        force: bool,
    },
    /// Revoke a key and every access token that it signed; refresh tokens stay valid.
    Revoke {
        /// The id of the key (`kid`).
        // A thumbprint is base64url: one in 64 begins with a hyphen.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// The reason, for the audit trail.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Import a private key (PEM or JWK); it is the next key to sign.
    Import {
        /// The file with the key.
        file: PathBuf,
        /// Make it sign now.
        #[arg(long)]
        activate: bool,
    },
    /// Encrypt all sealed data again with the first master key, so that the other master keys can be removed.
    Reseal,
}

impl Command {
    pub(super) const fn changes_store(&self) -> bool {
        match self {
            Self::Rotate { .. } | Self::Revoke { .. } | Self::Import { .. } | Self::Reseal => true,
            Self::List => false,
        }
    }
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let origin = Origin::cli();
    match command {
        Command::List => {
            let response = ListKeysResponse {
                keys: app.keys.listed().iter().map(convert::key).collect(),
            };
            let columns = [
                "key_id",
                "algorithm",
                "state",
                "create_time",
                "activate_time",
                "retire_time",
            ];
            context.out.list(&response, "keys", &columns)
        }
        Command::Rotate { force } => {
            let key = app.keys.rotate(force, &origin).await?;
            context.out.message(&RotateKeyResponse {
                key: Some(convert::key(&key)),
            })
        }
        Command::Revoke { id, reason, confirm } => {
            let id = KeyId::parse(&id, "key_id")?;
            check_reason(&reason)?;
            confirm.ask(
                context,
                &format!("revoke the key {id} and every access token that it signed"),
            )?;
            let (key, revocation) = app.keys.revoke(&id, &reason, &origin).await?;
            if let Some(revocation) = revocation {
                app.publisher.publish(&revocation).await;
            }
            context.out.message(&RevokeKeyResponse {
                key: Some(convert::key(&key)),
            })
        }
        Command::Import { file, activate } => {
            let cannot = |error| Failure::usage(format!("cannot read {}: {error}", file.display()));
            let bytes = Zeroizing::new(std::fs::read(&file).map_err(cannot)?);
            let key = app.keys.import(&bytes, activate, &origin).await?;
            context.out.message(&RotateKeyResponse {
                key: Some(convert::key(&key)),
            })
        }
        Command::Reseal => {
            let resealed = app.keys.reseal(&origin).await?;
            let refused: Vec<String> = resealed
                .unusable
                .iter()
                .map(|row| format!("{}: {:?}", row.item, row.error))
                .collect();
            context
                .out
                .value(&json!({"resealed": resealed.rows, "refused": refused}))?;
            if refused.is_empty() {
                Ok(())
            } else {
                Err(Failure::other("some rows could not be decrypted and were not changed"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::Command;
    use crate::cli::{self, Cli};

    #[test]
    fn a_key_id_may_begin_with_a_hyphen() {
        for id in ["-uZ", "--x", "plain"] {
            for words in [
                ["key", "revoke", id, "--reason", "r"],
                ["key", "revoke", "--reason", "r", id],
            ] {
                let parsed = Cli::try_parse_from([&["countersign"][..], &words].concat()).unwrap();
                let cli::Command::Key(Command::Revoke { id: read, reason, .. }) = parsed.command else {
                    panic!("another command");
                };
                assert_eq!((read.as_str(), reason.as_str()), (id, "r"));
            }
        }
    }
}
