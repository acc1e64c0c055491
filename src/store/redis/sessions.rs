//! Live sessions: the arguments and replies of the scripts in `lua/`, which hold the rules.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::reply::{Fields, Reply};
use super::script::{Args, RunScripts, Script, args};
use super::{Redis, script};
use crate::clock::{UnixMillis, millis};
use crate::model::scope::CALLER_SCOPE_PREFIX;
use crate::model::session::{
    Created, EXPIRED_RECORD_TTL, EvictedSession, Evidence, MAX_EVICTED, MAX_FAST_FORWARD, NewSession, Presented,
    Refusal, Rotated, SessionContext, SessionView, max_records,
};
use crate::model::{Epochs, Error, Result, ReusePolicy, Rotation, SessionId, UserId};
use crate::store::{BackupCounter, ComparedCounters, SessionStore};

/// The largest number that the six bytes of a number in the record hold: in milliseconds, the year 10889.
const MAX_NUMBER: i64 = (1 << 48) - 1;

/// The longest text, in bytes: its length takes one byte of the record.
const MAX_TEXT_LEN: usize = 255;

/// The longest list of names, in bytes: its length takes two bytes of the record.
const MAX_LIST_LEN: usize = 65_535;

/// How many records of a user one script reads at a time, which takes Redis a few milliseconds. The script of a login reads
/// as many beyond the most that a login leaves.
const READ_AT_ONCE: u32 = 1000;

/// The most scripts of one call: enough for 50,000 records of a user, which an earlier version may have stored.
const MAX_PAGES: usize = 50;

/// The cursor of the first records, and the one after the last.
const FIRST: Bytes = Bytes::from_static(b"0");

/// The operations on sessions, whatever runs the scripts.
#[derive(Clone, Copy, Debug)]
pub struct SessionScripts<'r, R>(pub &'r R);

impl<R: RunScripts> SessionScripts<'_, R> {
    async fn run(&self, script: &'static Script, user: UserId, args: Args) -> Result<Reply> {
        let key = user_key(self.0.prefix(), user);
        self.0.run_script(script, key, args).await.map(Reply)
    }

    /// [`SessionStore::create`]
    pub async fn create(&self, new: &NewSession, limit: u32) -> Result<Created> {
        let args = create_args(new, limit)?;
        let mut fields = self.run(&script::CREATE, new.user, args).await?.fields()?;
        Ok(Created {
            idle_expires: fields.time()?,
            over_limit: session_views(fields.lists()?)?,
            evicted: fields.lists()?.into_iter().map(evicted).collect::<Result<_>>()?,
        })
    }

    /// [`SessionStore::rotate`]
    pub async fn rotate(&self, presented: &Presented) -> Result<Rotation> {
        Ok(self.rotate_at(presented).await?.0)
    }

    /// The rotation, and the time of the server if it tells that.
    async fn rotate_at(&self, presented: &Presented) -> Result<(Rotation, Option<UnixMillis>)> {
        rotation(
            self.run(&script::ROTATE, presented.user, rotate_args(presented)?)
                .await?,
        )
    }

    /// [`SessionStore::end_all`]
    pub async fn end_all(&self, user: UserId, sessions: &[SessionId]) -> Result<u32> {
        let args = args! {}.followed_by(sessions.iter().copied().map(id));
        let ended = self.run(&script::END, user, args).await?;
        u32::try_from(ended.int()?).map_err(Error::internal)
    }

    /// [`SessionStore::end_user`]
    pub async fn end_user(&self, user: UserId, epoch: i64, keep: Option<SessionId>) -> Result<u32> {
        let (mut cursor, mut ended) = (FIRST, 0);
        for _ in 0..MAX_PAGES {
            let args = args! {
                cursor: cursor,
                max_read: number(READ_AT_ONCE.into()),
                epoch: number(epoch),
                keep: keep.map_or_else(Bytes::new, id),
            };
            let mut page = self.run(&script::END_USER, user, args).await?.fields()?;
            ended += page.u32()?;
            cursor = page.next()?.bytes()?;
            if cursor == FIRST {
                break;
            }
        }
        Ok(ended)
    }

    /// [`SessionStore::list`]
    pub async fn list(&self, user: UserId, era: i64) -> Result<Vec<SessionView>> {
        let (mut cursor, mut found) = (FIRST, Vec::new());
        for _ in 0..MAX_PAGES {
            let args = args! { cursor: cursor, max_read: number(READ_AT_ONCE.into()), era: number(era) };
            let mut page = self.run(&script::LIST, user, args).await?.fields()?;
            found.extend(page.lists()?);
            cursor = page.next()?.bytes()?;
            if cursor == FIRST {
                break;
            }
        }
        session_views(found)
    }
}

