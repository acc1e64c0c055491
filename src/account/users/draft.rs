//! The user fields of a request, and their checks.

use serde_json::{Map, Value};

use crate::account::{Principal, check_update_mask, fields};
use crate::clock::UnixMillis;
use crate::model::user::ADMIN;
use crate::model::{Error, ErrorKind, Result, User, UserId};
use crate::store::accounts::{Authority, UserChange};

/// The paths that an update mask may name.
const PATHS: [&str; 5] = ["email", "display_name", "roles", "attributes", "username"];

/// The fields of the wire's `User` that a caller may set, not yet checked.
#[derive(Clone, Debug, Default)]
pub struct UserDraft {
    /// The name for logins: RFC 8265, at most 128 bytes.
    pub username: String,
    /// An e-mail address, or empty.
    pub email: String,
    /// At most 256 bytes; may be empty.
    pub display_name: String,
    /// At most 32 roles.
    pub roles: Vec<String>,
    /// At most 1 KiB as JSON.
    pub attributes: Map<String, Value>,
    /// Whether a new user is created disabled. An update ignores this field.
    pub disabled: bool,
}

impl UserDraft {
    /// Checks all fields and returns the user to create at `now`.
    pub(super) fn check(&self, id: UserId, now: UnixMillis) -> Result<User> {
        Ok(User {
            id,
            username: fields::username(&self.username, "user.username")?,
            email: self.email()?,
            display_name: self.display_name()?,
            roles: self.roles()?,
            attributes: self.attributes()?,
            disabled: self.disabled,
            created: now,
            updated: now,
            password_changed: now,
            last_login: None,
        })
    }

    /// Refuses the fields that open registration does not accept: roles, attributes and `disabled`.
    pub(super) fn check_registration(&self) -> Result<()> {
        let refused = [
            ("user.roles", !self.roles.is_empty()),
            ("user.attributes", !self.attributes.is_empty()),
            ("user.disabled", self.disabled),
        ];
        match refused.into_iter().find(|(_, set)| *set) {
            None => Ok(()),
            Some((field, _)) => Err(Error::invalid(field, "cannot be set by a registration")),
        }
    }

    /// Refuses the role `admin` unless the principal is an admin. The store checks this again, together with the roles in
    /// the row.
    pub(super) fn check_roles(&self, principal: &Principal) -> Result<()> {
        match (principal.authority(), self.admin_role_index()) {
            (Authority::Ordinary, Some(index)) => Err(Error::at(
                ErrorKind::CallerNotAllowed,
                format!("user.roles[{index}]"),
                "only an admin grants the role admin",
            )),
            (Authority::Admin | Authority::Ordinary, _) => Ok(()),
        }
    }

    /// The index of `admin` in the roles, if it is there.
    pub(super) fn admin_role_index(&self) -> Option<usize> {
        self.roles.iter().position(|role| role == ADMIN)
    }

    /// Checks the fields that `mask` names and returns their change.
    pub(super) fn change(&self, mask: &[String]) -> Result<UserChange> {
        check_update_mask(mask, &PATHS)?;
        let mut change = UserChange::default();
        for path in mask {
            match path.as_str() {
                "email" => change.email = Some(self.email()?),
                "display_name" => change.display_name = Some(self.display_name()?),
                "roles" => change.roles = Some(self.roles()?),
                "attributes" => change.attributes = Some(self.attributes()?),
                "username" => change.username = Some(fields::username(&self.username, "user.username")?),
                path => return Err(Error::internal(format!("the update mask path {path} is not handled"))),
            }
        }
        Ok(change)
    }

    fn email(&self) -> Result<String> {
        fields::email(&self.email, "user.email")
    }

    fn display_name(&self) -> Result<String> {
        fields::text(&self.display_name, "user.display_name")
    }

    fn roles(&self) -> Result<Vec<String>> {
        fields::roles(&self.roles, "user.roles")
    }

    fn attributes(&self) -> Result<Map<String, Value>> {
        fields::attributes(&self.attributes, "user.attributes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use uuid::Uuid;

    fn draft() -> UserDraft {
        UserDraft {
            username: "Ada".into(),
            email: "ada@example.org".into(),
            roles: vec!["staff".into(), "auditor".into()],
            disabled: true,
            ..UserDraft::default()
        }
    }

    type Mutation = fn(&mut UserDraft);

    #[test]
    fn every_field_is_checked_and_named() {
        let id = UserId(Uuid::from_u128(1));
        let user = draft().check(id, UnixMillis(7)).unwrap();
        assert_eq!((user.username.as_str(), user.disabled), ("ada", true));
        assert_eq!(user.roles, ["auditor", "staff"]);
        let cases: [(&str, Mutation); 6] = [
            ("user.username", |d| d.username = String::new()),
            ("user.username", |d| d.username = "a\0".into()),
            ("user.email", |d| d.email = "ada".into()),
            ("user.display_name", |d| d.display_name = "\u{1b}[2J".into()),
            ("user.roles[1]", |d| d.roles[1] = "a b".into()),
            ("user.attributes", |d| {
                d.attributes.insert("a".into(), json!("\0"));
            }),
        ];
        for (field, mutate) in cases {
            let mut draft = draft();
            mutate(&mut draft);
            let error = draft.check(id, UnixMillis(0)).unwrap_err();
            assert_eq!(error.violations[0].field, field, "{error}");
        }
    }

    #[test]
    fn only_the_fields_of_the_mask_are_changed() {
        let change = draft().change(&["email".into(), "attributes".into()]).unwrap();
        assert_eq!(change.email.as_deref(), Some("ada@example.org"));
        assert_eq!(
            change.attributes,
            Some(Map::new()),
            "an unset field that the mask names becomes empty"
        );
        assert!(change.username.is_none() && change.roles.is_none() && change.display_name.is_none());
        for mask in [
            vec![],
            vec!["disabled".into()],
            vec!["email".into(), "*".into()],
            vec!["user.email".into()],
        ] {
            let error = draft().change(&mask).unwrap_err();
            assert_eq!(error.violations[0].field, "update_mask", "{mask:?}");
        }
    }

    #[test]
    fn only_an_admin_grants_admin_and_a_registration_grants_no_roles() {
        use crate::account::principal::tests::machine;
        let mut draft = draft();
        draft.roles.push(ADMIN.into());
        assert!(draft.check_roles(&Principal::owner()).is_ok());
        let error = draft.check_roles(&machine(&["countersign:users"])).unwrap_err();
        assert_eq!(
            (error.kind, &*error.violations[0].field),
            (ErrorKind::CallerNotAllowed, "user.roles[2]")
        );
        assert_eq!(draft.check_registration().unwrap_err().kind, ErrorKind::InvalidRequest);
    }
}
