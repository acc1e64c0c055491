//! RSA keys whose primes are k·M + (65537^a mod M): made by a faulty library (CVE-2017-15361, "ROCA"), factored cheaply.
//!
//! Nemec, Sys, Svenda, Klinec, Matyas: The Return of Coppersmith's Attack (CCS 2017) §2.2: such a modulus is a power of
//! 65537 modulo each small prime of M. A sound key passes for one with a probability below 2⁻²⁷.

/// The primes of M that tell most: 65537 generates a small part of each one's group.
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