#[async_trait]
impl SessionStore for Redis {
    async fn create(&self, new: &NewSession, limit: u32) -> Result<Created> {
        SessionScripts(self).create(new, limit).await
    }

    async fn rotate(&self, presented: &Presented) -> Result<Rotation> {
        let sent = self.client.monotonic();
        let (rotation, now) = SessionScripts(self).rotate_at(presented).await?;
        if let Some(now) = now {
            self.client
                .note_time(&user_key(&self.prefix, presented.user), now, sent);
        }
        Ok(rotation)
    }

    fn time_in(&self, user: UserId, left: Duration) -> Option<UnixMillis> {
        // After the timeout of the call its caller is told that it failed.
        let left = left.min(self.settings.timeout);
        Some(self.client.latest_time(&user_key(&self.prefix, user))?.plus(left))
    }

    async fn end_all(&self, user: UserId, sessions: &[SessionId]) -> Result<u32> {
        SessionScripts(self).end_all(user, sessions).await
    }

    async fn end_user(&self, user: UserId, epoch: i64, keep: Option<SessionId>) -> Result<u32> {
        SessionScripts(self).end_user(user, epoch, keep).await
    }

    async fn list(&self, user: UserId, era: i64) -> Result<Vec<SessionView>> {
        SessionScripts(self).list(user, era).await
    }

    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    fn reconnections(&self) -> Option<watch::Receiver<u64>> {
        Some(self.client.reconnections())
    }

    async fn advance_counters(&self, known: &[(String, i64)], backup_steps: i64) -> Result<ComparedCounters> {
        self.advance(known, backup_steps).await
    }

    async fn raise_counters(&self, behind: &[BackupCounter]) -> Result<()> {
        self.raise(behind).await
    }
}

impl Redis {
    pub(super) async fn run(&self, script: &'static script::Script, key: String, args: Args) -> Result<Reply> {
        self.client.run(script, vec![key], args).await
    }
}

fn user_key(prefix: &str, user: UserId) -> String {
    format!("{prefix}:s:{{{user}}}")
}

fn create_args(new: &NewSession, limit: u32) -> Result<Args> {
    Ok(args! {
        session_id: id(new.id),
        limit: number(limit.into()),
        max_records: number(max_records(limit).into()),
        max_evicted: number(i64::try_from(MAX_EVICTED).map_err(Error::internal)?),
        max_read: number(max_records(limit).saturating_add(READ_AT_ONCE).into()),
        expired_record_ttl: duration(EXPIRED_RECORD_TTL),
        idle_ttl: duration(new.idle_ttl),
        secret_hash: Bytes::copy_from_slice(&new.secret_hash),
        refresh_key: number(new.refresh_key.into()),
        era: number(new.era),
        client: text(new.client.as_str())?,
        scope: names(&new.scope)?,
        audience: names(&new.audience)?,
        created: number(new.created.0),
        expires: number(new.expires.0),
        global_epoch: number(new.epochs.global),
        user_epoch: number(new.epochs.user),
        client_epoch: number(new.epochs.client),
        user_agent: text(&new.context.user_agent)?,
        ip_address: text(&new.context.ip_address)?,
        device_name: text(&new.context.device_name)?,
    })
}

fn rotate_args(presented: &Presented) -> Result<Args> {
    let (scopes, audiences) = (&presented.allowed_scope, &presented.allowed_audience);
    Ok(args! {
        session_id: id(presented.session),
        secret_hash: Bytes::copy_from_slice(&presented.secret_hash),
        era: number(presented.era),
        generation: number(presented.generation.into()),
        attempt_id: text(&presented.attempt_id)?,
        grace: duration(presented.grace),
        tolerant: flag(presented.policy == ReusePolicy::Tolerant),
        idle_ttl: duration(presented.idle_ttl),
        refresh_key: number(presented.refresh_key.into()),
        user_agent: text(&presented.context.user_agent)?,
        ip_address: text(&presented.context.ip_address)?,
        device_name: text(&presented.context.device_name)?,
        expired_record_ttl: duration(EXPIRED_RECORD_TTL),
        max_fast_forward: number(MAX_FAST_FORWARD.into()),
        caller_scope_prefix: Bytes::from_static(CALLER_SCOPE_PREFIX.as_bytes()),
        scope_requested: names(&presented.scope)?,
        scope_any: flag(scopes.any),
        scope_own: flag(scopes.own),
        scope_names: names(&scopes.names)?,
        audience_requested: names(&presented.audience)?,
        audience_any: flag(audiences.any),
        audience_own: flag(audiences.own),
        audience_names: names(&audiences.names)?,
        own_audience: names(std::slice::from_ref(&presented.own_audience))?,
        max_claims_bytes: number(presented.max_claims_bytes.into()),
        may_be_late: flag(presented.may_be_late),
        not_after: number(presented.not_after.map_or(0, |time| time.0)),
    })
}

