//! The model of sessions, as simple as possible: one counter orders all steps, and nothing is concurrent.

use std::collections::{HashMap, HashSet};

use proptest::sample::Index;

/// The clients: whether a replaced token is accepted again, and whether that needs the same attempt id.
pub(crate) const CLIENTS: [Client; 3] = [
    Client {
        id: "model-strict",
        grace: true,
        tolerant: false,
    },
    Client {
        id: "model-tolerant",
        grace: true,
        tolerant: true,
    },
    Client {
        id: "model-graceless",
        grace: false,
        tolerant: false,
    },
];

pub(crate) struct Client {
    pub(crate) id: &'static str,
    pub(crate) grace: bool,
    pub(crate) tolerant: bool,
}

/// One step. Sessions are picked from all sessions that were ever created.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Issue {
        user: usize,
        client: usize,
    },
    RefreshNewest {
        session: Index,
        attempt: &'static str,
    },
    Refresh {
        session: Index,
        generation: Index,
        attempt: &'static str,
    },
    /// A refresh while the durable store refuses revocations.
    RefreshUnrecorded {
        session: Index,
        generation: Index,
        attempt: &'static str,
    },
    RevokeToken {
        session: Index,
        generation: Index,
    },
    RevokeSession {
        session: Index,
    },
    RevokeUser {
        user: usize,
        keep: Option<Index>,
    },
    RevokeClient {
        client: usize,
    },
    RevokeEverything,
    SetDisabled {
        user: usize,
        disabled: bool,
    },
    /// A replica of the session store copies the user's sessions.
    Snapshot {
        user: usize,
    },
    /// The replica is promoted: the writes since the snapshot are lost.
    Restore {
        user: usize,
    },
    /// All sessions of the user are lost.
    Lose {
        user: usize,
    },
}

/// The result of a step, as its caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Nothing,
    Tokens {
        session: usize,
        generation: u32,
        replayed: bool,
    },
    Refused(&'static str),
}

#[derive(Clone, Debug)]
struct Record {
    current: u32,
    attempt: &'static str,
    forwarded: bool,
    /// A reuse was found; its revocation may not be stored yet.
    tombstone: bool,
}

#[derive(Clone, Debug)]
struct Session {
    user: usize,
    client: usize,
    begun: u64,
    /// The newest generation that was ever issued.
    newest: u32,
}

type Records = HashMap<usize, Record>;

#[derive(Default)]
pub(crate) struct Model {
    now: u64,
    sessions: Vec<Session>,
    records: Records,
    snapshots: HashMap<usize, Records>,
    disabled: HashSet<usize>,
    revoked_sessions: HashSet<usize>,
    /// When, and which session was kept.
    revoked_users: HashMap<usize, Vec<(u64, Option<usize>)>>,
    revoked_clients: HashMap<usize, u64>,
    revoked_everything: u64,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn pick(&self, index: Index) -> Option<usize> {
        (!self.sessions.is_empty()).then(|| index.index(self.sessions.len()))
    }

    pub(crate) fn pick_generation(&self, session: usize, index: Index) -> u32 {
        u32::try_from(index.index(self.sessions[session].newest as usize + 1)).unwrap()
    }

    pub(crate) fn is_alive(&self, session: usize) -> bool {
        let s = &self.sessions[session];
        !self.revoked_sessions.contains(&session)
            && s.begun > self.revoked_everything
            && s.begun > self.revoked_clients.get(&s.client).copied().unwrap_or(0)
            && self.revoked_users.get(&s.user).is_none_or(|rows| {
                rows.iter()
                    .all(|(when, keep)| s.begun > *when || *keep == Some(session))
            })
    }

