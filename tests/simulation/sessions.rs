//! The store of sessions as a replica reaches it: the rules in Rust on SQLite, or the scripts of Redis.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign::clock::UnixMillis;
use countersign::model::session::{Created, NewSession, Presented, SessionView};
use countersign::model::{Result, Rotation, SessionId, UserId};
use countersign::store::redis::SessionScripts;
use countersign::store::sqlite::Database;
use countersign::store::{BackupCounter, ComparedCounters, SessionStore};
use tokio::time::sleep;
use uuid::Uuid;

use crate::link::{Link, TIMEOUT};
use crate::lua::LuaRedis;
use crate::mutants::Mutant;

/// The store of sessions itself.
#[derive(Clone)]
pub(crate) enum Backend {
    Embedded(Database),
    Scripts(LuaRedis),
}

impl Backend {
    pub(crate) async fn rotate(&self, presented: &Presented) -> Result<Rotation> {
        match self {
            Self::Embedded(database) => database.rotate(presented).await,
            Self::Scripts(redis) => SessionScripts(redis).rotate(presented).await,
        }
    }

    /// Reads, decides and writes in three steps.
    async fn check_then_write(&self, presented: &Presented, pause: Duration) -> Result<Rotation> {
        let Self::Scripts(redis) = self else {
            return self.rotate(presented).await;
        };
        let draft = UserId(Uuid::from_u128(u128::from(presented.generation)));
        let (own, copied) = (presented.user.to_string(), draft.to_string());
        redis.copy(&own, &copied);
        let decided = Presented {
            user: draft,
            ..presented.clone()
        };
        let rotation = self.rotate(&decided).await?;
        let after = redis.snapshot_of(&copied);
        sleep(pause).await;
        redis.restore_of(&own, after);
        Ok(rotation)
    }
}

/// The store of sessions as a replica reaches it.
pub(crate) struct SimSessions {
    pub(crate) real: Backend,
    pub(crate) link: Arc<Link>,
    pub(crate) mutant: Option<Mutant>,
}

#[async_trait]
impl SessionStore for SimSessions {
    async fn create(&self, new: &NewSession, limit: u32) -> Result<Created> {
        let (real, new) = (self.real.clone(), new.clone());
        let effect = async move {
            match real {
                Backend::Embedded(database) => database.create(&new, limit).await,
                Backend::Scripts(redis) => SessionScripts(&redis).create(&new, limit).await,
            }
        };
        self.link.call_or_late("create", effect).await
    }

    async fn rotate(&self, presented: &Presented) -> Result<Rotation> {
        let (real, sim, presented) = (self.real.clone(), self.link.sim.clone(), presented.clone());
        let slow = (self.mutant == Some(Mutant::CheckThenWrite)).then(|| self.link.pause());
        let effect = async move {
            let rotation = match slow {
                Some(pause) => real.check_then_write(&presented, pause).await?,
                None => real.rotate(&presented).await?,
            };
            sim.note_rotation(&presented, &rotation);
            Ok(rotation)
        };
        match self.real {
            // One process calls it, in the order in which its callers came.
            Backend::Embedded(_) => self.link.call("rotate", effect).await,
            Backend::Scripts(_) => self.link.call_or_late("rotate", effect).await,
        }
    }

    fn time_in(&self, _user: UserId, left: Duration) -> Option<UnixMillis> {
        match self.real {
            Backend::Embedded(_) => None,
            Backend::Scripts(_) => Some(UnixMillis(self.link.sim.wall()).plus(left.min(TIMEOUT))),
        }
    }

    async fn end_all(&self, user: UserId, sessions: &[SessionId]) -> Result<u32> {
        let (real, sessions) = (self.real.clone(), sessions.to_vec());
        let effect = async move {
            match real {
                Backend::Embedded(database) => database.end_all(user, &sessions).await,
                Backend::Scripts(redis) => SessionScripts(&redis).end_all(user, &sessions).await,
            }
        };
        self.link.call_or_late("end_all", effect).await
    }

    async fn end_user(&self, user: UserId, epoch: i64, keep: Option<SessionId>) -> Result<u32> {
        let real = self.real.clone();
        let effect = async move {
            match real {
                Backend::Embedded(database) => database.end_user(user, epoch, keep).await,
                Backend::Scripts(redis) => SessionScripts(&redis).end_user(user, epoch, keep).await,
            }
        };
        self.link.call_or_late("end_user", effect).await
    }

    async fn list(&self, user: UserId, era: i64) -> Result<Vec<SessionView>> {
        let effect = async {
            match &self.real {
                Backend::Embedded(database) => database.list(user, era).await,
                Backend::Scripts(redis) => SessionScripts(redis).list(user, era).await,
            }
        };
        self.link.call("list", effect).await
    }

    async fn ping(&self) -> Result<()> {
        self.link.call("ping", async { Ok(()) }).await
    }

    async fn advance_counters(&self, _known: &[(String, i64)], _backup_steps: i64) -> Result<ComparedCounters> {
        Ok(ComparedCounters {
            counters: Vec::new(),
            is_complete: true,
        })
    }

    async fn raise_counters(&self, _behind: &[BackupCounter]) -> Result<()> {
        Ok(())
    }
}