fn id(id: SessionId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

fn number(number: i64) -> Bytes {
    number.clamp(0, MAX_NUMBER).to_string().into()
}

/// A duration in milliseconds.
fn duration(duration: Duration) -> Bytes {
    number(millis(duration))
}

fn flag(yes: bool) -> Bytes {
    Bytes::from_static(if yes { b"1" } else { b"0" })
}

fn text(text: &str) -> Result<Bytes> {
    bounded(text.to_owned(), MAX_TEXT_LEN)
}

fn names(names: &[String]) -> Result<Bytes> {
    if names.iter().any(|name| name.is_empty() || name.contains(' ')) {
        return Err(Error::internal("a scope or audience is empty or contains a space"));
    }
    bounded(names.join(" "), MAX_LIST_LEN)
}

fn bounded(text: String, max_len: usize) -> Result<Bytes> {
    if text.len() > max_len {
        return Err(Error::internal("a text is too long for a session record"));
    }
    Ok(text.into())
}

/// The sessions that scripts returned, oldest first, each once.
fn session_views(lists: Vec<Fields>) -> Result<Vec<SessionView>> {
    let mut views = lists.into_iter().map(session_view).collect::<Result<Vec<_>>>()?;
    views.sort_by_key(|view| (view.created, view.id));
    views.dedup_by_key(|view| view.id);
    Ok(views)
}

fn evicted(mut fields: Fields) -> Result<EvictedSession> {
    Ok(EvictedSession {
        id: SessionId(fields.uuid()?),
        expires: fields.time()?,
    })
}

fn session_view(mut fields: Fields) -> Result<SessionView> {
    Ok(SessionView {
        id: SessionId(fields.uuid()?),
        client: fields.text()?.parse()?,
        created: fields.time()?,
        refreshed: fields.time()?,
        expires: fields.time()?,
        absolute_expires: fields.time()?,
        scope: fields.names()?,
        epochs: Epochs {
            global: fields.int()?,
            user: fields.int()?,
            client: fields.int()?,
        },
        context: SessionContext {
            user_agent: fields.text()?,
            ip_address: fields.text()?,
            device_name: fields.text()?,
        },
    })
}

/// The rotation, and the time of Redis if the reply has it.
fn rotation(reply: Reply) -> Result<(Rotation, Option<UnixMillis>)> {
    let mut fields = reply.fields()?;
    let name = fields.text()?;
    let rotation = match name.as_str() {
        "late" => return Ok((Rotation::Late, Some(fields.time()?))),
        "replayed" => {
            let _lost = fields.u32()?;
            Rotation::Replayed(rotated(&mut fields)?)
        }
        "rotated" => {
            let lost = fields.u32()?;
            let rotated = rotated(&mut fields)?;
            match lost {
                0 => Rotation::Rotated(rotated),
                lost => Rotation::FastForwarded { rotated, lost },
            }
        }
        "reused" => Rotation::Reused(evidence(&mut fields)?),
        "refused" => Rotation::Refused(refusal(&mut fields)?),
        "expired" => Rotation::Expired,
        "unknown" => Rotation::Unknown,
        "too_far_ahead" => Rotation::TooFarAhead,
        other => {
            let message = format!("the script ROTATE returned the unknown rotation {other}");
            return Err(Error::internal(message));
        }
    };
    let now = rotation.success().map(|rotated| rotated.now);
    Ok((rotation, now))
}

fn rotated(fields: &mut Fields) -> Result<Rotated> {
    Ok(Rotated {
        generation: fields.u32()?,
        refresh_key: fields.u32()?,
        scope: fields.names()?,
        audience: fields.names()?,
        created: fields.time()?,
        idle_expires: fields.time()?,
        expires: fields.time()?,
        now: fields.time()?,
    })
}

fn evidence(fields: &mut Fields) -> Result<Evidence> {
    let first = fields.int()? == 1;
    let (presented, current) = (fields.u32()?, fields.u32()?);
    Ok(Evidence {
        first,
        presented,
        current,
        rotated: fields.time()?,
        successor_used: current > presented.saturating_add(1),
        expires: fields.time()?,
    })
}

fn refusal(fields: &mut Fields) -> Result<Refusal> {
    let refusal = match (fields.text()?.as_str(), fields.text()?.as_str()) {
        ("scope", "wider") => Refusal::WiderScope,
        ("scope", "lost") => Refusal::LostScope,
        ("audience", "wider") => Refusal::WiderAudience,
        ("audience", "lost") => Refusal::LostAudience,
        ("token", "large") => return Ok(Refusal::TooLarge),
        (what, why) => {
            let message = format!("the script ROTATE refused for the unknown reason {what} {why}");
            return Err(Error::internal(message));
        }
    };
    Ok(refusal(fields.text()?))
}
