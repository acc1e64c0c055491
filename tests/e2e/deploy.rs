//! The files in `deploy/` work with this binary.

use crate::support::serve::{MASTER_KEY, Storage};

#[test]
fn the_production_configuration_is_accepted() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/countersign.toml");
    let storage = Storage::clustered("postgres://countersign@db/countersign", "rediss://redis", "cs");
    storage.run(&["config", "check", "--config", file]).succeed();
    let shown = storage.run(&["config", "show", "--config", file]).succeed();
    assert!(shown.contains("https://auth.example.org"), "{shown}");
    assert!(!shown.contains(MASTER_KEY), "{shown}");
}

#[test]
fn the_default_configuration_is_accepted() {
    let storage = Storage::embedded();
    let defaults = storage.run(&["config", "default"]).succeed();
    let file = storage.folder().join("defaults.toml");
    std::fs::write(&file, defaults).unwrap();
    storage
        .run(&["config", "check", "--config", file.to_str().unwrap()])
        .succeed();
}
