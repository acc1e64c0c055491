//! One call, from the head of its request to the head of its response.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};
use tracing::Span;
use tracing::field::Empty;

use super::authenticate::{Authentication, Credential, bearer_token};
use super::deadline::for_stream;
use super::gzip;
use super::response_body::StreamState;
use super::{
    Call, ConnectionContext, GateKind, GatePermit, Method, REQUEST_ID, RequestBody, ResponseBody, ResponseFuture,
    TimeLimit,
};
use crate::grpc::policy::Access;
use crate::grpc::status::{log, status};
use crate::listener::Busy;
use crate::model::audit::Origin;
use crate::model::{Caller, Error, ErrorKind, Identity, Result};
use crate::secret::SecretText;
use crate::spans::SPANS;
use crate::telemetry::adopt;

/// The answer to a request that is not gRPC, for the person who reads it.
pub(crate) const NOT_GRPC: &str = "This is a gRPC port: calls need HTTP/2 and the content type application/grpc. A server has its \
                                   keys, metrics and health on the HTTP port (server.http_listen).\n";

/// The future that serves one call.
pub struct ServeCall {
    connection: Arc<ConnectionContext>,
    /// `None` if the method is not served.
    method: Option<&'static Method>,
    request_id: HeaderValue,
    began: Instant,
    deadline: Option<Instant>,
    /// Set only once the call has to wait.
    timer: Option<Pin<Box<Sleep>>>,
    /// Set for streams, whose caller is authenticated again while they last.
    bearer: Option<SecretText>,
    permit: Option<GatePermit>,
    /// Keeps the connection from giving way to a new one; passed on to the body of the response.
    busy: Option<Busy>,
    /// Disabled where no traces are exported.
    span: Span,
    stage: Stage,
}

/// How far a call has come.
pub(super) enum Stage {
    /// The call is refused without calling a service.
    Refused(Option<Box<Status>>),
    /// The request is not gRPC.
    NotGrpc(StatusCode),
    /// A store is read to authenticate the caller.
    Authenticating(
        BoxFuture<'static, Result<Arc<Caller>>>,
        Option<Box<Request<RequestBody>>>,
    ),
    /// The service works on the call.
    Running(ResponseFuture),
    /// The head of the response has been returned.
    Done,
}

impl ServeCall {
    pub(super) fn begin(connection: Arc<ConnectionContext>, request: Request<Incoming>) -> Self {
        let mut call = Self {
            method: connection.pipeline.policy.method(request.uri().path()),
            request_id: connection.pipeline.ids.accept_or_generate(request.headers()),
            began: Instant::now(),
            deadline: None,
            timer: None,
            bearer: None,
            permit: None,
            busy: Some(connection.activity.begin()),
            span: Span::none(),
            stage: Stage::Done,
            connection,
        };
        call.span = call.span(request.headers());
        call.stage = match not_grpc(&request) {
            Some(code) => Stage::NotGrpc(code),
            None => call.admit(request).unwrap_or_else(Stage::refused),
        };
        call
    }

    fn span(&self, headers: &HeaderMap) -> Span {
        let span = tracing::info_span!(target: SPANS, "call", otel.kind = "server", rpc.system = "grpc",
            otel.name = Empty, rpc.service = Empty, rpc.method = Empty, rpc.grpc.status_code = Empty,
            otel.status_code = Empty, request.id = Empty);
        if !span.is_disabled() {
            let name = |method: &Method| method.path.trim_start_matches('/');
            span.record("otel.name", self.method.map_or("unknown", name));
            if let Some(method) = self.method {
                span.record("rpc.service", method.service);
                span.record("rpc.method", method.name);
            }
            span.record("request.id", self.request_id.to_str().unwrap_or_default());
            adopt(&span, headers);
        }
        span
    }

