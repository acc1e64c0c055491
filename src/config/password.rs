//! `[password]`: the password policy, the cost of a hash, and the hashing pool.

use serde::{Deserialize, Serialize};

use super::check::{self, CheckResult};
use super::error::ConfigError;

/// The most memory of one hash in KiB, for new and imported hashes.
pub const MAX_MEMORY_KIB: u32 = 256 * 1024;

/// The most work of one hash in KiB × iterations: a few seconds on one core.
pub const MAX_WORK_KIB: u64 = 4 * 1024 * 1024;

/// The most iterations of an argon2 hash.
pub const MAX_ITERATIONS: u32 = 1_024;

/// The most lanes of an argon2 hash.
pub const MAX_PARALLELISM: u32 = 16;

/// The section `[password]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Password {
    /// The shortest password, in code points.
    pub min_length: usize,
    /// The memory of one hash, in KiB.
    pub memory_kib: u32,
    /// The number of passes over that memory.
    pub iterations: u32,
    /// The number of argon2 lanes.
    pub parallelism: u32,
    /// How many hashes run at the same time. Always set after loading.
    #[serde(default)]
    pub hash_threads: Option<usize>,
    /// How many hashes may wait.
    pub queue: usize,
    /// Whether a sealed secret (pepper) is part of every hash.
    pub pepper: bool,
}

impl Password {
    /// How many hashes run at the same time; at least 1.
    #[must_use]
    pub fn hash_threads(&self) -> usize {
        self.hash_threads.unwrap_or(1).max(1)
    }

    pub(super) fn check(&self) -> CheckResult {
        check::number("password.min_length", self.min_length, 8..=64)?;
        check::number("password.parallelism", self.parallelism, 1..=MAX_PARALLELISM)?;
        check::number(
            "password.memory_kib",
            self.memory_kib,
            8 * self.parallelism..=MAX_MEMORY_KIB,
        )?;
        check::number("password.iterations", self.iterations, 1..=MAX_ITERATIONS)?;
        let work = u64::from(self.memory_kib) * u64::from(self.iterations);
        if work > MAX_WORK_KIB {
            let problem = format!("× password.memory_kib is {work}, more than {MAX_WORK_KIB}: logins would time out");
            return Err(ConfigError::at("password.iterations", problem));
        }
        if let Some(threads) = self.hash_threads {
            check::number("password.hash_threads", threads, 1..=1_024)?;
        }
        check::number("password.queue", self.queue, 1..=100_000)
    }

    /// Sets the options that depend on the machine and were not set. Returns their keys.
    pub(super) fn derive(&mut self) -> Vec<&'static str> {
        if self.hash_threads.is_some() {
            return Vec::new();
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.hash_threads = Some(cores.saturating_sub(1).max(1));
        vec!["password.hash_threads"]
    }
}
