//! The revocation index with the locks and atomics of loom: the modules of `src/revocation/index`.

#[path = "../../src/revocation/index/entries.rs"]
mod entries;
#[path = "../../src/revocation/index/rows.rs"]
mod rows;
#[path = "../../src/revocation/index/shards.rs"]
mod shards;
#[path = "../../src/revocation/index/snapshot.rs"]
mod snapshot;
#[path = "../../src/revocation/index/table.rs"]
mod table;

use std::time::Duration;

pub(crate) use entries::Index;

const LONGEST_TOKEN: Duration = Duration::from_hours(25);
