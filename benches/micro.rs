//! The cost of each step of Validate: `cargo bench --bench micro`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark panics when it cannot go on"
)]
#![expect(missing_docs, reason = "criterion's macros define public functions")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::clock::UnixMillis;
use countersign::grpc::convert::answer::ValidateAnswer;
use countersign::keys::signing::SigningKey;
use countersign::keys::verified::VerifiedToken;
use countersign::keys::verify::{Policy, verify};
use countersign::keys::verifying::VerifyingKeys;
use countersign::model::{Algorithm, Claims, Revocation, SessionId, Target, new_uuid};
use countersign::revocation::Index;
use countersign::secret::SystemEntropy;
use countersign::validator::{TokenCache, Validation, check};
use criterion::{Criterion, criterion_group, criterion_main};

const NOW: i64 = 1_790_000_000;

fn claims() -> Claims {
    let id = || new_uuid(UnixMillis::from_secs(NOW), &SystemEntropy).to_string();
    serde_json::from_value(serde_json::json!({
        "iss": "https://issuer.example", "sub": id(), "aud": ["api"], "client_id": "default", "iat": NOW,
        "exp": NOW + 900, "jti": id(), "sid": id(), "scope": "orders:read orders:write", "auth_time": NOW,
        "roles": ["editor"], "epo": {"g": NOW, "u": NOW, "c": NOW, "cid": "default"},
    }))
    .unwrap()
}

fn policy() -> Policy {
    Policy {
        issuer: "https://issuer.example".to_owned(),
        leeway: Duration::from_secs(5),
    }
}

/// A token that was not seen before, beside its signature alone.
fn verification(c: &mut Criterion) {
    let (now, policy) = (UnixMillis::from_secs(NOW + 1), policy());
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        let key = SigningKey::generate(algorithm, &SystemEntropy).unwrap();
        let token = key.sign(&claims()).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        c.bench_function(&format!("{} signature alone", algorithm.as_str()), |b| {
            b.iter(|| assert!(key.public().verifies(black_box(signed.as_bytes()), &signature)));
        });
        let mut keys = VerifyingKeys::default();
        keys.insert(key.public().clone(), None);
        c.bench_function(&format!("verify {}", algorithm.as_str()), |b| {
            b.iter(|| verify(black_box(&token), &keys, &policy, now).unwrap());
        });
    }
}

fn verified_tokens(count: usize) -> Vec<(String, Arc<VerifiedToken>)> {
    let key = SigningKey::generate(Algorithm::EdDsa, &SystemEntropy).unwrap();
    let mut keys = VerifyingKeys::default();
    keys.insert(key.public().clone(), None);
    (0..count)
        .map(|_| {
            let token = key.sign(&claims()).unwrap();
            let verified = verify(&token, &keys, &policy(), UnixMillis::from_secs(NOW + 1)).unwrap();
            (token, Arc::new(verified))
        })
        .collect()
}

fn warm(c: &mut Criterion) {
    let tokens = verified_tokens(1000);
    let cache = TokenCache::new(64 << 20);
    // Set the version of the key ring first: a new version empties the cache.
    assert!(cache.get("", 1).is_none());
    for (text, token) in &tokens {
        cache.put(text, token, 1);
    }
    let mut n = 0;
    c.bench_function("cache hit", |b| {
        b.iter(|| {
            n = (n + 1) % tokens.len();
            cache.get(black_box(&tokens[n].0), 1).expect("the token was cached")
        });
    });

    for (name, revoked) in [
        ("check, nothing revoked", 0_usize),
        ("check, 1,000,000 revoked", 1_000_000),
    ] {
        let index = Index::new();
        for _ in 0..revoked {
            index.insert(&Revocation {
                target: Target::Session(SessionId(new_uuid(UnixMillis::from_secs(NOW), &SystemEntropy))),
                epoch: 0,
                expires: UnixMillis::from_secs(NOW + 900),
                revoked: UnixMillis::from_secs(NOW),
            });
        }
        c.bench_function(name, |b| {
            b.iter(|| {
                n = (n + 1) % tokens.len();
                let now = UnixMillis::from_secs(NOW + 1);
                check(black_box(&tokens[n].1), &index, now, "api", &[]).unwrap();
            });
        });
    }

    let mut out = Vec::with_capacity(1024);
    c.bench_function("encode", |b| {
        b.iter(|| {
            n = (n + 1) % tokens.len();
            out.clear();
            let answer = ValidateAnswer::Local(Validation {
                token: Ok(tokens[n].1.clone()),
                as_of: UnixMillis::from_secs(NOW),
                cache_until: Some(UnixMillis::from_secs(NOW + 1)),
            });
            answer.encode(black_box(&mut out));
        });
    });
}

criterion_group!(benches, verification, warm);
criterion_main!(benches);
