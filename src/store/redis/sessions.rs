//! Live sessions: arguments in, answers out. What they mean is decided in `lua/`.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

use super::reply::{Reply, Row};
use super::{Redis, script};
use crate::clock::{UnixMillis, millis};
use crate::model::grant::{Allowed, OWN_PREFIX};
use crate::model::session::{
    Created, EXPIRED_RECORD_TTL, Evidence, MAX_FAST_FORWARD, NewSession, Presented, Refusal, Rotated, SessionContext,
    SessionView,
};
use crate::model::{Epochs, Error, Result, ReusePolicy, Rotation, SessionId, UserId};
use crate::store::SessionStore;

/// Numbers take six bytes in the record: milliseconds until the year 10889.
const LARGEST: i64 = (1 << 48) - 1;

/// Texts are preceded by one byte of length.
const LONGEST_TEXT: usize = 255;

/// Lists are preceded by two.
const LONGEST_LIST: usize = 65_535;

#[async_trait]
impl SessionStore for Redis {
    async fn create(&self, new: &NewSession, limit: u32) -> Result<Created> {
        let args = vec![
            id(new.id),
            number(limit.into()),
            span(EXPIRED_RECORD_TTL),
            span(new.idle_ttl),
            Bytes::copy_from_slice(&new.secret_hash),
            number(new.refresh_key.into()),
            number(new.era),
            text(new.client.as_str())?,
            names(&new.scope)?,
            names(&new.audience)?,
            number(new.created.0),
            number(new.expires.0),
            number(new.epochs.global),
            number(new.epochs.user),
            number(new.epochs.client),
            text(&new.context.user_agent)?,
            text(&new.context.ip_address)?,
            text(&new.context.device_name)?,
        ];
        let mut row = self.run(&script::CREATE, self.user_key(new.user), args).await?.row()?;
        Ok(Created {
            idle_expires: row.time()?,
            over_limit: views(row.rows()?)?,
        })
    }

    async fn rotate(&self, presented: &Presented) -> Result<Rotation> {
        let mut args = vec![
            id(presented.session),
            Bytes::copy_from_slice(&presented.secret_hash),
            number(presented.era),
            number(presented.generation.into()),
            text(&presented.attempt_id)?,
            span(presented.grace),
            flag(presented.policy == ReusePolicy::Tolerant),
            span(presented.idle_ttl),
            number(presented.refresh_key.into()),
            text(&presented.context.user_agent)?,
            text(&presented.context.ip_address)?,
            text(&presented.context.device_name)?,
            span(EXPIRED_RECORD_TTL),
            number(MAX_FAST_FORWARD.into()),
            Bytes::from_static(OWN_PREFIX.as_bytes()),
        ];
        for (requested, allowed) in [
            (&presented.scope, &presented.allowed_scope),
            (&presented.audience, &presented.allowed_audience),
        ] {
            let Allowed {
                any,
                own,
                names: allowed,
            } = allowed;
            args.extend([names(requested)?, flag(*any), flag(*own), names(allowed)?]);
        }
        args.push(names(std::slice::from_ref(&presented.own_audience))?);
        args.push(number(presented.max_claims_bytes.into()));
        rotation(self.run(&script::ROTATE, self.user_key(presented.user), args).await?)
    }

    async fn end(&self, user: UserId, session: SessionId) -> Result<bool> {
        let ended = self.run(&script::END, self.user_key(user), vec![id(session)]).await?;
        Ok(ended.int()? == 1)
    }

    async fn end_user(&self, user: UserId, epoch: i64, keep: Option<SessionId>) -> Result<u32> {
        let args = vec![number(epoch), keep.map_or_else(Bytes::new, id)];
        let ended = self.run(&script::END_USER, self.user_key(user), args).await?;
        u32::try_from(ended.int()?).map_err(Error::internal)
    }

    async fn list(&self, user: UserId, era: i64) -> Result<Vec<SessionView>> {
        let found = self.run(&script::LIST, self.user_key(user), vec![number(era)]).await?;
        views(found.row()?.into_rows()?)
    }

    async fn ping(&self) -> Result<()> {
        self.link.ping().await
    }

    fn reconnections(&self) -> Option<watch::Receiver<u64>> {
        Some(self.link.reconnections())
    }

    async fn advance_counters(&self, known: &[(String, i64)]) -> Result<Vec<(String, i64)>> {
        self.advance(known).await
    }

