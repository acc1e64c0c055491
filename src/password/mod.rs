//! Passwords: what a new one must be, how it is stored, how a stored one is verified, and the threads that do the work.
//!
//! Ours are argon2id PHC strings over the NFC form; hashes that other systems made (argon2, bcrypt, scrypt, PBKDF2) are
//! verified over the bytes as they came and replaced at the next login. No hash is computed before its parameters have
//! been found affordable, and none outside the [`Pool`].

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
