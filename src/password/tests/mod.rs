mod hashes;
mod hostile;
mod policy;
mod pool;

use super::hash::{Memory, Peppers, Recipe};
use crate::config::{Config, Layers};
use crate::secret::{SecretBytes, SecretText};

/// The defaults, at a cost that tests can bear.
fn config() -> crate::config::Password {
    let mut config = Config::load(&Layers::default()).unwrap().password;
    (config.memory_kib, config.iterations) = (64, 1);
    config
}

fn recipe(peppers: &[u32], in_use: bool) -> Recipe {
    let keys = peppers
        .iter()
        .map(|id| (*id, SecretBytes::new([u8::try_from(*id).unwrap(); 32])));
    Recipe::new(&config(), Peppers::new(keys, in_use))
}

fn text(text: &str) -> SecretText {
    SecretText::new(text)
}

/// Matches, needs a new hash.
fn verify(recipe: &Recipe, stored: &str, password: &str) -> (bool, bool) {
    let verdict = recipe.verify(Some(&text(stored)), &text(password), &mut Memory::default());
    let verdict = verdict.unwrap();
    (verdict.matches, verdict.rehash_needed)
}
