//! `token watch`: the revocations, as they happen.

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
        // A beat each second is news to a machine only.
        let beat = matches!(item.message, Some(Message::Heartbeat(_)));
        if context.out.is_json() || !beat {
            context.out.item(&item)?;
        }
    }
    Err(Failure::unreachable(
        "the server ended the stream; run it again to go on",
    ))
}
