//! Passwords: the policy for new ones, hashing and verification, and the threads that compute hashes.
//!
//! New hashes are argon2id PHC strings over the NFC form. Hashes imported from other systems are verified over the bytes that
//! the user sent, and replaced at the next login. The parameters of a hash are checked to be affordable before it is computed,
//! and only the [`Pool`] computes hashes.

mod hash;
mod policy;
mod pool;
mod queue;
mod stored;
mod verify;

#[cfg(test)]
mod tests;

pub use hash::{HashParameters, Peppers};
pub use policy::{MAX_BYTES, check_size};
pub use pool::Pool;
pub use stored::check_imported;
pub use verify::PasswordCheck;
