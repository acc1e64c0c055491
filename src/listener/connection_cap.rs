//! How many connections the process can afford.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What stores, logs and files need beside connections.
const RESERVED_FILES: u64 = 256;

/// The most connections at once: `wanted`, or what the limit on open files leaves. The soft limit is first raised to
/// the hard one.
#[must_use]
pub fn connection_cap(wanted: usize) -> usize {
    let files = raise_file_limit();
    let cap = cap_under(wanted, files);
    if cap < wanted {
        tracing::warn!(
            wanted,
            cap,
            files,
            "the limit on open files allows fewer connections than configured"
        );
    }
    cap
}

fn cap_under(wanted: usize, files: u64) -> usize {
    // A tiny limit is shared half and half, so that something still works.
    let reserve = RESERVED_FILES.min(files / 2);
    let left = usize::try_from(files - reserve).unwrap_or(usize::MAX);
    wanted.min(left).max(1)
}

/// The soft limit on open files, after raising it as far as it goes.
fn raise_file_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        // Every Unix has the limit; 1,024 is the smallest default in use.
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
