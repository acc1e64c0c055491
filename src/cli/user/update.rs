//! `user update`.

use serde_json::{Map, Value};

use crate::account::{Principal, UserDraft};
use crate::cli::{Context, Failure, store};
use crate::grpc::convert;
use crate::model::User;
use crate::model::user::ADMIN;
use crate::proto::UpdateUserResponse;

#[derive(clap::Args)]
#[group(required = true, multiple = true)]
pub(in crate::cli) struct Changes {
    /// A new role; repeatable. The new roles replace all old ones except `admin`.
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,

    /// Add the role `admin`.
    #[arg(long, conflicts_with = "no_admin")]
    admin: bool,

    /// Remove the role `admin`, and revoke the user's sessions.
    #[arg(long)]
    no_admin: bool,

    /// A new e-mail address; empty for none.
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,

    /// A new display name; empty for none.
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,

    /// A new username.
    #[arg(long, value_name = "NAME")]
    username: Option<String>,

    /// New attributes, which access tokens carry under `ext`: a JSON object.
    #[arg(long, value_name = "JSON", value_parser = object)]
    attributes: Option<Map<String, Value>>,
}

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The username.
    name: String,
    #[command(flatten)]
    changes: Changes,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let user = store::user(&app, &args.name).await?;
    let (draft, mask) = args.changes.into_draft(&user);
    let id = user.id.to_string();
    // The new roles are computed from the row that was read. If the row has changed since, the update fails.
    let user = app
        .users
        .update(&Principal::owner(), &id, &draft, &mask, Some(user.updated))
        .await?;
    context.out.message(&UpdateUserResponse {
        user: Some(convert::user(user)),
    })
}

impl Changes {
    /// The draft and update mask for these changes of `user`.
    fn into_draft(self, user: &User) -> (UserDraft, Vec<String>) {
        let mut mask = Vec::new();
        let mut draft = UserDraft::default();
        if !self.role.is_empty() || self.admin || self.no_admin {
            mask.push("roles".to_owned());
            draft.roles = if self.role.is_empty() {
                user.roles.clone()
            } else {
                self.role
            };
            let admin =
                (user.is_admin() || self.admin || draft.roles.iter().any(|role| role == ADMIN)) && !self.no_admin;
            draft.roles.retain(|role| role != ADMIN);
            draft.roles.extend(admin.then(|| ADMIN.to_owned()));
        }
        let mut set = |name: &str, from: Option<String>, to: &mut String| {
            if let Some(value) = from {
                mask.push(name.to_owned());
                *to = value;
            }
        };
        set("email", self.email, &mut draft.email);
        set("display_name", self.display_name, &mut draft.display_name);
        set("username", self.username, &mut draft.username);
        if let Some(attributes) = self.attributes {
            mask.push("attributes".to_owned());
            draft.attributes = attributes;
        }
        (draft, mask)
    }
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|_| "must be a JSON object, for instance '{\"team\": \"red\"}'".to_owned())
}
