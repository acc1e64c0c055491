//! The body of an answer on its way out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};

use super::authenticate::{Authentication, Credential};
use super::concurrency::Permit;
use super::unread::UnreadResponse;
use super::{Peer, Pipeline};
use crate::grpc::policy::{Access, METHODS};
use crate::grpc::status::{log, status};
use crate::model::{Caller, Error, ErrorKind, Result};
use crate::secret::SecretText;

/// How often a stream is looked at: whether it is idle, over, draining, and whether its caller is still good.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// An answer's body.
pub struct ResponseBody {
    body: tonic::body::Body,
    state: BodyState,
}

enum BodyState {
    /// Of a unary call: made at once, and to be taken soon.
    Unary { _waiting: UnreadResponse },
    /// Of a stream, which is looked after until it ends.
    StreamState(Box<StreamState>),
    /// Ended by us: the trailers have been sent.
    Ended,
}

/// What is known of a stream.
pub(super) struct StreamState {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) method: usize,
    pub(super) request_id: http::HeaderValue,
    pub(super) bearer: Option<SecretText>,
    pub(super) peer: Arc<Peer>,
    pub(super) idle: Duration,
    pub(super) deadline: Option<Instant>,
    pub(super) last_activity: Instant,
    pub(super) check_timer: Pin<Box<Sleep>>,
    /// Asks a store whether the caller is still good.
    pub(super) pending_auth: Option<BoxFuture<'static, Result<Arc<Caller>>>>,
    pub(super) code: Option<Code>,
    pub(super) _pass: Permit,
}

impl ResponseBody {
    pub(super) fn unary(body: tonic::body::Body, waiting: UnreadResponse) -> Self {
        let state = BodyState::Unary { _waiting: waiting };
        Self { body, state }
    }

    pub(super) fn stream(body: tonic::body::Body, stream: StreamState) -> Self {
        let state = BodyState::StreamState(Box::new(stream));
        Self { body, state }
    }
}

impl StreamState {
    pub(super) fn timer() -> Pin<Box<Sleep>> {
        Box::pin(tokio::time::sleep(CHECK_INTERVAL))
    }

    /// What of the stream goes to the peer next: what the service gave, or the end that it has come to.
    fn next(&mut self, polled: Polled, cx: &mut Context<'_>) -> Poll<Next> {
        let now = Instant::now();
        let given = match polled {
            Poll::Ready(given) => {
                self.last_activity = now;
                if now < self.check_timer.deadline() {
                    return Poll::Ready(Next::Given(given));
                }
                Some(given)
            }
            Poll::Pending => None,
        };
        while self.check_timer.as_mut().poll(cx).is_ready() {
            self.check_timer.as_mut().reset(now + CHECK_INTERVAL);
            if let Err(error) = self.may_go_on(now) {
                return Poll::Ready(Next::Ended(status(error)));
            }
        }
        if let Some(pending_auth) = &mut self.pending_auth
            && let Poll::Ready(caller) = pending_auth.as_mut().poll(cx)
        {
            self.pending_auth = None;
            if let Err(error) = self.judge(caller) {
                return Poll::Ready(Next::Ended(status(error)));
            }
        }
        given.map_or(Poll::Pending, |given| Poll::Ready(Next::Given(given)))
    }

    fn may_go_on(&mut self, now: Instant) -> Result<()> {
        if self.pipeline.stop.is_draining() {
            return Err(ErrorKind::ShuttingDown.into());
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(ErrorKind::DeadlineExceeded.into());
        }
        if now.saturating_duration_since(self.last_activity) >= self.idle {
            return Err(Error::new(
                ErrorKind::DeadlineExceeded,
                "the stream was idle for too long",
            ));
        }
        self.caller_is_good()
    }

    /// A stream ends when its caller's token or right does.
    fn caller_is_good(&mut self) -> Result<()> {
        if METHODS[self.method].access == Access::Anyone {
            return Ok(());
        }
        let credential = Credential {
            bearer: self.bearer.as_ref().map(SecretText::expose),
            peer: &self.peer,
        };
        match self.pipeline.authenticator.authenticate(credential) {
            Authentication::Ready(caller) => self.judge(caller)?,
            Authentication::Pending(pending_auth) => self.pending_auth = Some(pending_auth),
        }
        Ok(())
    }

    /// While it cannot be told who calls, the stream goes on: it says itself how stale it is.
    fn judge(&self, caller: Result<Arc<Caller>>) -> Result<()> {
        match caller {
            Ok(caller) => Ok(METHODS[self.method].access.check(&caller)?),
            Err(error) if error.kind == ErrorKind::CallerUnauthenticated => Err(error),
            Err(_) => Ok(()),
        }
    }
}

type Given = Option<Result<Frame<Bytes>, Status>>;
type Polled = Poll<Given>;

enum Next {
    Given(Given),
    Ended(Status),
}

impl Drop for StreamState {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        self.pipeline.metrics.ended(self.method, code);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Given> {
        let this = self.get_mut();
        let stream = match &mut this.state {
            BodyState::Unary { .. } => return Pin::new(&mut this.body).poll_frame(cx),
            BodyState::Ended => return Poll::Ready(None),
            BodyState::StreamState(stream) => stream,
        };
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let next = std::task::ready!(stream.next(polled, cx));
        match next {
            Next::Given(given) => {
                if let Some(Ok(frame)) = &given
                    && let Some(trailers) = frame.trailers_ref()
                {
                    stream.code = Some(Status::from_header_map(trailers).map_or(Code::Ok, |status| status.code()));
                }
                Poll::Ready(given)
            }
            Next::Ended(status) => {
                let id = stream.request_id.to_str().unwrap_or_default();
                log(&status, METHODS[stream.method].path, id);
                stream.code = Some(status.code());
                this.state = BodyState::Ended;
                // What the service still had to say is dropped with its body.
                this.body = tonic::body::Body::empty();
                let mut trailers = HeaderMap::new();
                let written = status.add_header(&mut trailers);
                Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            BodyState::Unary { .. } => self.body.is_end_stream(),
            // Asked for the next frame, it may say how the stream ended.
            BodyState::StreamState(_) => false,
            BodyState::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            BodyState::Unary { .. } => self.body.size_hint(),
            BodyState::StreamState(_) | BodyState::Ended => SizeHint::default(),
        }
    }
}
