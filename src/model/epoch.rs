//! Epochs: what orders a login against a revocation, without any clock.
//!
//! The global row, each user and each client carry a number that every revocation at that level raises in its own
//! transaction. A login reads the three numbers *with the credential, before hashing*; its session and tokens keep
//! them for life. A revocation kills exactly what carries a smaller number than its own.

use serde::{Deserialize, Serialize};

use super::ids::ClientId;

/// The three epochs under which a session or token was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epochs {
    /// Of the deployment (claim `epo.g`).
    #[serde(rename = "g")]
    pub global: i64,
    /// Of the user; 0 for a machine's token (claim `epo.u`).
    #[serde(rename = "u")]
    pub user: i64,
    /// Of the client (claim `epo.c`).
    #[serde(rename = "c")]
    pub client: i64,
}

/// The claim `epo`: the epochs, and the client whose epoch `c` is. For an exchanged token that is the client of the
/// root token, not the one that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Epo", into = "Epo")]
pub struct TokenEpochs {
    /// The epochs.
    pub epochs: Epochs,
    /// Whose epoch `epochs.client` is.
    pub client_id: ClientId,
}

/// The claim as written. Flat by hand: serde would collect the members of a flattened struct before it reads them, and
/// every token that is new to a verifier has one.
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
