//! The rules for page tokens, and for resume tokens of both databases.
//!
//! The first byte of an input gives its kind.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use countersign::account::paging::ListQuery;
use countersign::clock::UnixMillis;
use countersign::model::audit::Origin;
use countersign::model::{AuditEvent, AuditType, ErrorKind, Revocation, SessionId, Target as Revoked};
use countersign::secret::SystemEntropy;
use countersign::store::postgres::FeedPosition;
use countersign::store::sqlite::Database;
use countersign::store::{Changes, Cursor, Expiry, NewRevocation, RevocationStore as _};
use uuid::Uuid;

use super::clock::StoppedClock;
use super::input::split;
use super::runtime::done;
use super::target::Target;

/// The properties of page and resume tokens.
pub(crate) const TARGET: Target = Target {
    name: "tokens",
    inputs: 20_000,
    seeds,
    check,
};

/// A page token as received.
const PAGE: u8 = 0;
/// A query and a position, of which the test makes the page token.
const POSITION: u8 = 1;
const POSTGRES: u8 = 2;
const SQLITE: u8 = 3;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const REVOCATIONS: u128 = 3;

static QUERY: LazyLock<ListQuery> = LazyLock::new(|| ListQuery::new("users", &["ada", ""]));

/// A database with some revocations, all of them, and its resume token.
struct Feed {
    database: Database,
    rows: Vec<Revocation>,
    cursor: String,
}

static FEED: LazyLock<Feed> = LazyLock::new(|| {
    let database = Database::in_memory(Arc::new(StoppedClock(NOW))).unwrap();
    for id in 1..=REVOCATIONS {
        let new = NewRevocation {
            target: Revoked::Session(SessionId(Uuid::from_u128(id))),
            expires: Expiry::At(NOW.plus(Duration::from_hours(1))),
        };
        let event = AuditEvent::new(AuditType::SessionRevoked, &id, &Origin::cli(), NOW, &SystemEntropy);
        done(database.revoke(&new, &event)).unwrap();
    }
    let snapshot = done(database.load_revocations(UnixMillis(0))).unwrap();
    Feed {
        database,
        rows: snapshot.rows,
        cursor: snapshot.cursor.0,
    }
});

fn seeds() -> Vec<Vec<u8>> {
    let id = "0190b6a8-1111-7000-8000-000000000000";
    let mut seeds = vec![
        [&[PAGE], QUERY.page_token(id).as_bytes()].concat(),
        [&[POSITION], &b"users\xff"[..], id.as_bytes()].concat(),
        [&[SQLITE], FEED.cursor.as_bytes()].concat(),
        [&[SQLITE], FEED.cursor.replace(".3", ".1").as_bytes()].concat(),
    ];
    for cursor in [
        "p1.7398127398127391.0000000A.5.10:20:10,14,19",
        "p1.7398127398127391.s1800000000000000.5.20:20:",
        "p1.0.00000001.5.18446744073709551614:18446744073709551615:18446744073709551614",
    ] {
        seeds.push([&[POSTGRES], cursor.as_bytes()].concat());
    }
    seeds
}

/// Checks the rules for one input. Returns whether it was accepted.
fn check(input: &[u8]) -> bool {
    let (kind, rest) = input.split_first().unwrap_or((&PAGE, &[]));
    if *kind == POSITION {
        return position(rest);
    }
    let Ok(text) = std::str::from_utf8(rest) else {
        return false;
    };
    match *kind {
        POSTGRES => postgres(text),
        SQLITE => sqlite(text),
        _ => page(text),
    }
}

/// The only token that is accepted is the one that the service makes for the position.
fn page(token: &str) -> bool {
    match QUERY.page_key::<String>(token) {
        Ok(Some(key)) => {
            assert_eq!(QUERY.page_token(&key), token, "another spelling");
            let other = ListQuery::new("users", &["", "ada"]);
            assert!(other.page_key::<String>(token).is_err(), "a token of another query");
            true
        }
        Ok(None) => {
            assert!(token.is_empty());
            true
        }
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::PageTokenInvalid);
            assert!(!token.is_empty());
            false
        }
    }
}

fn position(input: &[u8]) -> bool {
    let (list, key) = split(input);
    let (Ok(list), Ok(key)) = (std::str::from_utf8(list), std::str::from_utf8(key)) else {
        return false;
    };
    let token = ListQuery::new(list, &[]).page_token(key);
    assert!(
        token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    );
    let read = ListQuery::new(list, &[]).page_key::<String>(&token);
    // Positions are ids and names, which are far shorter than the limit.
    if token.len() <= 512 {
        assert_eq!(read.unwrap().as_deref(), Some(key));
    } else {
        assert_eq!(read.unwrap_err().kind, ErrorKind::PageTokenInvalid);
    }
    let with_parameter = ListQuery::new(list, &[""]);
    assert!(
        with_parameter.page_key::<String>(&token).is_err(),
        "a token of another query"
    );
    page(&token);
    true
}

fn postgres(text: &str) -> bool {
    match FeedPosition::parse(&Cursor(text.to_owned())) {
        Ok(position) => {
            assert_eq!(position.to_string(), text, "another spelling");
            true
        }
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::ResumeTokenInvalid);
            false
        }
    }
}

/// The store returns every revocation after the position, or says that the caller must load them all.
fn sqlite(text: &str) -> bool {
    let feed = &*FEED;
    let changes = match done(feed.database.revocations_since(&Cursor(text.to_owned()))) {
        Ok(changes) => changes,
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::ResumeTokenInvalid);
            return false;
        }
    };
    // The instance and the number of the last revocation that was seen.
    let (instance, seen) = text.rsplit_once('.').unwrap();
    let seen: usize = seen.parse().unwrap();
    match changes {
        Changes::Since(snapshot) => {
            assert!(feed.cursor.starts_with(instance), "a position of another database");
            assert_eq!(snapshot.rows, feed.rows[seen..], "revocations are missing");
            assert_eq!(snapshot.cursor.0, feed.cursor);
        }
        Changes::Reload(_) => {
            let is_known = feed.cursor.starts_with(&format!("{instance}.")) && seen <= feed.rows.len();
            assert!(!is_known, "a known position");
        }
    }
    true
}
