//! A user as a request describes them, and what of that is accepted.

use serde_json::{Map, Value};

use crate::account::{Principal, fields, unknown_path};
use crate::clock::UnixMillis;
use crate::model::user::ADMIN;
use crate::model::{Error, ErrorKind, Result, User, UserId};
use crate::store::accounts::{Authority, UserChange};

/// The paths that an update mask may name.
const PATHS: [&str; 5] = ["email", "display_name", "roles", "attributes", "username"];

/// A user as a request describes them: the fields of the wire's `User` that a caller may set.
#[derive(Clone, Debug, Default)]
pub struct UserDraft {
    /// The name they log in with; RFC 8265, at most 128 bytes.
    pub username: String,
    /// May be empty.
    pub email: String,
    /// May be empty; at most 256 bytes.
    pub display_name: String,
    /// At most 32.
    pub roles: Vec<String>,
    /// At most 1 KiB as JSON.
    pub attributes: Map<String, Value>,
    /// Of a user to be made: whether they cannot log in yet. An update leaves it as it is.
    pub disabled: bool,
}

impl UserDraft {
    /// The user to be made at `now`.
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

    /// Open registration accepts a name, an e-mail, a display name and a password, and nothing that gives rights.
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

    /// The role `admin` is given by an admin only. The store checks it again, and what the row holds.
    pub(super) fn check_roles(&self, principal: &Principal) -> Result<()> {
        match (principal.authority(), self.admin_at()) {
            (Authority::Ordinary, Some(index)) => Err(Error::at(
                ErrorKind::CallerNotAllowed,
                format!("user.roles[{index}]"),
                "only an admin grants the role admin",
            )),
            (Authority::Admin | Authority::Ordinary, _) => Ok(()),
        }
    }

    /// Where among the roles `admin` stands, if it does.
    pub(super) fn admin_at(&self) -> Option<usize> {
        self.roles.iter().position(|role| role == ADMIN)
    }

    /// The change of the fields that `mask` names.
    pub(super) fn change(&self, mask: &[String]) -> Result<UserChange> {
        unknown_path(mask, &PATHS)?;
        let mut change = UserChange::default();
        for path in mask {
            match path.as_str() {
                "email" => change.email = Some(self.email()?),
                "display_name" => change.display_name = Some(self.display_name()?),
                "roles" => change.roles = Some(self.roles()?),
                "attributes" => change.attributes = Some(self.attributes()?),
                "username" => change.username = Some(fields::username(&self.username, "user.username")?),
                path => return Err(Error::internal(format!("no rule for the path {path}"))),
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

    type Spoil = fn(&mut UserDraft);

    #[test]
    fn every_field_is_checked_and_named() {
        let id = UserId(Uuid::from_u128(1));
        let user = draft().check(id, UnixMillis(7)).unwrap();
        assert_eq!((user.username.as_str(), user.disabled), ("ada", true));
        assert_eq!(user.roles, ["auditor", "staff"]);
        let cases: [(&str, Spoil); 6] = [
            ("user.username", |d| d.username = String::new()),
            ("user.username", |d| d.username = "a\0".into()),
            ("user.email", |d| d.email = "ada".into()),
            ("user.display_name", |d| d.display_name = "\u{1b}[2J".into()),
            ("user.roles[1]", |d| d.roles[1] = "a b".into()),
            ("user.attributes", |d| {
                d.attributes.insert("a".into(), json!("\0"));
            }),
        ];
        for (field, spoil) in cases {
            let mut draft = draft();
            spoil(&mut draft);
            let error = draft.check(id, UnixMillis(0)).unwrap_err();
            assert_eq!(error.violations[0].field, field, "{error}");
        }
    }

    #[test]
    fn a_mask_changes_what_it_names_and_nothing_else() {
        let change = draft().change(&["email".into(), "attributes".into()]).unwrap();
        assert_eq!(change.email.as_deref(), Some("ada@example.org"));
        assert_eq!(
            change.attributes,
            Some(Map::new()),
            "a named field that is unset is made empty"
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
    fn only_an_admin_grants_admin_and_nobody_registers_with_rights() {
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
