//! Ports for servers that cannot be told to take any free one and say which.

use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the kernel takes ports for outgoing connections: those come and go during a test.
const FIRST: u16 = 15_000;
const COUNT: u16 = 17_000;

/// A port on 127.0.0.1 that nobody listens on. Somebody may take it before the server does: start again then.
pub fn free() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        // Several test processes run at once: each begins elsewhere.
        AtomicU16::new(u16::try_from(std::process::id().wrapping_mul(769) % u32::from(COUNT)).unwrap_or(0))
    });
    for _ in 0..COUNT {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} on");
}
