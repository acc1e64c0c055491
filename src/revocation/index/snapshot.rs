//! Reading the whole index in parts of bounded size.

use super::Index;
use super::rows::join;
use super::shards::Place;
use crate::model::{Revocation, SessionId, Target, TokenId, UserId};

/// The size of a part as an encoded message is at most this: far below the 8 MiB that a client reads, and small enough for a
/// server with many watchers.
pub(super) const MAX_PART_BYTES: usize = 256 * 1024;

/// An upper bound for an encoded revocation in its list, with tags and lengths: 3 for the list, level 2, id 66 (a client id
/// has at most 64 bytes), epoch 11, kept session 38, and 19 for each of the two times.
pub(super) const MAX_ENCODED_BYTES: usize = 158;

/// An upper bound for the rest of the message: the tags and lengths of its two levels, and `last`.
const ENVELOPE_BYTES: usize = 16;

/// The largest number of revocations in a part.
pub(super) const MAX_PART_ROWS: usize = (MAX_PART_BYTES - ENVELOPE_BYTES) / MAX_ENCODED_BYTES;

/// How far a snapshot was read ([`Index::snapshot_part`]).
#[derive(Debug)]
pub struct SnapshotCursor {
    map: Map,
    place: Place,
}

/// The maps of the index, in the order in which a snapshot reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Map {
    Tokens,
    Sessions,
    Users,
    Kept,
    Clients,
    Keys,
    Global,
    End,
}

impl Map {
    const fn next(self) -> Self {
        match self {
            Self::Tokens => Self::Sessions,
            Self::Sessions => Self::Users,
            Self::Users => Self::Kept,
            Self::Kept => Self::Clients,
            Self::Clients => Self::Keys,
            Self::Keys => Self::Global,
            Self::Global | Self::End => Self::End,
        }
    }
}

impl Default for SnapshotCursor {
    fn default() -> Self {
        Self {
            map: Map::Tokens,
            place: Place::start_of(0),
        }
    }
}

impl SnapshotCursor {
    /// Whether the whole snapshot was read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.map == Map::End
    }
}

impl Index {
    /// The next part of the entries. As a message of the feed it has at most 256 KiB.
    ///
    /// All parts together hold every entry that is in the index from the first part to the last; one that is added or changed
    /// meanwhile may be missing, or be there twice. No lock is held between two parts.
    #[must_use]
    pub fn snapshot_part(&self, cursor: &mut SnapshotCursor) -> Vec<Revocation> {
        self.part(cursor, MAX_PART_ROWS)
    }

    /// The next at most `max_rows` revocations; at least 2, because the two of an entry stay together.
    pub(super) fn part(&self, cursor: &mut SnapshotCursor, max_rows: usize) -> Vec<Revocation> {
        let mut rows = Vec::new();
        while cursor.map != Map::End {
            let before = rows.len();
            let room = max_rows - before;
            let place = &mut cursor.place;
            let is_complete = match cursor.map {
                Map::Tokens => self.tokens.visit(place, room, |id, row| {
                    rows.push(row.revocation(Target::Token(TokenId(*id)), 0));
                }),
                Map::Sessions => self.sessions.visit(place, room, |id, row| {
                    rows.push(row.revocation(Target::Session(SessionId(*id)), 0));
                }),
                Map::Users => self.users.visit(place, room, |id, row| {
                    let target = Target::User {
                        id: UserId(*id),
                        keep: None,
                    };
                    rows.push(row.row.revocation(target, join(row.epoch)));
                }),
                Map::Kept => self
                    .kept
                    .visit(place, room, |id, row| rows.extend(row.revocations(UserId(*id)))),
                Map::Clients => self.clients.visit(place, room, |id, row| {
                    rows.push(row.row.revocation(Target::Client(id.clone()), join(row.epoch)));
                }),
                Map::Keys => self.keys.visit(place, room, |id, row| {
                    rows.push(row.revocation(Target::Key(id.clone()), 0));
                }),
                Map::Global if room == 0 => false,
                Map::Global => {
                    let global = *self.global.read();
                    rows.extend(global.map(|row| row.row.revocation(Target::Global, join(row.epoch))));
                    true
                }
                Map::End => true,
            };
            if is_complete {
                *cursor = SnapshotCursor {
                    map: cursor.map.next(),
                    place: Place::start_of(0),
                };
            } else if rows.len() == before {
                break;
            }
        }
        rows
    }
}
