//! The embedded store: its folder, its database and its master key.

use super::{Broken, CANARY, Refuses, Starts, embedded, folder_with, mode, used};

#[test]
#[expect(clippy::too_many_lines, reason = "a table of set-ups")]
fn faults_of_an_embedded_store_are_named_with_their_cure() {
    let open_file = used();
    mode(&open_file.data().join("countersign.db"), 0o644);

    let no_key = used();
    std::fs::remove_file(no_key.data().join("master.key")).unwrap();

    let other_key = used();
    std::fs::write(
        other_key.data().join("master.key"),
        "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3I=\n",
    )
    .unwrap();

    let no_text = used();
    std::fs::write(no_text.data().join("master.key"), format!("{CANARY}\n")).unwrap();

    let tampered = used();
    let connection = rusqlite::Connection::open(tampered.data().join("countersign.db")).unwrap();
    let changed = connection.execute(
        "UPDATE signing_keys SET sealed = zeroblob(80) WHERE state = 'active'",
        [],
    );
    assert_eq!(changed.unwrap(), 1);
    drop(connection);

    let foreign = folder_with(|folder| {
        let connection = rusqlite::Connection::open(folder.join("countersign.db")).unwrap();
        connection.execute_batch("CREATE TABLE notes (text)").unwrap();
    });
    let damaged = folder_with(|folder| std::fs::write(folder.join("countersign.db"), "x".repeat(9000)).unwrap());
    let file = embedded();
    std::fs::write(file.data(), "").unwrap();
    let shared = folder_with(|folder| {
        std::fs::write(folder.join("notes.txt"), "").unwrap();
        mode(folder, 0o755);
    });

    for broken in [
        Broken {
            name: "the database is open to other users",
            storage: open_file,
            check: ("data folder", "FAILED"),
            code: 1,
            says: &["is open to other users", "chmod 0600"],
            // It closes the file.
            serve: Starts,
        },
        Broken {
            name: "the file of the master key is gone",
            storage: no_key,
            check: ("master key", "MISCONFIGURED"),
            code: 64,
            says: &["keys.master_key is missing", "restore"],
            serve: Refuses(64, "master.key is missing"),
        },
        Broken {
            name: "the master key is another one",
            storage: other_key,
            check: ("master key", "MISCONFIGURED"),
            code: 64,
            says: &["not the master key that sealed", "configure that key"],
            serve: Refuses(64, "not the master key that sealed"),
        },
        Broken {
            name: "the file of the master key is no key",
            storage: no_text,
            check: ("master key", "MISCONFIGURED"),
            code: 64,
            says: &["keys.master_key", "32 bytes"],
            serve: Refuses(64, "32 bytes"),
        },
        Broken {
            name: "a row of a signing key was changed",
            storage: tampered,
            check: ("key ring", "FAILED"),
            code: 1,
            says: &["the sealed text was changed", "not used"],
            // It makes another key sign.
            serve: Starts,
        },
        Broken {
            name: "the database is of another program",
            storage: foreign,
            check: ("database", "UNREACHABLE"),
            code: 69,
            says: &["countersign.db is not one of this program", "storage.data_dir"],
            serve: Refuses(69, "is not one of this program"),
        },
        Broken {
            name: "the database is damaged",
            storage: damaged,
            check: ("database", "UNREACHABLE"),
            code: 69,
            says: &["countersign.db", "is damaged", "restore a backup"],
            serve: Refuses(69, "is damaged"),
        },
        Broken {
            name: "the data folder is a file",
            storage: file,
            check: ("data folder", "UNREACHABLE"),
            code: 69,
            says: &["is not a folder", "storage.data_dir"],
            serve: Refuses(69, "is not a folder"),
        },
        Broken {
            name: "the data folder is that of other files",
            storage: shared,
            check: ("data folder", "UNREACHABLE"),
            code: 69,
            says: &["holds other files (notes.txt)", "choose a folder of its own"],
            serve: Refuses(69, "holds other files"),
        },
    ] {
        broken.check();
    }
}
