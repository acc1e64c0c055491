use rstest::rstest;
use serde_json::{Value, json};

use super::*;

type Read = (Vec<Result<ImportRow>>, Vec<u64>);

fn read(format: Option<FileFormat>, text: impl AsRef<[u8]>) -> Read {
    let mut rows = Rows::read(format, text.as_ref()).unwrap();
    let rows = std::iter::from_fn(|| rows.next_row().unwrap());
    let (lines, rows) = rows.unzip();
    (rows, lines)
}

fn only(text: impl AsRef<[u8]>) -> ImportRow {
    read(None, text).0.remove(0).unwrap()
}

/// The field and the message of a refused row.
fn refused(row: &Result<ImportRow>) -> (String, String) {
    let violation = row.as_ref().unwrap_err().violations[0].clone();
    (violation.field.into_owned(), violation.description.into_owned())
}

fn problem(format: Option<FileFormat>, text: impl AsRef<[u8]>) -> String {
    Rows::read(format, text.as_ref()).err().unwrap()
}

#[test]
fn json_rows_are_flat_or_like_the_rpc_and_know_their_line() {
    let text = concat!(
        "{\"username\":\"ada\",\"roles\":[\"a\"],\"disabled\":true,\"password_hash\":\"$2b$x\"}\n",
        "\n",
        "{\"user\":{\"username\":\"bob\",\"attributes\":{\"n\":1}},\"password_hash\":\"h\"}\n",
        "not json\n",
        "{\"username\":\"eve\",\"is_admin\":true}\n",
        "{\"username\":7}",
    );
    let (rows, lines) = read(Some(FileFormat::JsonLines), text);
    let ada = rows[0].as_ref().unwrap();
    assert_eq!((ada.user.username.as_str(), ada.user.disabled), ("ada", true));
    assert_eq!(ada.password_hash.expose(), "$2b$x");
    assert_eq!(rows[1].as_ref().unwrap().user.attributes["n"], 1);
    assert!(rows[2..].iter().all(Result::is_err));
    assert_eq!(lines, [1, 3, 4, 5, 6]);
    let camel = only(r#"{"user":{"username":"cyd","displayName":"C"},"passwordHash":"h"}"#);
    assert_eq!(
        (camel.user.display_name.as_str(), camel.password_hash.expose()),
        ("C", "h")
    );
}

#[test]
fn unknown_fields_are_named_and_nothing_is_dropped() {
    let many: Vec<String> = (0..20).map(|n| format!("\"x{n:02}\":1")).collect();
    let text = [
        r#"{"username":"ada","is_admin":true,"__v":0}"#,
        r#"{"user":{"username":"ada","createTime":1},"note":"x"}"#,
        r#"{"username":"ada","password":"$2b$secret"}"#,
        &format!("{{\"username\":\"ada\",{}}}", many.join(",")),
        r#"{"username":"ada","user":"x"}"#,
        r#"{"username":"ada","display_name":"a","displayName":"b"}"#,
        r#"{"username":"ada","_id":"1","attributes":{"legacy_id":"2"}}"#,
    ];
    let (rows, lines) = read(None, text.join("\n"));
    assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7]);
    let of: Vec<(String, String)> = rows.iter().map(refused).collect();
    let fields: Vec<&str> = of.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "__v, is_admin",
            "note, createTime",
            "password",
            "x00, x01, x02, x03, x04, x05, x06, x07 and 12 more",
            "user",
            "user.display_name",
            "user.attributes.legacy_id",
        ]
    );
    assert!(of[0].1.contains("the fields are username, email"), "{}", of[0].1);
    assert!(of[2].1.contains("belongs in password_hash"), "{}", of[2].1);
    assert!(!format!("{rows:?}").contains("secret"), "values are not shown");
}

