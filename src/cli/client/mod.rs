//! `client`: the applications that get tokens, on the store itself.

mod fields;
mod rotate_secret;

use clap::Subcommand;

use super::{Context, Failure, store};
use crate::account::{ClientDraft, Principal};
use crate::grpc::convert;
use crate::proto;
use fields::Fields;

const PAGE: i32 = 1000;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a client; where one of its grants needs a secret, it is printed, this once.
    Add {
        /// Its id: 3-64 of a-z 0-9 . _ -
        id: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// List clients.
    List,
    /// Show one client.
    Show(Id),
    /// Change a client: the options that are given.
    Update {
        /// Its id.
        id: String,
        #[command(flatten)]
        fields: Fields,
        /// Give it no more tokens, and end what it has.
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// Give it tokens again.
        #[arg(long)]
        enable: bool,
        /// Set an option back to its default, for instance `session_ttl` or `scopes`; may be given again.
        #[arg(long, value_name = "FIELD")]
        unset: Vec<String>,
    },
    /// Make a new secret and print it, this once.
    RotateSecret(rotate_secret::Args),
    /// Delete a client, and end everything at it.
    Delete(Id),
}

/// Which client a command is about.
#[derive(clap::Args)]
pub(super) struct Id {
    /// Its id.
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
        context.out.note("keep the secret: it is shown this once");
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
        let page = app.clients.list(&owner, PAGE, &token).await?;
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
        .note(&format!("{id} is deleted, and everything at it is ended"));
    context.out.message(&proto::DeleteClientResponse {})
}
