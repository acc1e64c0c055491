//! `user list`.

use crate::account::Principal;
use crate::cli::{Context, Failure, store};
use crate::grpc::convert;
use crate::proto::ListUsersResponse;

const PAGE_SIZE: i32 = 1000;

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Only users whose username or e-mail address starts with this text.
    #[arg(default_value = "", hide_default_value = true)]
    query: String,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let (owner, mut users, mut token) = (Principal::owner(), Vec::new(), String::new());
    loop {
        let page = app.users.list(&owner, PAGE_SIZE, &token, &args.query).await?;
        users.extend(page.items.into_iter().map(convert::user));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let all = ListUsersResponse {
        users,
        next_page_token: token,
    };
    context.out.list(
        &all,
        "users",
        &["username", "user_id", "email", "roles", "disabled", "last_login_time"],
    )
}
