//! `client`: manages clients, the applications that get tokens, directly on the store.

mod fields;
mod rotate_secret;

use clap::Subcommand;

use super::input::Confirm;
use super::{Context, Failure, store};
use crate::account::{ClientDraft, Principal};
use crate::grpc::convert;
use crate::proto;
use fields::Fields;

const PAGE_SIZE: i32 = 1000;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Create a client. If one of its grants needs a secret, the secret is printed and cannot be shown again.
    Add {
        /// The client id: 3-64 of a-z 0-9 . _ -
        id: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// List clients.
    List,
    /// Show one client.
    Show(Id),
    /// Change the fields of a client for which an option is given. `--grant`, `--scope` and `--audience` replace the list.
    Update {
        /// The client id.
        id: String,
        #[command(flatten)]
        fields: Fields,
        /// Add a scope to the present ones; repeatable.
        #[arg(long, value_name = "SCOPE", conflicts_with = "scopes")]
        add_scope: Vec<String>,
        /// Remove a scope from the present ones; repeatable.
        #[arg(long, value_name = "SCOPE", conflicts_with = "scopes")]
        remove_scope: Vec<String>,
        /// Refuse tokens to the client, and revoke its sessions and tokens.
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// Allow tokens to the client again.
        #[arg(long)]
        enable: bool,
        /// Reset a field to its default, for instance `session_ttl` or `scopes`; repeatable.
        #[arg(long, value_name = "FIELD")]
        unset: Vec<String>,
    },
    /// Create a new secret and print it; it cannot be shown again.
    RotateSecret(rotate_secret::Args),
    /// Delete a client, and revoke its sessions and tokens.
    Delete {
        #[command(flatten)]
        id: Id,
        #[command(flatten)]
        confirm: Confirm,
    },
}

impl Command {
    pub(super) const fn changes_store(&self) -> bool {
        match self {
            Self::Add { .. } | Self::Update { .. } | Self::RotateSecret(_) | Self::Delete { .. } => true,
            Self::List | Self::Show(_) => false,
        }
    }
}

/// The client of a command.
#[derive(clap::Args)]
pub(super) struct Id {
    /// The client id.
    id: String,
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Add { id, fields } => add(context, id, fields).await,
        Command::List => list(context).await,
        Command::Show(Id { id }) => show(context, &id).await,
        Command::Update {
            id,
            fields,
            add_scope,
            remove_scope,
            disable,
            enable,
            unset,
        } => {
            let (mut draft, mut mask) = fields.draft(id);
            draft.disabled = disable;
            mask.extend((disable || enable).then(|| "disabled".to_owned()));
            mask.extend(unset);
            let scopes = ScopeChange {
                add: add_scope,
                remove: remove_scope,
            };
            update(context, draft, mask, scopes).await
        }
        Command::RotateSecret(args) => rotate_secret::run(context, args).await,
        Command::Delete { id: Id { id }, confirm } => delete(context, &id, &confirm).await,
    }
}

async fn add(context: &Context, id: String, fields: Fields) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let (draft, _) = fields.draft(id);
    let (client, secret) = app.clients.create(&Principal::owner(), &draft).await?;
    if secret.is_some() {
        context.out.note("store the secret now: it cannot be shown again");
    }
    context.out.message(&proto::CreateClientResponse {
        client: Some(convert::client(client)),
        client_secret: secret.map(|secret| secret.expose().to_owned()).unwrap_or_default(),
    })
}

async fn list(context: &Context) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let (owner, mut clients, mut token) = (Principal::owner(), Vec::new(), String::new());
    loop {
        let page = app.clients.list(&owner, PAGE_SIZE, &token).await?;
        clients.extend(page.items.into_iter().map(convert::client));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let all = proto::ListClientsResponse {
        clients,
        next_page_token: token,
    };
    context.out.list(
        &all,
        "clients",
        &["client_id", "display_name", "grants", "scopes", "audiences", "disabled"],
    )
}

async fn show(context: &Context, id: &str) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let client = app.clients.get(&Principal::owner(), id).await?;
    context.out.message(&proto::GetClientResponse {
        client: Some(convert::client(client)),
    })
}

/// The scopes that an update adds to the present ones and removes from them.
struct ScopeChange {
    add: Vec<String>,
    remove: Vec<String>,
}

impl ScopeChange {
    fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// The scopes after the change, in their order. A scope to remove that is not there is a mistake of the caller.
    fn apply(&self, mut scopes: Vec<String>) -> Result<Vec<String>, Failure> {
        for scope in &self.remove {
            let at = scopes.iter().position(|present| present == scope);
            let at = at.ok_or_else(|| {
                Failure::other(format!(
                    "the client does not have the scope {scope}; nothing was changed"
                ))
            })?;
            scopes.remove(at);
        }
        for scope in &self.add {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
        Ok(scopes)
    }
}

async fn update(
    context: &Context,
    mut draft: ClientDraft,
    mut mask: Vec<String>,
    scopes: ScopeChange,
) -> Result<(), Failure> {
    if mask.is_empty() && scopes.is_empty() {
        return Err(Failure::usage(
            "nothing to change: see `countersign client update --help`",
        ));
    }
    let app = store::open(context).await?;
    let (owner, mut seen) = (Principal::owner(), None);
    let replaces_scopes = mask.iter().any(|field| field == "scopes");
    if !scopes.is_empty() {
        let present = app.clients.get(&owner, &draft.client_id).await?;
        draft.scopes = scopes.apply(present.scopes)?;
        mask.push("scopes".to_owned());
        // Refused if the client has changed since it was read.
        seen = Some(present.updated);
    }
    let client = app.clients.update(&owner, &draft, &mask, seen).await?;
    if replaces_scopes {
        context
            .out
            .note("the scopes were replaced; --add-scope and --remove-scope change single ones");
    }
    context.out.message(&proto::UpdateClientResponse {
        client: Some(convert::client(client)),
    })
}

async fn delete(context: &Context, id: &str, confirm: &Confirm) -> Result<(), Failure> {
    let app = store::open(context).await?;
    app.clients.get(&Principal::owner(), id).await?;
    confirm.ask(context, &format!("delete the client {id}"))?;
    app.clients.delete(&Principal::owner(), id).await?;
    context
        .out
        .note(&format!("{id} is deleted, and its sessions and tokens are revoked"));
    context.out.message(&proto::DeleteClientResponse {})
}
