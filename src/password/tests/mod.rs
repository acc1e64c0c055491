mod foreign;
mod hashes;
mod hostile;
mod policy;
mod pool;

use super::hash::{HashParameters, Peppers, ScratchMemory};
use crate::config::{Config, Layers};
use crate::secret::{SecretBytes, SecretText};

/// The default configuration with a low hash cost.
fn config() -> crate::config::Password {
    let mut config = Config::load(&Layers::default()).unwrap().password;
    (config.memory_kib, config.iterations) = (64, 1);
    config
}

fn parameters(peppers: &[u32], in_use: bool) -> HashParameters {
    let keys = peppers
        .iter()
        .map(|id| (*id, SecretBytes::new([u8::try_from(*id).unwrap(); 32])));
    HashParameters::new(&config(), Peppers::new(keys, in_use))
}

fn text(text: &str) -> SecretText {
    SecretText::new(text)
}

/// Returns `matches` and `rehash_needed`.
fn verify(parameters: &HashParameters, stored: &str, password: &str) -> (bool, bool) {
    let check = parameters.verify(Some(&text(stored)), &text(password), &mut ScratchMemory::default());
    let check = check.unwrap();
    (check.matches, check.rehash_needed)
}