/// A table without a header, or one with shifted columns, has hashes where names should be.
#[rstest]
#[case("$argon2id$v=19$m=64,t=1,p=1$R0lYTHowOXlJbTBHR3Fpb2hPaVc2Rw$FZPkSJGOWs72HOixJ0PtdF7owxKlmQRKw7oIqaIO9GE")]
#[case("AQAAAAIAAAPoAAAAEKOWJEZDtW3koWQrWsrllHA")]
#[case("$2b$04$.lKoSqyGIoBALe")]
fn a_hash_in_the_place_of_a_name_is_not_shown(#[case] hash: &str) {
    let of_table = problem(Some(FileFormat::Csv), format!("\"{hash}\",ada\n"));
    let (rows, _) = read(None, json!({ "username": "ada", hash: true }).to_string());
    let (field, message) = refused(&rows[0]);
    for text in [of_table, field, message] {
        assert!(!text.contains(&hash[10..]), "{text}");
    }
}

#[test]
fn lines_of_mongoexport_are_read() {
    let row = only(
        r#"{"_id":{"$oid":"65a1b2c3d4e5f60718293a4b"},"username":"ada","email":null,"roles":["staff"],"attributes":{
            "joined":{"$date":"2020-01-02T03:04:05Z"},"left":{"$date":{"$numberLong":"1577934245678"}},"n":{"$numberInt":"7"},
            "long":{"$numberLong":"9007199254740993"},"half":{"$numberDouble":"0.5"},"price":{"$numberDecimal":"1.10"},
            "uuid":{"$binary":{"base64":"AAECAwQFBgcICQoLDA0ODw==","subType":"04"}},"list":[{"$oid":"a"},null],
            "other":{"$timestamp":{"t":1,"i":2}},"two":{"$oid":"a","b":1}},"password_hash":"$2b$x"}"#
            .replace('\n', " "),
    );
    assert_eq!((row.user.username.as_str(), row.user.email.as_str()), ("ada", ""));
    assert_eq!(
        Value::Object(row.user.attributes),
        json!({
            "legacy_id": "65a1b2c3d4e5f60718293a4b",
            "joined": "2020-01-02T03:04:05Z", "left": "2020-01-02T03:04:05.678Z", "n": 7, "long": 9_007_199_254_740_993_i64,
            "half": 0.5, "price": "1.10", "uuid": "00010203-0405-0607-0809-0a0b0c0d0e0f", "list": ["a", null],
            "other": {"$timestamp": {"t": 1, "i": 2}}, "two": {"$oid": "a", "b": 1},
        })
    );
    for (id, expected) in [("17", "17"), ("\"u-17\"", "u-17"), ("{\"$numberLong\":\"17\"}", "17")] {
        let row = only(format!("{{\"username\":\"ada\",\"_id\":{id}}}"));
        assert_eq!(row.user.attributes["legacy_id"], expected);
    }
    let csv = only("_id,username\nObjectId(65a1b2c3d4e5f60718293a4b),ada\n");
    assert_eq!(csv.user.attributes["legacy_id"], "65a1b2c3d4e5f60718293a4b");
    let array = problem(None, "\n [{\"username\":\"ada\"}]");
    assert!(array.contains("--jsonArray"), "{array}");
}

#[rstest]
fn marks_and_blanks_around_values_do_not_count(
    #[values("", "\u{feff}")] mark: &str,
    #[values("\n", "\r\n")] end: &str,
) {
    let json = only(format!(
        "{mark}{{\"username\":\" ada\\t\",\"email\":\"a@b.c \",\"password_hash\":\" $2b$x\\r\\n\"}} {end}{end}"
    ));
    let csv = only(format!(
        "{mark}username, email ,\"password_hash\"{end} ada\t,a@b.c , $2b$x {end}{end}"
    ));
    for row in [json, csv] {
        assert_eq!((row.user.username.as_str(), row.user.email.as_str()), ("ada", "a@b.c"));
        assert_eq!(row.password_hash.expose(), "$2b$x");
    }
}

