//! The limit on open connections, derived from the limit on open files.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// File descriptors kept for stores, logs and files.
const RESERVED_FILES: u64 = 256;

/// The limit on open connections: `wanted`, or less if the limit on open files is too low. Raises the soft limit on
/// open files to the hard limit first.
#[must_use]
pub fn connection_cap(wanted: usize) -> usize {
    let files = raise_file_limit();
    let cap = cap_under(wanted, files);
    if cap < wanted {
        tracing::warn!(
            wanted,
            cap,
            files,
            "the limit on open files allows fewer connections than configured; raise it or lower server.max_connections"
        );
    }
    cap
}

fn cap_under(wanted: usize, files: u64) -> usize {
    // A very low limit is split in halves, so that the service still works.
    let reserve = RESERVED_FILES.min(files / 2);
    let left = usize::try_from(files - reserve).unwrap_or(usize::MAX);
    wanted.min(left).max(1)
}

/// Raises the soft limit on open files to the hard limit, and returns it.
fn raise_file_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        // Every Unix has this limit; 1,024 is the smallest default in use.
        return 1024;
    };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return hard;
    }
    soft
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_stays_below_the_file_limit() {
        assert_eq!(cap_under(4096, 1 << 20), 4096);
        assert_eq!(cap_under(4096, 1024), 768);
        assert_eq!(cap_under(4096, 64), 32);
        assert_eq!(cap_under(4096, 0), 1);
        assert_eq!(
            cap_under(usize::MAX, u64::MAX),
            usize::try_from(u64::MAX - 256).unwrap()
        );
    }
}
