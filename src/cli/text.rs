//! Messages as text: one line for each field, or a table.

use prost_reflect::{EnumDescriptor, Kind, MessageDescriptor};
use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

use crate::model::text::is_unprintable;

/// The fields of a message, in the order of its proto file.
pub(super) enum FieldTree {
    Leaf(String),
    Branch(Vec<(String, FieldTree)>),
}

impl FieldTree {
    /// Reads the proto3 JSON of a message, and names its fields as the proto file does; without a descriptor, any JSON.
    pub(super) fn of(value: &Value, descriptor: Option<&MessageDescriptor>) -> Self {
        let Value::Object(map) = value else {
            return Self::Leaf(cell(value));
        };
        let Some(descriptor) = descriptor else {
            let fields = map.iter().map(|(name, value)| (printable(name), Self::of(value, None)));
            return Self::Branch(fields.collect());
        };
        let present = descriptor.fields().filter_map(|field| {
            let tree = Self::of_field(map.get(field.json_name())?, &field.kind());
            Some((field.name().to_owned(), tree))
        });
        Self::Branch(present.collect())
    }

    fn of_field(value: &Value, kind: &Kind) -> Self {
        if let Kind::Enum(names) = kind {
            return Self::Leaf(enum_name(value, names));
        }
        let inner = kind.as_message().filter(|message| !is_well_known(message));
        Self::of(value, inner)
    }

    /// The value at this path (`context.device_name`); empty if there is none.
    pub(super) fn at(&self, path: &str) -> String {
        let found = path.split('.').try_fold(self, |tree, name| match tree {
            Self::Leaf(_) => None,
            Self::Branch(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, tree)| tree),
        });
        match found {
            Some(Self::Leaf(text)) => text.clone(),
            Some(branch @ Self::Branch(_)) => branch.line(),
            None => String::new(),
        }
    }

    /// One line for each field: its name, then its value. Empty fields are left out. If the message has a single field that
    /// is a message, the name of that field is left out too.
    pub(super) fn lines(&self) -> String {
        if let Self::Branch(fields) = self
            && let [(_, inner @ Self::Branch(_))] = fields.as_slice()
        {
            return inner.lines();
        }
        let fields = self.leaves();
        let width = fields.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, value) in fields {
            text.extend([&name, " ".repeat(width + 2 - name.width()).as_str(), value, "\n"]);
        }
        text
    }

    /// All fields on one line.
    pub(super) fn line(&self) -> String {
        let fields: Vec<String> = self
            .leaves()
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        fields.join(" ")
    }

    fn leaves(&self) -> Vec<(String, &str)> {
        let mut found = Vec::new();
        self.collect("", &mut found);
        found
    }

    fn collect<'a>(&'a self, path: &str, found: &mut Vec<(String, &'a str)>) {
        match self {
            Self::Leaf(text) if text.is_empty() => {}
            Self::Leaf(text) => found.push((path.to_owned(), text)),
            Self::Branch(fields) => {
                for (name, tree) in fields {
                    let path = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    tree.collect(&path, found);
                }
            }
        }
    }
}

/// A table with a header and one line for each row. A column is a path; its header is the last part of the path.
pub(super) fn table(rows: &[FieldTree], columns: &[&str]) -> String {
    let header = |path: &&str| path.rsplit('.').next().unwrap_or(path).to_uppercase();
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(header).collect()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|path| row.at(path)).collect()));
    let width = |column: usize| lines.iter().map(|line| line[column].width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            row.push_str(cell);
            row.extend(std::iter::repeat_n(' ', width - cell.width() + 2));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// `text` on one line. Control characters, which a terminal would execute instead of show, are escaped.
pub(super) fn printable(text: &str) -> String {
    text.trim_end()
        .chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            match c {
                '\n' => out.push(' '),
                c if is_unprintable(c) => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
            out
        })
}

/// A value as text.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Object(_) => printable(&value.to_string()),
    }
}

/// The name of an enum value without the prefix of the enum; empty for the unspecified value.
fn enum_name(value: &Value, names: &EnumDescriptor) -> String {
    let zero = names.default_value();
    let prefix = zero.name().strip_suffix("UNSPECIFIED").unwrap_or_default();
    let text = cell(value);
    let bare = text.split(' ').map(|name| name.strip_prefix(prefix).unwrap_or(name));
    bare.filter(|name| *name != "UNSPECIFIED").collect::<Vec<_>>().join(" ")
}

/// Whether JSON writes the message as a value: timestamps, durations and structs.
fn is_well_known(message: &MessageDescriptor) -> bool {
    message.package_name() == "google.protobuf"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_aligned_and_empty_ones_left_out() {
        let value = json!({"active": true, "claims": {"scope": ["a", "b"], "subject": "s"}, "reason": "", "n": 0});
        let lines = FieldTree::of(&value, None).lines();
        assert_eq!(
            lines,
            "active          true\nclaims.scope    a b\nclaims.subject  s\nn               0\n"
        );
        assert_eq!(
            FieldTree::of(&json!({"user": {"name": "ada"}}), None).lines(),
            "name  ada\n"
        );
    }

    #[test]
    fn a_table_aligns_by_display_width_and_escapes_control_characters() {
        let rows = [
            json!({"name": "山田", "in": {"n": 1}}),
            json!({"name": "x\u{1b}[2J", "in": {"n": 2}}),
        ];
        let rows = rows.map(|row| FieldTree::of(&row, None));
        assert_eq!(
            table(&rows, &["name", "in.n"]),
            "NAME        N\n山田        1\nx\\u{1b}[2J  2\n"
        );
    }
}