#[test]
fn a_file_in_utf_16_is_refused_as_a_whole() {
    let text = "\u{feff}{\"username\":\"ada\"}\n";
    for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let file: Vec<u8> = text.encode_utf16().flat_map(bytes).collect();
        assert!(problem(Some(FileFormat::JsonLines), &file).contains("UTF-16"));
    }
    assert!(problem(None, b"PK\x03\x04\xff\xfe\x00\n").contains("neither"));
    assert!(problem(None, "id;username\n1;ada\n").contains("commas"));
}

#[test]
fn a_line_that_is_too_long_is_refused_and_the_next_one_read() {
    let text = format!(
        "{{\"username\":\"{}\"}}\n{{\"username\":\"bob\"}}\n",
        "x".repeat(100_000)
    );
    let (rows, lines) = read(Some(FileFormat::JsonLines), text);
    assert_eq!(refused(&rows[0]), ("line".into(), "is longer than 65536 bytes".into()));
    assert_eq!(rows[1].as_ref().unwrap().user.username, "bob");
    assert_eq!(lines, [1, 2]);
}

#[test]
fn csv_has_a_header_with_known_columns() {
    let text = "username,roles,password_hash,disabled,attributes\nada,a b;c,$2b$x,1,\"{\"\"n\"\": 1}\"\nbob,,,maybe,\nshort\n\
                cyd,,,t,\n";
    let (rows, lines) = read(None, text);
    let ada = rows[0].as_ref().unwrap();
    assert_eq!(ada.user.roles, ["a", "b", "c"]);
    assert_eq!(ada.user.attributes["n"], 1);
    assert_eq!(refused(&rows[1]).0, "user.disabled");
    assert_eq!(refused(&rows[2]).0, "line");
    assert!(rows[3].as_ref().unwrap().user.disabled);
    assert_eq!(lines, [2, 3, 4, 5]);
    assert!(problem(Some(FileFormat::Csv), "username,is_admin\n").contains("is_admin"));
    assert!(problem(Some(FileFormat::Csv), "username,email,email\n").contains("twice"));
}

#[test]
fn a_file_that_cannot_be_read_further_ends_the_rows() {
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let head = "{\"username\":\"ada\"}\n".repeat(100);
    for (text, read_before) in [(head.as_str(), 100), ("username\nada\n", 1)] {
        let padded = format!("{text}{}", "\n".repeat(2_000));
        let input = io::BufReader::new(io::Read::chain(padded.as_bytes(), Broken));
        let mut rows = Rows::read(None, input).unwrap();
        for _ in 0..read_before {
            assert!(rows.next_row().unwrap().unwrap().1.is_ok());
        }
        assert!(rows.next_row().is_err());
    }
}

/// Input that counts how much of it was read.
struct Counted(u64);

impl std::io::Read for &mut Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        buffer.fill(b'x');
        self.0 += buffer.len() as u64;
        Ok(buffer.len())
    }
}

/// After a quotation mark without an end, a whole file would be one value.
#[test]
fn a_csv_record_without_an_end_is_not_read_to_the_end() {
    let mut endless = Counted(0);
    let input = std::io::Read::chain(&b"username,password_hash\nada,h\nbob,\""[..], &mut endless);
    let mut table = table::Table::read(input).unwrap();
    assert!(table.next_row().unwrap().is_some_and(|(_, row)| row.is_ok()));
    let error = table.next_row().err().unwrap().to_string();
    assert!(error.contains("64 KiB"), "{error}");
    assert!(endless.0 < 1024 * 1024, "{} bytes", endless.0);

    let mut header = Counted(0);
    assert!(table::Table::read(&mut header).is_err());
    let long = format!("username,display_name\n{}", "ada,x\n".repeat(100_000));
    assert_eq!(
        read(Some(FileFormat::Csv), long).0.len(),
        100_000,
        "only a record is limited"
    );
}
