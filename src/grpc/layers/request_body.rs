//! The body of a request: its time limits, its size limit and its share of the memory for requests under way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use super::gate_limits::GateKind;
use super::gates::{Consumer, GatePermit};
use super::gzip::Gunzip;
use super::message_progress::MessageProgress;
use crate::grpc::policy::{Method, TimeLimit};
use crate::grpc::status::status;
use crate::model::{Error, ErrorKind, Result};

/// Bytes of headers and messages that a call may hold without a share of the gate of request bytes: more than usual calls
/// have, so that those never touch that gate. The gate of calls bounds how often this is in use.
pub(super) const FREE_BYTES: usize = 8 * 1024;

/// Memory of one header in the map, beside its value: `http::HeaderMap` has 104 bytes an entry and an index.
const HEADER_BYTES: usize = 112;

/// The body of a request.
///
/// - A request of one message must be complete within the receive limit, whatever the deadline of the call is.
/// - Of a stream, each message must be complete within the receive limit once it has begun, and the pause between two
///   messages must not be longer than the idle limit.
/// - A message that is longer than the method allows fails with `OUT_OF_RANGE` when its length is known.
/// - A message that finds no place in the gate of request bytes fails with `OVERLOADED`.
/// - Messages that are compressed with gzip are decompressed; see `Gunzip`.
#[derive(Debug)]
pub struct RequestBody<B = Incoming> {
    body: B,
    progress: MessageProgress,
    max_message: usize,
    receive_limit: Duration,
    /// `None` for a request of one message.
    idle_limit: Option<Duration>,
    /// When the request, the message that is incomplete, or the pause began.
    since: Instant,
    /// Set only once the body has to wait.
    timer: Option<Pin<Box<Sleep>>>,
    share: MemoryShare,
    /// `None` for uncompressed messages.
    gunzip: Option<Box<Gunzip>>,
}

/// The memory that a request holds.
#[derive(Debug)]
struct MemoryShare {
    consumer: Arc<Consumer>,
    /// Estimated memory of the headers.
    headers: usize,
    /// Held beyond [`FREE_BYTES`].
    held: Option<GatePermit>,
    held_bytes: usize,
}

impl MemoryShare {
    /// Makes sure that headers and a message of this length have a place.
    fn reserve(&mut self, message: usize) -> Result<()> {
        let wanted = (self.headers + message).saturating_sub(FREE_BYTES);
        let more = wanted.saturating_sub(self.held_bytes);
        if more == 0 {
            return Ok(());
        }
        match &mut self.held {
            Some(held) => held.grow(more)?,
            none => *none = Some(self.consumer.acquire(GateKind::RequestBytes, more)?),
        }
        self.held_bytes = wanted;
        Ok(())
    }
}

/// The memory of the headers, roughly.
fn memory_of(headers: &HeaderMap) -> usize {
    headers.capacity() * HEADER_BYTES + headers.values().map(http::HeaderValue::len).sum::<usize>()
}

impl<B> RequestBody<B> {
    /// The body of a call that began at `began`.
    ///
    /// # Errors
    /// `OVERLOADED` if there is no place for the headers.
    pub(super) fn new(
        body: B,
        method: &Method,
        receive_limit: Duration,
        began: Instant,
        headers: &HeaderMap,
        consumer: &Arc<Consumer>,
    ) -> Result<Self> {
        let mut share = MemoryShare {
            consumer: Arc::clone(consumer),
            headers: memory_of(headers),
            held: None,
            held_bytes: 0,
        };
        share.reserve(0)?;
        Ok(Self {
            body,
            progress: MessageProgress::default(),
            max_message: method.max_request,
            receive_limit,
            idle_limit: match method.time_limit {
                TimeLimit::Idle(idle) if method.is_client_stream => Some(idle),
                TimeLimit::Idle(_) | TimeLimit::Deadline => None,
            },
            since: began,
            timer: None,
            share,
            gunzip: None,
        })
    }

    /// The same with messages that this decompresses.
    pub(super) fn with_gunzip(self, gunzip: Option<Gunzip>) -> Self {
        let gunzip = gunzip.map(Box::new);
        Self { gunzip, ..self }
    }

    /// The next decompressed message among what has arrived; `None` if more has to arrive first, or if nothing is compressed.
    fn next_decompressed(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        let gunzip = self.gunzip.as_mut()?;
        if gunzip.messages() > 0 && self.idle_limit.is_none() {
            // The service ignores further messages, and decompressing them would be work that a caller gets for a few bytes.
            let excess = "the request has more than one message";
            return (!gunzip.is_empty()).then(|| Err(status(Error::new(ErrorKind::InvalidRequest, excess))));
        }
        let share = &mut self.share;
        let next = gunzip
            .next(self.max_message, |bytes| share.reserve(bytes))
            .transpose()?;
        Some(next.map(Frame::data).map_err(|status| *status))
    }

    fn receive(&mut self, chunk: &[u8]) -> Result<(), Status> {
        let was_within = self.progress.is_within_message();
        let step = self.progress.advance(chunk);
        if self.idle_limit.is_some() && (step.completed || !was_within) {
            self.since = Instant::now();
        }
        let Some(length) = step.longest else { return Ok(()) };
        let max = self.max_message;
        if length > max {
            return Err(Status::out_of_range(format!(
                "the message has {length} bytes; this method allows {max}"
            )));
        }
        self.share.reserve(length).map_err(status)
    }

    /// Pending until the time limit has passed.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let (limit, message) = match self.idle_limit {
            Some(idle) if !self.progress.is_within_message() => (idle, "the next message did not come in time"),
            Some(_) | None => (self.receive_limit, "the request did not arrive in time"),
        };
        let end = self.since + limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        if timer.deadline() != end {
            timer.as_mut().reset(end);
        }
        timer
            .as_mut()
            .poll(cx)
            .map(|()| status(Error::new(ErrorKind::DeadlineExceeded, message)))
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        loop {
            if let Some(message) = this.next_decompressed() {
                return Poll::Ready(Some(message));
            }
            return match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let received = frame.data_ref().map_or(Ok(()), |chunk| this.receive(chunk));
                    if let (Ok(()), Some(gunzip), Some(chunk)) = (&received, &mut this.gunzip, frame.data_ref()) {
                        gunzip.add(chunk);
                        continue;
                    }
                    Poll::Ready(Some(received.map(|()| frame)))
                }
                // The caller has reset the stream, or its connection is gone. Hyper sees the same when the call is pending, and
                // drops it: that is a cancelled call, not one without a message. Tasks that read a stream must see its end.
                Poll::Ready(Some(Err(_))) if this.idle_limit.is_none() => Poll::Pending,
                Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Status::from_error(error.into())))),
                Poll::Ready(None) if this.gunzip.as_ref().is_some_and(|gunzip| !gunzip.is_empty()) => {
                    let cut = Error::new(ErrorKind::InvalidRequest, "the request ended within a message");
                    Poll::Ready(Some(Err(status(cut))))
                }
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => this.poll_overdue(cx).map(|overdue| Some(Err(overdue))),
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.gunzip.as_ref().is_none_or(|gunzip| gunzip.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self.gunzip {
            None => self.body.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
#[path = "request_body_tests.rs"]
mod tests;
