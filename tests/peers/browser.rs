//! The example `web-gateway` in a real Chromium: `examples/web-gateway/browser/walk.mjs` registers, logs in, lets the access
//! token expire, and logs out from a second browser.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::guard::{self, Ending};
use crate::support::process::{Process, find};

/// The compiled example. `cargo test` without `--test` has built it already.
fn example() -> String {
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "build",
        "--quiet",
        "--locked",
        "--all-features",
        "--example",
        "web-gateway",
    ]);
    let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
    assert!(status.success(), "the example does not compile");
    let folder = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    folder.join("examples/web-gateway").display().to_string()
}

#[test]
fn the_example_works_in_a_browser() {
    let example = example();
    let own = guard::scratch("browser");
    let browser = find("chromium").expect("Chromium is not installed: tests/run does that");
    let mut walk = Command::new(find("node").expect("Node.js is not installed: tests/run does that"));
    walk.arg("examples/web-gateway/browser/walk.mjs")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("COUNTERSIGN", env!("CARGO_BIN_EXE_countersign"))
        .env("WEB_GATEWAY", example)
        .env("CHROMIUM", browser)
        // Chromium writes its profile and its crash reports there.
        .env("HOME", &own)
        .env("TMPDIR", &own);
    let mut walk = Process::spawn(&mut walk, &own.join("log"), Ending::Kill);
    let status = walk.wait(Duration::from_mins(3));
    let log = walk.log();
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("the first browser is logged out"), "{log}");
}
