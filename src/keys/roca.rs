//! Detection of weak RSA keys of CVE-2017-15361 ("ROCA"). A faulty library made their primes as k·M + (65537^a mod M), so
//! factoring them is cheap.
//!
//! Such a modulus is a power of 65537 modulo each small prime factor of M (Nemec, Sys, Svenda, Klinec, Matyas: The Return
//! of Coppersmith's Attack, CCS 2017, §2.2). A sound key is taken for a weak one with a probability below 2⁻²⁷.

/// The most telling prime factors of M: 65537 generates only a small subgroup modulo each of them.
const PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];

/// Whether the modulus (big-endian) has the fingerprint.
pub(super) fn is_weak(modulus: &[u8]) -> bool {
    PRIMES.into_iter().all(|prime| {
        let residue = modulus
            .iter()
            .fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        loop {
            if power == residue {
                return true;
            }
            power = power * (65537 % prime) % prime;
            if power == 1 {
                return false;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::Value;

    use super::*;

    /// Wycheproof's vulnerable key (`json_web_key_test.json`, tc7) and the other RSA keys of that file.
    #[test]
    fn only_the_faulty_key_has_the_fingerprint() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/vectors/wycheproof/json_web_key_test.json"
        );
        let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut seen = (0, 0);
        for group in file["testGroups"].as_array().unwrap() {
            let Some(text) = group["public"]["keys"][0]["n"].as_str() else {
                continue;
            };
            let faulty = group["tests"][0]["comment"] == "rejectsKeyWithRocaVulnerability";
            assert_eq!(is_weak(&URL_SAFE_NO_PAD.decode(text).unwrap()), faulty);
            seen = (seen.0 + u32::from(faulty), seen.1 + 1);
        }
        assert_eq!(seen, (1, 5));
    }
}
