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
pub struct TokenEpochs {
    /// The epochs.
    #[serde(flatten)]
    pub epochs: Epochs,
    /// Whose epoch `epochs.client` is.
    #[serde(rename = "cid")]
    pub client_id: ClientId,
}