    /// Runs every check that comes before the service.
    fn admit(&mut self, request: Request<Incoming>) -> Result<Stage> {
        let method = self.method.ok_or(ErrorKind::Unimplemented)?;
        let pipeline = &self.connection.pipeline;
        let timeout = request.headers().get("grpc-timeout");
        let timeout = match method.time_limit {
            TimeLimit::Deadline => Some(pipeline.deadlines.for_unary(timeout)?),
            TimeLimit::Idle(_) => for_stream(timeout)?,
        };
        self.deadline = timeout.and_then(|timeout| self.began.checked_add(timeout));
        let gate = match method.time_limit {
            TimeLimit::Idle(_) if method.access == Access::Anyone => GateKind::AnonymousStreams,
            TimeLimit::Idle(_) | TimeLimit::Deadline => GateKind::Calls,
        };
        let consumer = &self.connection.consumer;
        self.permit = Some(consumer.acquire(gate, 1)?);
        let crowded = pipeline.gates.is_crowded(gate);
        let receive_limit = pipeline.deadlines.receive(method.max_request, crowded);
        let (mut head, body) = request.into_parts();
        let gunzip = match gzip::take_encoding(&mut head.headers) {
            Ok(gunzip) => gunzip,
            Err(status) => return Ok(Stage::Refused(Some(status))),
        };
        let body = RequestBody::new(body, method, receive_limit, self.began, &head.headers, consumer)?;
        let request = Request::from_parts(head, body.with_gunzip(gunzip));
        if method.access == Access::Anyone {
            let anonymous = pipeline.authenticator.anonymous();
            return self.run(method, anonymous, request);
        }
        let authentication = match bearer_token(request.headers()) {
            Ok(bearer) => {
                if matches!(method.time_limit, TimeLimit::Idle(_)) {
                    self.bearer = bearer.map(SecretText::new);
                }
                let credential = Credential {
                    bearer,
                    peer: &self.connection.peer,
                };
                pipeline.authenticator.authenticate(credential)
            }
            Err(error) => Authentication::Ready(Err(error)),
        };
        match authentication {
            Authentication::Ready(caller) => self.run(method, or_anonymous(method, caller)?, request),
            Authentication::Pending(caller) => Ok(Stage::Authenticating(caller, Some(Box::new(request)))),
        }
    }

    /// Checks the policy and calls the service.
    fn run(
        &mut self,
        method: &'static Method,
        caller: Arc<Caller>,
        mut request: Request<RequestBody>,
    ) -> Result<Stage> {
        method.access.check(&caller)?;
        if matches!(method.time_limit, TimeLimit::Idle(_)) && method.access != Access::Anyone {
            self.permit = Some(self.connection.consumer.acquire(GateKind::Streams, 1)?);
        }
        // No service needs the token, and a header that is gone cannot be logged.
        request.headers_mut().remove(header::AUTHORIZATION);
        request.extensions_mut().insert(Call {
            caller,
            connection: Arc::clone(&self.connection),
            request_id: self.request_id.clone(),
            deadline: self.deadline,
        });
        Ok(Stage::Running(self.connection.pipeline.routes.route(method, request)))
    }

    /// Goes on with the call; pending while it waits for a store or the service.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<tonic::body::Body>, Box<Status>>> {
        loop {
            match &mut self.stage {
                Stage::Refused(refusal) => {
                    let refusal = refusal.take();
                    return Poll::Ready(Err(refusal.unwrap_or_else(|| Box::new(defect("answered twice")))));
                }
                Stage::Authenticating(caller, request) => {
                    let caller = std::task::ready!(caller.as_mut().poll(cx));
                    let stage = match (request.take(), self.method) {
                        (Some(request), Some(method)) => {
                            or_anonymous(method, caller).and_then(|caller| self.run(method, caller, *request))
                        }
                        _ => Err(Error::internal("the request was taken before its caller was known")),
                    };
                    self.stage = stage.unwrap_or_else(Stage::refused);
                }
                Stage::Running(response) => {
                    return response.as_mut().poll(cx).map(|response| {
                        let Ok(response) = response;
                        Ok(response)
                    });
                }
                Stage::NotGrpc(_) | Stage::Done => {
                    return Poll::Ready(Err(Box::new(defect("polled after its end"))));
                }
            }
        }
    }

    /// Whether the deadline has passed. If not, the task is woken when it does.
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline else {
            return false;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        timer.as_mut().poll(cx).is_ready()
    }

    /// Completes the response: adds the request id, counts the call, logs the private part of an error.
    fn finish(&mut self, response: Result<Response<tonic::body::Body>, Box<Status>>) -> Response<ResponseBody> {
        // Drops the service's future before the response goes out.
        self.stage = Stage::Done;
        let mut response = response.unwrap_or_else(|status| status.into_http());
        let failure = response.extensions_mut().remove::<Status>();
        if let Some(status) = &failure {
            let path = self.method.map_or("unknown", |method| method.path);
            log(status, path, self.request_id.to_str().unwrap_or_default());
        }
        let code = failure.map_or(Code::Ok, |status| status.code());
        response.headers_mut().insert(REQUEST_ID, self.request_id.clone());
        if !self.span.is_disabled() {
            self.span.record("rpc.grpc.status_code", i32::from(code));
            if matches!(
                code,
                Code::Internal | Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::DataLoss
            ) {
                self.span.record("otel.status_code", "ERROR");
            }
        }
        // A stream has only begun: it is counted when it ends.
        if code == Code::Ok
            && let Some(stream) = self.stream_state()
        {
            let busy = self.busy.take();
            return response.map(|body| ResponseBody::stream(body, stream, busy));
        }
        let metrics = &self.connection.pipeline.metrics;
        match self.method {
            Some(method) => metrics.unary_ended(method, code, self.began.elapsed()),
            None => metrics.unknown(),
        }
        let busy = self.busy.take();
        response.map(|body| ResponseBody::unary(body, self.connection.unread.add(), busy))
    }

    /// The state of a stream that begins; `None` for a unary method.
    fn stream_state(&mut self) -> Option<StreamState> {
        let method = self.method?;
        let TimeLimit::Idle(idle_timeout) = method.time_limit else {
            return None;
        };
        Some(StreamState {
            pipeline: Arc::clone(&self.connection.pipeline),
            method,
            request_id: self.request_id.clone(),
            bearer: self.bearer.take(),
            peer: Arc::clone(&self.connection.peer),
            idle_timeout,
            deadline: self.deadline,
            last_activity: Instant::now(),
            check_timer: StreamState::timer(),
            pending_auth: None,
            code: None,
            _permit: self.permit.take()?,
        })
    }
}