    pub(crate) fn apply(&mut self, step: &Step) -> Outcome {
        self.now += 1;
        match step {
            Step::Issue { user, client } => self.issue(*user, *client),
            Step::RefreshNewest { session, attempt } => match self.pick(*session) {
                Some(session) => self.refresh(session, self.sessions[session].newest, attempt, true),
                None => Outcome::Nothing,
            },
            Step::Refresh {
                session,
                generation,
                attempt,
            } => match self.pick(*session) {
                Some(session) => self.refresh(session, self.pick_generation(session, *generation), attempt, true),
                None => Outcome::Nothing,
            },
            Step::RefreshUnrecorded {
                session,
                generation,
                attempt,
            } => match self.pick(*session) {
                Some(session) => self.refresh(session, self.pick_generation(session, *generation), attempt, false),
                None => Outcome::Nothing,
            },
            Step::RevokeToken { session, .. } | Step::RevokeSession { session } => {
                if let Some(session) = self.pick(*session) {
                    self.revoked_sessions.insert(session);
                }
                Outcome::Nothing
            }
            Step::RevokeUser { user, keep } => {
                let keep = keep.and_then(|index| self.pick(index));
                self.revoked_users.entry(*user).or_default().push((self.now, keep));
                Outcome::Nothing
            }
            Step::RevokeClient { client } => {
                self.revoked_clients.insert(*client, self.now);
                Outcome::Nothing
            }
            Step::RevokeEverything => {
                self.revoked_everything = self.now;
                Outcome::Nothing
            }
            Step::SetDisabled { user, disabled } => {
                // Disabling a disabled user has no effect: such a user has no live sessions.
                if *disabled && self.disabled.insert(*user) {
                    self.revoked_users.entry(*user).or_default().push((self.now, None));
                } else if !disabled {
                    self.disabled.remove(user);
                }
                Outcome::Nothing
            }
            Step::Snapshot { user } => {
                self.snapshots.insert(*user, self.of_user(*user));
                Outcome::Nothing
            }
            Step::Restore { user } => {
                if let Some(snapshot) = self.snapshots.get(user).cloned() {
                    self.lose(*user);
                    self.records.extend(snapshot);
                }
                Outcome::Nothing
            }
            Step::Lose { user } => {
                self.lose(*user);
                Outcome::Nothing
            }
        }
    }

    fn issue(&mut self, user: usize, client: usize) -> Outcome {
        if self.disabled.contains(&user) {
            return Outcome::Refused("INVALID_CREDENTIALS");
        }
        let session = self.sessions.len();
        self.sessions.push(Session {
            user,
            client,
            begun: self.now,
            newest: 0,
        });
        self.records.insert(
            session,
            Record {
                current: 0,
                attempt: "",
                forwarded: false,
                tombstone: false,
            },
        );
        Outcome::Tokens {
            session,
            generation: 0,
            replayed: false,
        }
    }

    fn refresh(&mut self, session: usize, presented: u32, attempt: &'static str, recorded: bool) -> Outcome {
        let client = &CLIENTS[self.sessions[session].client];
        if self.disabled.contains(&self.sessions[session].user) {
            return Outcome::Refused("USER_DISABLED");
        }
        if !self.is_alive(session) {
            return Outcome::Refused("SESSION_REVOKED");
        }
        let Some(record) = self.records.get_mut(&session) else {
            return Outcome::Refused("SESSION_NOT_FOUND");
        };
        let again = record.current.checked_sub(1) == Some(presented) && (client.tolerant || attempt == record.attempt);
        let lost_before = record.forwarded && record.current.checked_sub(2) == Some(presented);
        if presented < record.current || record.tombstone {
            if client.grace && !record.tombstone && (again || lost_before) {
                return Outcome::Tokens {
                    session,
                    generation: record.current,
                    replayed: true,
                };
            }
            record.tombstone = true;
            if !recorded {
                return Outcome::Refused("STORE_UNAVAILABLE");
            }
            self.revoked_sessions.insert(session);
            return Outcome::Refused("REFRESH_TOKEN_REUSED");
        }
        *record = Record {
            current: presented + 1,
            attempt,
            forwarded: presented > record.current,
            tombstone: false,
        };
        let generation = record.current;
        self.sessions[session].newest = self.sessions[session].newest.max(generation);
        Outcome::Tokens {
            session,
            generation,
            replayed: false,
        }
    }

    fn of_user(&self, user: usize) -> Records {
        let own = |(session, _): &(&usize, &Record)| self.sessions[**session].user == user;
        self.records
            .iter()
            .filter(own)
            .map(|(session, record)| (*session, record.clone()))
            .collect()
    }

    fn lose(&mut self, user: usize) {
        let sessions = &self.sessions;
        self.records.retain(|session, _| sessions[*session].user != user);
    }
}
