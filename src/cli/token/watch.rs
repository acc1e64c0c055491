//! `token watch`: prints revocations as they happen.

use super::connect::Caller;
use crate::cli::{Context, Failure};
use crate::proto::WatchRevocationsRequest;
use crate::proto::watch_revocations_response::Message;

pub(super) async fn run(context: &Context, caller: &Caller) -> Result<(), Failure> {
    let mut service = caller.connect().await?;
    let mut stream = service
        .watch_revocations(WatchRevocationsRequest::default())
        .await?
        .into_inner();
    while let Some(item) = stream.message().await? {
        // As text, the heartbeat of each second would hide the revocations.
        let is_heartbeat = matches!(item.message, Some(Message::Heartbeat(_)));
        if context.out.is_json() || !is_heartbeat {
            context.out.item(&item)?;
        }
    }
    Err(Failure::unreachable(
        "the server ended the stream; run the command again to continue",
    ))
}
