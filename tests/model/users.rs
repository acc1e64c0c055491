//! Three users and their tokens.

use std::collections::HashMap;

use countersign::model::UserId;
use countersign::token::ValidateRequest;

use super::system::System;

/// Three users and their tokens.
pub(crate) struct Users {
    pub(crate) names: Vec<String>,
    pub(crate) ids: Vec<UserId>,
    pub(crate) sessions: Vec<Tokens>,
}

pub(crate) struct Tokens {
    pub(crate) id: String,
    pub(crate) access: String,
    pub(crate) refresh: HashMap<u32, String>,
    /// Whether two different tokens of one generation were issued.
    pub(crate) forked: bool,
}

impl Users {
    /// The id and the first token of the first session.
    pub(crate) fn first(&self) -> (String, String) {
        (self.sessions[0].id.clone(), self.sessions[0].refresh[&0].clone())
    }

    pub(crate) fn pick(&self, index: proptest::sample::Index) -> Option<usize> {
        (!self.sessions.is_empty()).then(|| index.index(self.sessions.len()))
    }

    pub(crate) fn newest(&self, session: usize) -> u32 {
        self.sessions[session].refresh.keys().copied().max().unwrap()
    }

    /// Whether only one token was issued for each generation of the session.
    pub(crate) fn one_successor(&self, session: usize, generation: u32) -> bool {
        !self.sessions[session].forked && self.sessions[session].refresh.contains_key(&generation)
    }

    pub(crate) async fn access_is_active(&self, system: &System, session: usize, strong: bool) -> bool {
        let request = ValidateRequest {
            access_token: &self.sessions[session].access,
            audience: "",
            required_scopes: &[],
            strong,
            asked: std::time::Duration::MAX,
        };
        system.app.validator.validate(request).await.unwrap().token.is_ok()
    }
}
