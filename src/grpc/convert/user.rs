//! Users as messages.

use crate::account::UserDraft;
use crate::account::users::{ImportRow, Imported, RejectedRow};
use crate::model::{Result, User};
use crate::proto;
use crate::proto::convert::json::{to_object, to_struct};
use crate::proto::convert::time::timestamp;

/// Converts a user.
#[must_use]
pub fn user(user: User) -> proto::User {
    proto::User {
        user_id: user.id.to_string(),
        username: user.username.to_string(),
        email: user.email,
        display_name: user.display_name,
        roles: user.roles,
        disabled: user.disabled,
        create_time: Some(timestamp(user.created)),
        update_time: Some(timestamp(user.updated)),
        password_change_time: Some(timestamp(user.password_changed)),
        last_login_time: user.last_login.map(timestamp),
        attributes: Some(to_struct(&user.attributes)),
    }
}

/// The fields of a user that a caller may set.
pub fn user_draft(message: proto::User) -> Result<UserDraft> {
    let attributes = message.attributes.as_ref();
    let attributes = attributes
        .map(|object| to_object(object, "user.attributes"))
        .transpose()?;
    Ok(UserDraft {
        username: message.username,
        email: message.email,
        display_name: message.display_name,
        roles: message.roles,
        attributes: attributes.unwrap_or_default(),
        disabled: message.disabled,
    })
}

/// Converts one user of an import.
pub fn import_row(message: proto::ImportUsersRequest) -> Result<ImportRow> {
    Ok(ImportRow {
        user: user_draft(super::required(message.user, "user")?)?,
        password_hash: message.password_hash.into(),
    })
}

/// Converts the result of an import.
#[must_use]
pub fn imported(done: Imported) -> proto::ImportUsersResponse {
    let rejected = |RejectedRow { index, field, message }| proto::ImportError { index, field, message };
    proto::ImportUsersResponse {
        imported: done.imported,
        rejected: done.rejected.into_iter().map(rejected).collect(),
    }
}
