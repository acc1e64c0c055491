//! Sessions as messages.

use crate::model::SessionContext;
use crate::model::session::SessionView;
use crate::proto;
use crate::proto::convert::time::timestamp;

/// Converts a session.
#[must_use]
pub fn session(session: SessionView) -> proto::Session {
    let SessionContext {
        user_agent,
        ip_address,
        device_name,
    } = session.context;
    proto::Session {
        session_id: session.id.to_string(),
        client_id: session.client.to_string(),
        create_time: Some(timestamp(session.created)),
        refresh_time: Some(timestamp(session.refreshed)),
        expire_time: Some(timestamp(session.expires)),
        context: Some(proto::SessionContext {
            user_agent,
            ip_address,
            device_name,
        }),
        scope: session.scope,
    }
}

/// Converts the context of a login, as its caller reports it.
#[must_use]
pub fn context(message: Option<proto::SessionContext>) -> SessionContext {
    let proto::SessionContext {
        user_agent,
        ip_address,
        device_name,
    } = message.unwrap_or_default();
    SessionContext {
        user_agent,
        ip_address,
        device_name,
    }
}
