//! The body of a request.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use crate::grpc::status::status;
use crate::model::{Error, ErrorKind};

/// The body of a request. The body of a stream fails with `DEADLINE_EXCEEDED` when the peer sends nothing for too long;
/// a unary call has its deadline instead.
#[derive(Debug)]
pub struct RequestBody<B = Incoming> {
    body: B,
    idle: Option<IdleTimeout>,
}

#[derive(Debug)]
struct IdleTimeout {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<B> RequestBody<B> {
    pub(super) fn new(body: B, idle: Option<Duration>) -> Self {
        Self {
            body,
            idle: idle.map(|limit| IdleTimeout {
                limit,
                timer: Box::pin(tokio::time::sleep(limit)),
            }),
        }
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
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let Some(idle) = &mut self.idle else {
            return polled.map(|frame| frame.map(|frame| frame.map_err(transport_error)));
        };
        match polled {
            Poll::Ready(frame) => {
                idle.timer.as_mut().reset(Instant::now() + idle.limit);
                Poll::Ready(frame.map(|frame| frame.map_err(transport_error)))
            }
            Poll::Pending => idle.timer.as_mut().poll(cx).map(|()| {
                let error = Error::new(ErrorKind::DeadlineExceeded, "the next message did not come in time");
                Some(Err(status(error)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn transport_error(error: impl Into<tonic::codegen::StdError>) -> Status {
    Status::from_error(error.into())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, StreamBody};
    use tokio_stream::wrappers::ReceiverStream;
    use tonic::Code;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_silence_ends_a_stream() {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
        let body = StreamBody::new(ReceiverStream::new(receiver));
        let mut body = RequestBody::new(body, Some(Duration::from_secs(30)));
        for _ in 0..3 {
            let (frame, ()) = tokio::join!(body.frame(), async {
                tokio::time::sleep(Duration::from_secs(29)).await;
                sender.send(Ok(Frame::data(Bytes::from_static(b"row")))).await.unwrap();
            });
            assert!(frame.unwrap().unwrap().is_data());
        }
        let silent = Instant::now();
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!((error.code(), silent.elapsed().as_secs()), (Code::DeadlineExceeded, 30));
    }
}
