//! The checks of files: certificates, and the permissions of keys and data.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use super::{Findings, State};
use crate::config;
use crate::listener::{TlsFiles, Validity};
use crate::store::sqlite::Database;

/// A certificate that expires within this time should have been replaced.
const SOON: Duration = Duration::from_hours(14 * 24);

pub(super) fn certificates(tls: &config::Tls, found: &mut Findings) {
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        found.good("certificate", "none is configured: connections are not encrypted");
        return;
    };
    let files = TlsFiles {
        cert: cert.clone(),
        key: key.clone(),
        client_ca: tls.client_ca.clone(),
    };
    let read = files.read().and_then(|material| {
        material.config(b"h2")?;
        Ok((material.validity()?, material.client_ca_validity()?))
    });
    match read {
        Err(problem) => found.add("certificate", State::Misconfigured, problem),
        Ok((own, ca)) => {
            validity("certificate", cert, own, found);
            if let (Some(path), Some(ca)) = (&tls.client_ca, ca) {
                validity("client CA", path, ca, found);
            }
        }
    }
    let others = std::fs::metadata(key).map(|metadata| metadata.permissions().mode() & 0o007);
    if others.is_ok_and(|mode| mode != 0) {
        let message = format!("{0} is open to other users (chmod o= {0})", key.display());
        found.add("private key", State::Doubtful, message);
    }
}

fn validity(about: &'static str, path: &Path, validity: Validity, found: &mut Findings) {
    let (now, path) = (found.clock.now(), path.display());
    let days = validity.until.since(now).as_secs() / 86_400;
    if now > validity.until {
        found.add(about, State::Bad, format!("{path} has expired: replace it and its key"));
    } else if now < validity.from {
        found.add(about, State::Bad, format!("{path} is not valid yet"));
    } else if validity.until.since(now) < SOON {
        found.add(about, State::Doubtful, format!("{path} expires in {days} days"));
    } else {
        found.good(about, format!("{path} is valid for {days} days"));
    }
}

/// Checks that the folder has mode 0700, that its files have mode 0600, and that it belongs to this user.
pub(super) fn data_folder(folder: &Path, found: &mut Findings) {
    const ABOUT: &str = "data folder";
    let path = folder.display();
    let metadata = match std::fs::metadata(folder) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            found.good(
                ABOUT,
                format!("{path} does not exist yet: the first `serve` creates it"),
            );
            return;
        }
        Err(error) => {
            found.add(ABOUT, State::Unreachable, format!("{path}: {error}"));
            return;
        }
    };
    if let Err(error) = Database::examine_folder(folder) {
        found.add(ABOUT, State::Unreachable, error.to_string());
        return;
    }
    let before = found.list.len();
    let own = nix::unistd::geteuid().as_raw();
    let is_ours = metadata.uid() == own;
    if metadata.permissions().mode() & 0o077 != 0 {
        let (state, cure) = if is_ours || own == 0 {
            (State::Bad, format!("(chmod 0700 {path})"))
        } else {
            // Such is a volume of Kubernetes with `fsGroup`.
            let cure = format!("and belongs to root: only its files are closed (chown {own} {path} closes it too)");
            (State::Doubtful, cure)
        };
        found.add(ABOUT, state, format!("{path} is open to other users {cure}"));
    } else if !is_ours {
        let owner = metadata.uid();
        let message =
            format!("{path} belongs to user {owner}, and this process runs as user {own}: run `serve` as user {owner}");
        found.add(ABOUT, State::Doubtful, message);
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let open = entry
            .metadata()
            .is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
        if open {
            let file = entry.path();
            let message = format!("{0} is open to other users (chmod 0600 {0})", file.display());
            found.add(ABOUT, State::Bad, message);
        }
    }
    if found.list.len() == before {
        found.good(ABOUT, format!("{path} is closed to other users"));
    }
}
