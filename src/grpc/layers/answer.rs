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
use super::gate::Pass;
use super::stall::Waiting;
use super::{Frame as Layers, Peer};
use crate::grpc::policy::{Access, METHODS};
use crate::grpc::status::{log, status};
use crate::model::{Caller, Error, ErrorKind, Result};
use crate::secret::SecretText;

/// How often a stream is looked at: whether it is idle, over, draining, and whether its caller is still good.
const LOOK: Duration = Duration::from_secs(1);

/// An answer's body.
pub struct Answer {
    body: tonic::body::Body,
    kind: Kind,
}

enum Kind {
    /// Of a unary call: made at once, and to be taken soon.
    Unary { _waiting: Waiting },
    /// Of a stream, which is looked after until it ends.
    Stream(Box<Stream>),
    /// Ended by us: the trailers have been sent.
    Ended,
}

/// What is known of a stream.
pub(super) struct Stream {
    pub(super) layers: Arc<Layers>,
    pub(super) method: usize,
    pub(super) request_id: http::HeaderValue,
    pub(super) bearer: Option<SecretText>,
    pub(super) peer: Arc<Peer>,
    pub(super) idle: Duration,
    pub(super) deadline: Option<Instant>,
    pub(super) moved: Instant,
    pub(super) look: Pin<Box<Sleep>>,
    /// Asks a store whether the caller is still good.
    pub(super) asking: Option<BoxFuture<'static, Result<Arc<Caller>>>>,
    pub(super) code: Option<Code>,
    pub(super) _pass: Pass,
}

impl Answer {
    pub(super) fn unary(body: tonic::body::Body, waiting: Waiting) -> Self {
        let kind = Kind::Unary { _waiting: waiting };
        Self { body, kind }
    }

    pub(super) fn stream(body: tonic::body::Body, stream: Stream) -> Self {
        let kind = Kind::Stream(Box::new(stream));
        Self { body, kind }
    }
}

impl Stream {
    pub(super) fn timer() -> Pin<Box<Sleep>> {
        Box::pin(tokio::time::sleep(LOOK))
    }

    /// What of the stream goes to the peer next: what the service gave, or the end that it has come to.
    fn next(&mut self, polled: Polled, cx: &mut Context<'_>) -> Poll<Next> {
        let now = Instant::now();
        let given = match polled {
            Poll::Ready(given) => {
                self.moved = now;
                if now < self.look.deadline() {
                    return Poll::Ready(Next::Given(given));
                }
                Some(given)
            }
            Poll::Pending => None,
        };
        while self.look.as_mut().poll(cx).is_ready() {
            self.look.as_mut().reset(now + LOOK);
            if let Err(error) = self.may_go_on(now) {
                return Poll::Ready(Next::Ended(status(error)));
            }
        }
        if let Some(asking) = &mut self.asking
            && let Poll::Ready(caller) = asking.as_mut().poll(cx)
        {
            self.asking = None;
            if let Err(error) = self.judge(caller) {
                return Poll::Ready(Next::Ended(status(error)));
            }
        }
        given.map_or(Poll::Pending, |given| Poll::Ready(Next::Given(given)))
    }

    fn may_go_on(&mut self, now: Instant) -> Result<()> {
        if self.layers.stop.is_draining() {
            return Err(ErrorKind::ShuttingDown.into());
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(ErrorKind::DeadlineExceeded.into());
        }
        if now.saturating_duration_since(self.moved) >= self.idle {
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
        match self.layers.authenticator.authenticate(credential) {
            Authentication::Known(caller) => self.judge(caller)?,
            Authentication::Asking(asking) => self.asking = Some(asking),
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

impl Drop for Stream {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        self.layers.metrics.ended(self.method, code);
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Given> {
        let this = self.get_mut();
        let stream = match &mut this.kind {
            Kind::Unary { .. } => return Pin::new(&mut this.body).poll_frame(cx),
            Kind::Ended => return Poll::Ready(None),
            Kind::Stream(stream) => stream,
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
                this.kind = Kind::Ended;
                // What the service still had to say is dropped with its body.
                this.body = tonic::body::Body::empty();
                let mut trailers = HeaderMap::new();
                let written = status.add_header(&mut trailers);
                Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.kind {
            Kind::Unary { .. } => self.body.is_end_stream(),
            // Asked for the next frame, it may say how the stream ended.
            Kind::Stream(_) => false,
            Kind::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.kind {
            Kind::Unary { .. } => self.body.size_hint(),
            Kind::Stream(_) | Kind::Ended => SizeHint::default(),
        }
    }
}
