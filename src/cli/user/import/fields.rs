//! The fields of a row, whatever the format of the file.

use serde_json::{Map, Value};

use crate::account::UserDraft;
use crate::account::users::ImportRow;
use crate::model::{Error, Result};
use crate::secret::SecretText;

/// The member of `attributes` that holds the id which the user had in another system.
const LEGACY_ID: &str = "legacy_id";

/// The names of the fields, as messages list them.
pub(super) const NAMES: &str = "username, email, display_name, roles, attributes, disabled, password_hash, legacy_id";

/// The most unknown names in one message.
const MAX_NAMES: usize = 8;

/// The longest name that a message shows, in bytes. Hashes are longer.
const MAX_SHOWN: usize = 32;

/// A field of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Username,
    Email,
    DisplayName,
    Roles,
    Attributes,
    Disabled,
    PasswordHash,
    LegacyId,
}

impl Field {
    /// The field of this name, also in the camel case of proto3 JSON. `_id` is the primary key of MongoDB.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "username" => Some(Self::Username),
            "email" => Some(Self::Email),
            "display_name" | "displayName" => Some(Self::DisplayName),
            "roles" => Some(Self::Roles),
            "attributes" => Some(Self::Attributes),
            "disabled" => Some(Self::Disabled),
            "password_hash" | "passwordHash" => Some(Self::PasswordHash),
            "legacy_id" | "legacyId" | "_id" => Some(Self::LegacyId),
            _ => None,
        }
    }

    /// The name in messages: the path of the import RPC.
    const fn path(self) -> &'static str {
        match self {
            Self::Username => "user.username",
            Self::Email => "user.email",
            Self::DisplayName => "user.display_name",
            Self::Roles => "user.roles",
            Self::Attributes => "user.attributes",
            Self::Disabled => "user.disabled",
            Self::PasswordHash => "password_hash",
            Self::LegacyId => "user.attributes.legacy_id",
        }
    }

    fn must_be(self, kind: &'static str) -> Error {
        Error::invalid(self.path(), format!("must be {kind}"))
    }
}

/// The fields of a row, with the row that they make up so far.
#[derive(Default)]
pub(super) struct Fields {
    set: Vec<Field>,
    unknown: Vec<String>,
    user: UserDraft,
    password_hash: SecretText,
    legacy_id: String,
}

impl Fields {
    /// Sets a field, or notes that it is unknown.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if the value has the wrong type or the field is set already.
    pub(super) fn set(&mut self, name: &str, value: Value) -> Result<()> {
        let Some(field) = Field::named(name) else {
            self.unknown.push(name.to_owned());
            return Ok(());
        };
        if self.set.contains(&field) {
            return Err(Error::invalid(field.path(), "stands twice"));
        }
        self.set.push(field);
        if value.is_null() {
            return Ok(());
        }
        match field {
            Field::Username => self.user.username = text(field, value)?,
            Field::Email => self.user.email = text(field, value)?,
            Field::DisplayName => self.user.display_name = text(field, value)?,
            Field::Roles => self.user.roles = texts(field, value)?,
            Field::Attributes => {
                let Value::Object(attributes) = value else {
                    return Err(field.must_be("a JSON object"));
                };
                self.user.attributes = attributes;
            }
            Field::Disabled => self.user.disabled = value.as_bool().ok_or_else(|| field.must_be("true or false"))?,
            Field::PasswordHash => self.password_hash = SecretText::new(text(field, value)?),
            Field::LegacyId => {
                self.legacy_id = match value.as_number() {
                    Some(number) => number.to_string(),
                    None => text(field, value)?,
                }
            }
        }
        Ok(())
    }

    /// The row.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if a field is unknown: a field that is left out silently would be missed too late.
    pub(super) fn into_row(mut self) -> Result<ImportRow> {
        if !self.unknown.is_empty() {
            return Err(unknown(&self.unknown));
        }
        if !self.legacy_id.is_empty() {
            let legacy_id = std::mem::take(&mut self.legacy_id);
            let before = self.user.attributes.insert(LEGACY_ID.to_owned(), legacy_id.into());
            if before.is_some() {
                return Err(Error::invalid(Field::LegacyId.path(), "stands twice"));
            }
        }
        Ok(ImportRow {
            user: self.user,
            password_hash: self.password_hash,
        })
    }
}

/// What a message shows of a name in the file. In a file without a header, or with shifted columns, a hash or another secret
/// stands where a name should.
pub(super) fn shown(name: &str) -> &str {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || "_-. ".contains(letter);
    if (1..=MAX_SHOWN).contains(&name.len()) && name.chars().all(is_of_name) {
        name
    } else {
        "[no plain name, so not shown]"
    }
}

fn unknown(names: &[String]) -> Error {
    let shown = names.iter().take(MAX_NAMES).map(|name| shown(name));
    let mut field = shown.collect::<Vec<_>>().join(", ");
    if names.len() > MAX_NAMES {
        field = format!("{field} and {} more", names.len() - MAX_NAMES);
    }
    let hint = if names
        .iter()
        .any(|name| ["password", "passwd", "hash"].contains(&name.as_str()))
    {
        "; a hash belongs in password_hash"
    } else {
        ""
    };
    let problem =
        format!("not a field of an import: leave it out, or move it into attributes; the fields are {NAMES}{hint}");
    Error::invalid(field, problem)
}

/// Text without blanks around it: exports often have them at the end.
fn text(field: Field, value: Value) -> Result<String> {
    match value {
        Value::String(text) if text.trim().len() == text.len() => Ok(text),
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(field.must_be("text"))
        }
    }
}

fn texts(field: Field, value: Value) -> Result<Vec<String>> {
    let Value::Array(values) = value else {
        return Err(field.must_be("a list of texts"));
    };
    let each = values.into_iter().map(|value| text(field, value));
    each.collect::<Result<_>>()
        .map_err(|_| field.must_be("a list of texts"))
}

/// The columns of a table as values.
pub(super) fn value_of_text(name: &str, text: &str) -> Result<Value> {
    let text = text.trim();
    let list = |text: &str| {
        let values = text.split([' ', ',', ';']).filter(|value| !value.is_empty());
        values.map(Value::from).collect::<Vec<_>>()
    };
    Ok(match Field::named(name) {
        _ if text.is_empty() => Value::Null,
        Some(Field::Roles) => Value::Array(list(text)),
        Some(Field::Attributes) => {
            let attributes: Map<String, Value> =
                serde_json::from_str(text).map_err(|_| Field::Attributes.must_be("a JSON object"))?;
            Value::Object(attributes)
        }
        Some(Field::Disabled) => match text.to_ascii_lowercase().as_str() {
            "false" | "f" | "0" => Value::Bool(false),
            "true" | "t" | "1" => Value::Bool(true),
            _ => return Err(Field::Disabled.must_be("true or false")),
        },
        // `mongoexport --type=csv` prints its ids so.
        Some(Field::LegacyId) => {
            let id = text.strip_prefix("ObjectId(").and_then(|id| id.strip_suffix(')'));
            Value::from(id.unwrap_or(text))
        }
        Some(Field::Username | Field::Email | Field::DisplayName | Field::PasswordHash) | None => Value::from(text),
    })
}
