//! The rules for the files of `user import`.
//!
//! The first byte of an input gives the format, or that the content tells it.

use std::io::Cursor;

use countersign::account::users::ImportRow;
use countersign::cli::{FileFormat, Rows};
use serde_json::{Value, json};

use super::input::assert_hidden;
use super::target::Target;

/// The properties of imported users.
pub(crate) const TARGET: Target = Target {
    name: "import",
    inputs: 20_000,
    seeds,
    check,
};

const JSON_LINES: u8 = 0;
const CSV: u8 = 1;
const BY_CONTENT: u8 = 2;

fn seeds() -> Vec<Vec<u8>> {
    let hash = "$argon2id$v=19$m=64,t=1,p=1$R0lYTHowOXlJbTBHR3Fpb2hPaVc2Rw$FZPkSJGOWs72HOixJ0PtdF7owxKlmQRKw7oIqaIO9GE";
    let identity = "AQAAAAIAAAPoAAAAEKOWJEZDtW3koWQrWsrllHA+USuDnX9ANPQ8wizutdePlu3lBldo9LKxOQAxy5eR9w==";
    let line = json!({"username": "ada", "email": "ada@example.org", "display_name": "Ada", "roles": ["admin", "dev"],
        "attributes": {"team": {"name": "x", "size": 3}}, "disabled": false, "password_hash": hash, "legacy_id": 7});
    let nested = json!({"user": {"username": "bob"}, "passwordHash": identity});
    let mongo =
        r#"{"_id":{"$oid":"5f1a"},"username":"eve","attributes":{"since":{"$date":{"$numberLong":"1600000000000"}},
        "u":{"$uuid":"0190b6a8-1111-7000-8000-000000000000"},"b":{"$binary":{"base64":"AAAA","subType":"00"}},
        "n":{"$numberDouble":"NaN"},"d":{"$numberDecimal":"1.5"}}}"#
            .replace('\n', "");
    let table = format!(
        "username,roles,disabled,password_hash,attributes,_id\nada,\"admin dev\",f,\"{hash}\",\"{{\"\"a\"\":1}}\",ObjectId(5f1a)\nbob,,,,,\n"
    );
    let with = |format: u8, text: &str| [&[format], text.as_bytes()].concat();
    vec![
        with(JSON_LINES, &format!("{line}\n{nested}\n")),
        with(JSON_LINES, &format!("{mongo}\n\n{line}")),
        with(CSV, &table),
        with(BY_CONTENT, &format!("\u{feff}{table}")),
        with(BY_CONTENT, &format!("[{line}]")),
        // A table without a header.
        with(CSV, &format!("{hash},ada\n")),
        with(CSV, &format!("{identity},ada\n")),
        with(JSON_LINES, &json!({identity: "ada"}).to_string()),
    ]
}

/// Checks the rules for one input. Returns whether a row was accepted.
fn check(input: &[u8]) -> bool {
    let Some((kind, file)) = input.split_first() else {
        return false;
    };
    let format = match *kind {
        JSON_LINES => Some(FileFormat::JsonLines),
        CSV => Some(FileFormat::Csv),
        _ => None,
    };
    let mut rows = match Rows::read(format, Cursor::new(file)) {
        Ok(rows) => rows,
        Err(problem) => {
            assert_hidden(&problem, file);
            return false;
        }
    };
    let lines = 1 + file.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    let (mut count, mut accepted, mut before) = (0, false, 0);
    loop {
        let (line, row) = match rows.next_row() {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(error) => {
                assert_hidden(&error.to_string(), file);
                break;
            }
        };
        count += 1;
        assert!(count <= lines, "{count} rows in {lines} lines");
        assert!(line >= before, "line {line} after {before}");
        before = line;
        match row {
            Ok(row) => {
                accepted = true;
                comes_back(&row);
            }
            Err(error) => assert_hidden(&error.to_string(), file),
        }
    }
    accepted
}

/// A row that is written as a line of JSON is read as the same row.
fn comes_back(row: &ImportRow) {
    let user = &row.user;
    // The types of MongoDB are changed, and numbers with a fraction may be rounded.
    let attributes = Value::Object(user.attributes.clone());
    let attributes = if is_plain(&attributes) { attributes } else { json!({}) };
    let line = json!({
        "username": user.username, "email": user.email, "display_name": user.display_name, "roles": user.roles,
        "attributes": attributes, "disabled": user.disabled, "password_hash": row.password_hash.expose(),
    })
    .to_string();
    if line.len() > 64 * 1024 {
        return;
    }
    let mut rows = Rows::read(Some(FileFormat::JsonLines), Cursor::new(line.as_bytes())).unwrap();
    let again = rows.next_row().unwrap().unwrap().1.unwrap();
    let fields = |user: &countersign::account::UserDraft| {
        let names = [&user.username, &user.email, &user.display_name].map(Clone::clone);
        (names, user.roles.clone(), user.disabled)
    };
    assert_eq!(fields(&again.user), fields(user));
    assert_eq!(again.password_hash.expose(), row.password_hash.expose());
    assert_eq!(Value::Object(again.user.attributes), attributes);
    assert!(rows.next_row().unwrap().is_none());
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => !number.is_f64(),
        Value::Array(values) => values.iter().all(is_plain),
        Value::Object(members) => members
            .iter()
            .all(|(name, value)| !name.starts_with('$') && is_plain(value)),
    }
}
