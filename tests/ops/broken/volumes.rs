//! Data folders on volumes, whose owners and modes a container does not choose.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;

use super::{Broken, Refuses, embedded, mode};
use crate::support::serve::Storage;

/// The folder of a binary that every user may run: that of the build may be closed to them.
fn runnable_by_all(storage: &Storage) -> PathBuf {
    let folder = crate::support::guard::scratch("bin");
    let path = folder.join("countersign");
    std::fs::copy(storage.command().get_program(), &path).unwrap();
    mode(&path, 0o755);
    mode(&folder, 0o755);
    path
}

/// A data folder on a volume, as Kubernetes and Docker mount it. Another user than root runs the service, so this needs
/// root; otherwise the rest of the tests must do.
#[test]
fn volumes_are_used_with_the_owners_and_modes_they_have() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("not root: a volume of another owner cannot be made");
        return;
    }
    let user = nix::unistd::User::from_name("postgres")
        .unwrap()
        .expect("the user `postgres` exists");
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    let base = embedded();
    let binary = runnable_by_all(&base);
    let volume = |owner: u32, bits: u32| {
        let storage = embedded().with_binary(binary.to_str().unwrap()).run_as(uid, gid);
        mode(storage.folder(), 0o755);
        std::fs::create_dir(storage.data()).unwrap();
        // ext4 makes this in the root of a volume.
        std::fs::create_dir(storage.data().join("lost+found")).unwrap();
        mode(&storage.data().join("lost+found"), 0o700);
        chown(storage.data(), Some(owner), Some(gid)).unwrap();
        mode(&storage.data(), bits);
        storage
    };
    let bits = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;

    // `fsGroup`: the volume belongs to root and the group of the container, and its files are opened to that group.
    let grouped = volume(0, 0o2770);
    assert_eq!(grouped.serve(&[]).stop().code(), Some(0));
    for name in ["countersign.db", "master.key"] {
        mode(&grouped.data().join(name), 0o660);
    }
    let server = grouped.serve(&[]);
    assert!(server.log().contains("belongs to root"), "{}", server.log());
    assert_eq!(server.stop().code(), Some(0));
    for name in ["countersign.db", "master.key"] {
        assert_eq!(bits(grouped.data().join(name)), 0o600, "{name}");
    }
    let done = grouped.run(&["doctor"]).finish();
    assert_eq!(done.code(), Some(0), "{}", done.stdout);
    assert!(done.stdout.contains("belongs to root"), "{}", done.stdout);

    // A folder of the service's own user is closed.
    let own = volume(uid, 0o775);
    assert_eq!(own.serve(&[]).stop().code(), Some(0));
    assert_eq!(bits(own.data()), 0o700);

    let foreign = volume(12_345, 0o777);
    let closed = volume(0, 0o755);
    let restored = volume(uid, 0o700);
    assert_eq!(restored.serve(&[]).stop().code(), Some(0));
    chown(restored.data().join("countersign.db"), Some(0), Some(0)).unwrap();
    let key = volume(uid, 0o700);
    assert_eq!(key.serve(&[]).stop().code(), Some(0));
    chown(key.data().join("master.key"), Some(0), Some(gid)).unwrap();
    mode(&key.data().join("master.key"), 0o640);
    for broken in [
        Broken {
            name: "the folder belongs to another user",
            storage: foreign,
            check: ("data folder", "UNREACHABLE"),
            code: 69,
            says: &["belongs to user 12345 with mode 0777", "chown -R"],
            serve: Refuses(69, "belongs to user 12345"),
        },
        Broken {
            name: "the folder of root is closed to the service",
            storage: closed,
            check: ("data folder", "UNREACHABLE"),
            code: 69,
            says: &["belongs to user 0 with mode 0755", "chown -R"],
            serve: Refuses(69, "belongs to user 0"),
        },
        Broken {
            name: "the database was restored as root",
            storage: restored,
            check: ("data folder", "UNREACHABLE"),
            code: 69,
            says: &["countersign.db belongs to user 0", "chown -R"],
            serve: Refuses(69, "countersign.db belongs to user 0"),
        },
        Broken {
            name: "the master key is open and belongs to root",
            storage: key,
            check: ("data folder", "FAILED"),
            code: 1,
            says: &["master.key is open to other users", "chmod 0600"],
            serve: Refuses(69, "master.key holds the master key"),
        },
    ] {
        broken.check();
    }
}
