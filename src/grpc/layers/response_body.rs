//! The body of a response, which supervises a stream for as long as it lasts.

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
use super::gates::GatePermit;
use super::unread::UnreadResponse;
use super::{Peer, Pipeline};
use crate::grpc::policy::{Access, Method};
use crate::grpc::status::{log, status};
use crate::listener::Busy;
use crate::model::{Caller, Error, ErrorKind, Result};
use crate::secret::SecretText;

/// How often a stream is checked: whether it is idle, past its deadline or draining, and whether its caller is still
/// authorized.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The body of a response.
pub struct ResponseBody {
    body: tonic::body::Body,
    state: BodyState,
    _busy: Option<Busy>,
}

enum BodyState {
    /// The body of a unary call. It is complete, and must be read soon.
    Unary { _unread: UnreadResponse },
    /// The body of a stream.
    Stream(Box<StreamState>),
    /// The pipeline has ended the stream; the trailers have been sent.
    Terminated,
}

/// What is needed to supervise a stream.
pub(super) struct StreamState {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) method: &'static Method,
    pub(super) request_id: http::HeaderValue,
    pub(super) bearer: Option<SecretText>,
    pub(super) peer: Arc<Peer>,
    /// Longest time without a message.
    pub(super) idle_timeout: Duration,
    pub(super) deadline: Option<Instant>,
    pub(super) last_activity: Instant,
    pub(super) check_timer: Pin<Box<Sleep>>,
    /// A re-authentication of the caller that reads a store.
    pub(super) pending_auth: Option<BoxFuture<'static, Result<Arc<Caller>>>>,
    /// How the stream ended, once it has.
    pub(super) code: Option<Code>,
    pub(super) _permit: GatePermit,
}

impl ResponseBody {
    pub(super) fn unary(body: tonic::body::Body, unread: UnreadResponse, busy: Option<Busy>) -> Self {
        let state = BodyState::Unary { _unread: unread };
        Self {
            body,
            state,
            _busy: busy,
        }
    }

    pub(super) fn stream(body: tonic::body::Body, stream: StreamState, busy: Option<Busy>) -> Self {
        let state = BodyState::Stream(Box::new(stream));
        Self {
            body,
            state,
            _busy: busy,
        }
    }
}

impl StreamState {
    pub(super) fn timer() -> Pin<Box<Sleep>> {
        Box::pin(tokio::time::sleep(CHECK_INTERVAL))
    }

    /// What is sent next: the frame that the service gave, or the end of the stream.
    fn next(&mut self, polled: Poll<PolledFrame>, cx: &mut Context<'_>) -> Poll<Next> {
        let now = Instant::now();
        let frame = match polled {
            Poll::Ready(frame) => {
                self.last_activity = now;
                if now < self.check_timer.deadline() {
                    return Poll::Ready(Next::Frame(frame));
                }
                Some(frame)
            }
            Poll::Pending => None,
        };
        while self.check_timer.as_mut().poll(cx).is_ready() {
            self.check_timer.as_mut().reset(now + CHECK_INTERVAL);
            if let Err(error) = self.check(now) {
                return Poll::Ready(Next::Terminate(status(error)));
            }
        }
        if let Some(pending_auth) = &mut self.pending_auth
            && let Poll::Ready(caller) = pending_auth.as_mut().poll(cx)
        {
            self.pending_auth = None;
            if let Err(error) = self.check_caller(caller) {
                return Poll::Ready(Next::Terminate(status(error)));
            }
        }
        frame.map_or(Poll::Pending, |frame| Poll::Ready(Next::Frame(frame)))
    }

    /// Returns an error if the stream must end now.
    fn check(&mut self, now: Instant) -> Result<()> {
        if self.pipeline.stop.is_draining() {
            return Err(ErrorKind::ShuttingDown.into());
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(ErrorKind::DeadlineExceeded.into());
        }
        if now.saturating_duration_since(self.last_activity) >= self.idle_timeout {
            return Err(Error::new(
                ErrorKind::DeadlineExceeded,
                "the stream was idle for too long",
            ));
        }
        self.reauthenticate()
    }

    /// Authenticates the caller again: a stream ends when the caller's token or scope does.
    fn reauthenticate(&mut self) -> Result<()> {
        if self.method.access == Access::Anyone {
            return Ok(());
        }
        let credential = Credential {
            bearer: self.bearer.as_ref().map(SecretText::expose),
            peer: &self.peer,
        };
        match self.pipeline.authenticator.authenticate(credential) {
            Authentication::Ready(caller) => self.check_caller(caller)?,
            Authentication::Pending(pending_auth) => self.pending_auth = Some(pending_auth),
        }
        Ok(())
    }

    /// The stream goes on while the caller cannot be authenticated because a store is down: its heartbeats say how
    /// stale its data is.
    fn check_caller(&self, caller: Result<Arc<Caller>>) -> Result<()> {
        match caller {
            Ok(caller) => self.method.access.check(&caller),
            Err(error) if error.kind == ErrorKind::CallerUnauthenticated => Err(error),
            Err(_) => Ok(()),
        }
    }
}

/// What a body returns when it is polled; `None` is its end.
type PolledFrame = Option<Result<Frame<Bytes>, Status>>;

enum Next {
    /// Pass on what the service gave.
    Frame(PolledFrame),
    /// End the stream with this status.
    Terminate(Status),
}

impl Drop for StreamState {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        self.pipeline.metrics.stream_ended(self.method, code);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PolledFrame> {
        let this = self.get_mut();
        let stream = match &mut this.state {
            BodyState::Unary { .. } => return Pin::new(&mut this.body).poll_frame(cx),
            BodyState::Terminated => return Poll::Ready(None),
            BodyState::Stream(stream) => stream,
        };
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let next = std::task::ready!(stream.next(polled, cx));
        match next {
            Next::Frame(frame) => {
                if let Some(Ok(frame)) = &frame
                    && let Some(trailers) = frame.trailers_ref()
                {
                    stream.code = Some(Status::from_header_map(trailers).map_or(Code::Ok, |status| status.code()));
                }
                Poll::Ready(frame)
            }
            Next::Terminate(status) => {
                let id = stream.request_id.to_str().unwrap_or_default();
                log(&status, stream.method.path, id);
                stream.code = Some(status.code());
                this.state = BodyState::Terminated;
                // Frames that the service has not sent yet are dropped.
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
            // The next poll may return trailers that say how the stream ended.
            BodyState::Stream(_) => false,
            BodyState::Terminated => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            BodyState::Unary { .. } => self.body.size_hint(),
            BodyState::Stream(_) | BodyState::Terminated => SizeHint::default(),
        }
    }
}
