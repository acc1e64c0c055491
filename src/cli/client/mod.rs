//! `client`: manages clients, the applications that get tokens, directly on the store.

mod fields;
mod rotate_secret;

use clap::Subcommand;

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
    /// Change the fields of a client for which an option is given.
    Update {
        /// The client id.
        id: String,
        #[command(flatten)]
        fields: Fields,
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
    Delete(Id),
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
            disable,
            enable,
            unset,
        } => {
            let (mut draft, mut mask) = fields.draft(id);
            draft.disabled = disable;
            mask.extend((disable || enable).then(|| "disabled".to_owned()));
            mask.extend(unset);
            update(context, draft, mask).await
        }
        Command::RotateSecret(args) => rotate_secret::run(context, args).await,
        Command::Delete(Id { id }) => delete(context, &id).await,
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

async fn update(context: &Context, draft: ClientDraft, mask: Vec<String>) -> Result<(), Failure> {
    if mask.is_empty() {
        return Err(Failure::usage(
            "nothing to change: see `countersign client update --help`",
        ));
    }
    let app = store::open(context).await?;
    let client = app.clients.update(&Principal::owner(), &draft, &mask, None).await?;
    context.out.message(&proto::UpdateClientResponse {
        client: Some(convert::client(client)),
    })
}

async fn delete(context: &Context, id: &str) -> Result<(), Failure> {
    let app = store::open(context).await?;
    app.clients.delete(&Principal::owner(), id).await?;
    context
        .out
        .note(&format!("{id} is deleted, and its sessions and tokens are revoked"));
    context.out.message(&proto::DeleteClientResponse {})
}