impl Future for ServeCall {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let span = this.span.clone();
        let _entered = span.enter();
        if let Stage::NotGrpc(code) = this.stage {
            this.stage = Stage::Done;
            let (unread, busy) = (this.connection.unread.add(), this.busy.take());
            let body = tonic::body::Body::new(Full::from(NOT_GRPC));
            let mut response = Response::new(ResponseBody::unary(body, unread, busy));
            *response.status_mut() = code;
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, text);
            return Poll::Ready(Ok(response));
        }
        let stepped = std::panic::catch_unwind(AssertUnwindSafe(|| this.step(cx)));
        let response = match stepped {
            Ok(Poll::Ready(response)) => response,
            Ok(Poll::Pending) if !this.is_overdue(cx) => return Poll::Pending,
            Ok(Poll::Pending) => Err(Box::new(status(ErrorKind::DeadlineExceeded.into()))),
            // The panic hook has logged the place and the message.
            Err(_) => Err(Box::new(defect("a call panicked"))),
        };
        Poll::Ready(Ok(this.finish(response)))
    }
}

impl Drop for ServeCall {
    fn drop(&mut self) {
        if let (Stage::Running(_) | Stage::Authenticating(..), Some(method)) = (&self.stage, self.method) {
            // The caller has cancelled the call.
            let metrics = &self.connection.pipeline.metrics;
            metrics.unary_ended(method, Code::Cancelled, self.began.elapsed());
            self.connection.resets.count(self.deadline);
        }
    }
}

impl Stage {
    fn refused(error: Error) -> Self {
        Self::Refused(Some(Box::new(status(error))))
    }
}

/// For [`Access::RuleOrCredential`], an unauthenticated caller becomes the anonymous caller without scopes.
fn or_anonymous(method: &Method, caller: Result<Arc<Caller>>) -> Result<Arc<Caller>> {
    match caller {
        Err(error) if error.kind == ErrorKind::CallerUnauthenticated && method.access == Access::RuleOrCredential => {
            Ok(Arc::new(Caller {
                identity: Identity::Anonymous,
                scopes: Vec::new(),
                origin: Origin::default(),
            }))
        }
        caller => caller,
    }
}

fn defect(description: &'static str) -> Status {
    status(Error::internal(description))
}

/// The HTTP status for a request that is not gRPC: gRPC over HTTP/2 is a POST of `application/grpc` or of a subtype
/// that begins with `application/grpc+`.
fn not_grpc(request: &Request<Incoming>) -> Option<StatusCode> {
    if request.method() != http::Method::POST {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = content_type.and_then(|content_type| content_type.strip_prefix(b"application/grpc"));
    match rest {
        Some([] | [b'+' | b';', ..]) => None,
        _ => Some(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    }
}
