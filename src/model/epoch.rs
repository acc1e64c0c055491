//! Epochs order logins and revocations without a clock.
//!
//! The deployment, each user and each client have an epoch: a number that each revocation at that level raises in its
//! transaction. A login reads the three epochs *together with the credential, before it hashes the password*; its session
//! and tokens keep them. A revocation revokes exactly the sessions and tokens with a smaller epoch than its own.

use serde::{Deserialize, Serialize};

use super::ids::ClientId;

/// The three epochs with which a session or token was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epochs {
    /// The epoch of the deployment (claim `epo.g`).
    #[serde(rename = "g")]
    pub global: i64,
    /// The epoch of the user; 0 in a client's own token (claim `epo.u`).
    #[serde(rename = "u")]
    pub user: i64,
    /// The epoch of the client (claim `epo.c`).
    #[serde(rename = "c")]
    pub client: i64,
}

/// The claim `epo`: the epochs and the client whose epoch `c` is. In an exchanged token this is the client of the root
/// token, not the client that holds the token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Epo", into = "Epo")]
pub struct TokenEpochs {
    /// The epochs.
    pub epochs: Epochs,
    /// The client whose epoch `epochs.client` is.
    pub client_id: ClientId,
}

/// The claim as written. It repeats the fields of [`Epochs`] because `#[serde(flatten)]` first collects all members in a
/// map, which costs time for every token that a verifier has not seen before.
#[derive(Serialize, Deserialize)]
struct Epo {
    g: i64,
    u: i64,
    c: i64,
    cid: ClientId,
}

impl From<Epo> for TokenEpochs {
    fn from(epo: Epo) -> Self {
        Self {
            epochs: Epochs {
                global: epo.g,
                user: epo.u,
                client: epo.c,
            },
            client_id: epo.cid,
        }
    }
}

impl From<TokenEpochs> for Epo {
    fn from(TokenEpochs { epochs, client_id }: TokenEpochs) -> Self {
        Self {
            g: epochs.global,
            u: epochs.user,
            c: epochs.client,
            cid: client_id,
        }
    }
}