    async fn raise_counters(&self, values: &[(String, i64)]) -> Result<()> {
        self.raise(values).await
    }
}

impl Redis {
    pub(super) async fn run(&self, script: &'static script::Script, key: String, args: Vec<Bytes>) -> Result<Reply> {
        self.link.run(script, key, args).await
    }

    fn user_key(&self, user: UserId) -> String {
        format!("{}:s:{{{user}}}", self.prefix)
    }
}

fn id(id: SessionId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

fn number(number: i64) -> Bytes {
    number.clamp(0, LARGEST).to_string().into()
}

fn span(span: Duration) -> Bytes {
    number(millis(span))
}

fn flag(yes: bool) -> Bytes {
    Bytes::from_static(if yes { b"1" } else { b"0" })
}

fn text(text: &str) -> Result<Bytes> {
    bounded(text.to_owned(), LONGEST_TEXT)
}

fn names(names: &[String]) -> Result<Bytes> {
    if names.iter().any(|name| name.is_empty() || name.contains(' ')) {
        return Err(Error::internal("a scope or audience that no request could name"));
    }
    bounded(names.join(" "), LONGEST_LIST)
}

fn bounded(text: String, longest: usize) -> Result<Bytes> {
    if text.len() > longest {
        return Err(Error::internal("too long for a session record"));
    }
    Ok(text.into())
}

fn views(rows: Vec<Row>) -> Result<Vec<SessionView>> {
    let mut views = rows.into_iter().map(view).collect::<Result<Vec<_>>>()?;
    views.sort_by_key(|view| (view.created, view.id));
    Ok(views)
}

fn view(mut row: Row) -> Result<SessionView> {
    let session = |id: Uuid| SessionId(id);
    Ok(SessionView {
        id: session(row.uuid()?),
        client: row.text()?.parse()?,
        created: row.time()?,
        refreshed: row.time()?,
        expires: row.time()?,
        absolute_expires: row.time()?,
        scope: row.names()?,
        epochs: Epochs {
            global: row.int()?,
            user: row.int()?,
            client: row.int()?,
        },
        context: SessionContext {
            user_agent: row.text()?,
            ip_address: row.text()?,
            device_name: row.text()?,
        },
    })
}

fn rotation(reply: Reply) -> Result<Rotation> {
    let mut row = reply.row()?;
    let what = row.text()?;
    Ok(match what.as_str() {
        "rotated" | "replayed" => {
            let lost = row.u32()?;
            let rotated = rotated(&mut row)?;
            match (what.as_str(), lost) {
                ("replayed", _) => Rotation::Replayed(rotated),
                (_, 0) => Rotation::Rotated(rotated),
                (_, lost) => Rotation::FastForwarded { rotated, lost },
            }
        }
        "reused" => Rotation::Reused(evidence(&mut row)?),
        "refused" => Rotation::Refused(refusal(&mut row)?),
        "expired" => Rotation::Expired,
        "unknown" => Rotation::Unknown,
        "too_far_ahead" => Rotation::TooFarAhead,
        other => return Err(Error::internal(format!("the rotate script answered {other}"))),
    })
}

fn rotated(row: &mut Row) -> Result<Rotated> {
    Ok(Rotated {
        generation: row.u32()?,
        refresh_key: row.u32()?,
        scope: row.names()?,
        audience: row.names()?,
        created: row.time()?,
        idle_expires: row.time()?,
        expires: row.time()?,
        now: row.time()?,
    })
}

fn evidence(row: &mut Row) -> Result<Evidence> {
    let first = row.int()? == 1;
    let (presented, current): (u32, u32) = (row.u32()?, row.u32()?);
    let rotated: UnixMillis = row.time()?;
    Ok(Evidence {
        first,
        presented,
        current,
        rotated,
        successor_used: current > presented.saturating_add(1),
        expires: row.time()?,
    })
}

fn refusal(row: &mut Row) -> Result<Refusal> {
    let refusal = match (row.text()?.as_str(), row.text()?.as_str()) {
        ("scope", "wider") => Refusal::WiderScope,
        ("scope", "lost") => Refusal::LostScope,
        ("audience", "wider") => Refusal::WiderAudience,
        ("audience", "lost") => Refusal::LostAudience,
        ("token", "large") => return Ok(Refusal::TooLarge),
        _ => return Err(Error::internal("the rotate script refused what it does not name")),
    };
    Ok(refusal(row.text()?))
}
