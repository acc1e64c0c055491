//! One call, from its head to the head of its answer.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};
use tracing::Span;
use tracing::field::Empty;

use super::authenticate::{Authentication, Credential, bearer};
use super::deadline::of_stream;
use super::response_body::StreamState;
use super::{
    Call, ConnectionContext, METHODS, Permit, REQUEST_ID, RequestBody, ResponseBody, ResponseFuture, TimeLimit,
};
use crate::grpc::policy::Access;
use crate::grpc::status::{log, status};
use crate::model::audit::Origin;
use crate::model::{Caller, Error, ErrorKind, Identity, Result};
use crate::secret::SecretText;
use crate::spans::SPANS;
use crate::telemetry::adopt;

/// One call.
pub struct ServeCall {
    connection: Arc<ConnectionContext>,
    /// The place of its method in [`METHODS`]; none if it is not served.
    method: Option<usize>,
    request_id: HeaderValue,
    began: Instant,
    deadline: Option<Instant>,
    /// Made only when the call has to wait.
    timer: Option<Pin<Box<Sleep>>>,
    /// Kept by streams, whose caller is looked at again and again.
    bearer: Option<SecretText>,
    pass: Option<Permit>,
    /// What traces see of it; nothing where none are sent.
    span: Span,
    stage: Stage,
}

/// How far a call has come.
pub(super) enum Stage {
    /// It is answered without a service.
    Refused(Option<Box<Status>>),
    /// It is not even gRPC.
    NotGrpc(StatusCode),
    /// A store is asked who calls.
    Pending(BoxFuture<'static, Result<Arc<Caller>>>, Option<Box<Request<Incoming>>>),
    /// A service works on it.
    Running(ResponseFuture),
    /// Its answer has begun.
    Answered,
}

impl ServeCall {
    pub(super) fn begin(connection: Arc<ConnectionContext>, request: Request<Incoming>) -> Self {
        let mut call = Self {
            method: connection
                .pipeline
                .policy
                .method(request.uri().path())
                .map(|(index, _)| index),
            request_id: connection.pipeline.ids.of(request.headers()),
            began: Instant::now(),
            deadline: None,
            timer: None,
            bearer: None,
            pass: None,
            span: Span::none(),
            stage: Stage::Answered,
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
            let method = self.method.map(|index| &METHODS[index]);
            span.record(
                "otel.name",
                method.map_or("unknown", |method| method.path.trim_start_matches('/')),
            );
            if let Some(method) = method {
                span.record("rpc.service", method.service);
                span.record("rpc.method", method.name);
            }
            span.record("request.id", self.request_id.to_str().unwrap_or_default());
            adopt(&span, headers);
        }
        span
    }

    /// Everything that can be told before a service is asked.
    fn admit(&mut self, request: Request<Incoming>) -> Result<Stage> {
        let index = self.method.ok_or(ErrorKind::Unimplemented)?;
        let timeout = request.headers().get("grpc-timeout");
        let left = match METHODS[index].time_limit {
            TimeLimit::Deadline => Some(self.connection.pipeline.deadlines.of_unary(timeout)?),
            TimeLimit::Idle(_) => of_stream(timeout)?,
        };
        self.deadline = left.and_then(|left| self.began.checked_add(left));
        self.pass = Some(self.connection.pipeline.calls.acquire()?);
        if METHODS[index].access == Access::Anyone {
            let anonymous = self.connection.pipeline.authenticator.anonymous();
            return self.enter(index, anonymous, request);
        }
        let answer = match bearer(request.headers()) {
            Ok(bearer) => {
                if matches!(METHODS[index].time_limit, TimeLimit::Idle(_)) {
                    self.bearer = bearer.map(SecretText::new);
                }
                let credential = Credential {
                    bearer,
                    peer: &self.connection.peer,
                };
                self.connection.pipeline.authenticator.authenticate(credential)
            }
            Err(error) => Authentication::Ready(Err(error)),
        };
        match answer {
            Authentication::Ready(caller) => self.enter(index, or_anonymous(index, caller)?, request),
            Authentication::Pending(asking) => Ok(Stage::Pending(asking, Some(Box::new(request)))),
        }
    }

    /// Past the policy and into the service.
    fn enter(&self, index: usize, caller: Arc<Caller>, mut request: Request<Incoming>) -> Result<Stage> {
        let method = &METHODS[index];
        method.access.check(&caller)?;
        // No service needs the token, and what is not there cannot be logged.
        request.headers_mut().remove(header::AUTHORIZATION);
        request.extensions_mut().insert(Call {
            caller,
            peer: Arc::clone(&self.connection.peer),
            request_id: self.request_id.clone(),
            deadline: self.deadline,
        });
        let idle = match method.time_limit {
            TimeLimit::Deadline => None,
            TimeLimit::Idle(limit) => Some(limit),
        };
        let request = request.map(|body| RequestBody::new(body, idle));
        Ok(Stage::Running(self.connection.pipeline.routes.route(method, request)))
    }

    /// The next step; pending while somebody is waited for.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<tonic::body::Body>, Box<Status>>> {
        loop {
            match &mut self.stage {
                Stage::Refused(refusal) => {
                    let refusal = refusal.take();
                    return Poll::Ready(Err(refusal.unwrap_or_else(|| Box::new(defect("answered twice")))));
                }
                Stage::Pending(asking, request) => {
                    let caller = std::task::ready!(asking.as_mut().poll(cx));
                    let entered = match (request.take(), self.method) {
                        (Some(request), Some(index)) => {
                            or_anonymous(index, caller).and_then(|caller| self.enter(index, caller, *request))
                        }
                        _ => Err(Error::internal("the request was taken before its caller was known")),
                    };
                    self.stage = entered.unwrap_or_else(Stage::refused);
                }
                Stage::Running(routed) => {
                    return routed.as_mut().poll(cx).map(|answer| {
                        let Ok(answer) = answer;
                        Ok(answer)
                    });
                }
                Stage::NotGrpc(_) | Stage::Answered => {
                    return Poll::Ready(Err(Box::new(defect("polled after its end"))));
                }
            }
        }
    }

    /// Whether the deadline has passed; if not, the call is woken when it does.
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline else {
            return false;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        timer.as_mut().poll(cx).is_ready()
    }

    /// Sends the answer on its way: names it, counts it, logs what the caller is not told.
    fn finish(&mut self, answer: Result<Response<tonic::body::Body>, Box<Status>>) -> Response<ResponseBody> {
        // What was at work ends here, at the latest: before the answer is on its way.
        self.stage = Stage::Answered;
        let mut answer = answer.unwrap_or_else(|status| status.into_http());
        let failed = answer.extensions_mut().remove::<Status>();
        if let Some(status) = &failed {
            let path = self.method.map_or("unknown", |index| METHODS[index].path);
            log(status, path, self.request_id.to_str().unwrap_or_default());
        }
        let code = failed.map_or(Code::Ok, |status| status.code());
        answer.headers_mut().insert(REQUEST_ID, self.request_id.clone());
        if !self.span.is_disabled() {
            self.span.record("rpc.grpc.status_code", i32::from(code));
            if matches!(
                code,
                Code::Internal | Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::DataLoss
            ) {
                self.span.record("otel.status_code", "ERROR");
            }
        }
        let metrics = &self.connection.pipeline.metrics;
        match self.method.map(|index| (index, METHODS[index].time_limit)) {
            // It has only begun: its end is counted when it comes.
            Some((index, TimeLimit::Idle(idle))) if code == Code::Ok => {
                let stream = self.stream(index, idle);
                answer.map(|body| match stream {
                    Some(stream) => ResponseBody::stream(body, stream),
                    None => ResponseBody::unary(body, self.connection.unread.add()),
                })
            }
            known => {
                match known {
                    Some((index, _)) => metrics.answered(index, code, self.began.elapsed()),
                    None => metrics.unknown(),
                }
                answer.map(|body| ResponseBody::unary(body, self.connection.unread.add()))
            }
        }
    }

    fn stream(&mut self, method: usize, idle: Duration) -> Option<StreamState> {
        Some(StreamState {
            pipeline: Arc::clone(&self.connection.pipeline),
            method,
            request_id: self.request_id.clone(),
            bearer: self.bearer.take(),
            peer: Arc::clone(&self.connection.peer),
            idle,
            deadline: self.deadline,
            last_activity: Instant::now(),
            check_timer: StreamState::timer(),
            pending_auth: None,
            code: None,
            _pass: self.pass.take()?,
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
            this.stage = Stage::Answered;
            let mut answer = Response::new(ResponseBody::unary(
                tonic::body::Body::empty(),
                this.connection.unread.add(),
            ));
            *answer.status_mut() = code;
            return Poll::Ready(Ok(answer));
        }
        let stepped = std::panic::catch_unwind(AssertUnwindSafe(|| this.step(cx)));
        let answer = match stepped {
            Ok(Poll::Ready(answer)) => answer,
            Ok(Poll::Pending) if !this.is_overdue(cx) => return Poll::Pending,
            Ok(Poll::Pending) => Err(Box::new(status(ErrorKind::DeadlineExceeded.into()))),
            // The panic hook has logged where and why.
            Err(_) => Err(Box::new(defect("a call panicked"))),
        };
        Poll::Ready(Ok(this.finish(answer)))
    }
}

impl Drop for ServeCall {
    fn drop(&mut self) {
        if let (Stage::Running(_) | Stage::Pending(..), Some(index)) = (&self.stage, self.method) {
            // The caller went away.
            let took = self.began.elapsed();
            self.connection.pipeline.metrics.answered(index, Code::Cancelled, took);
        }
    }
}

impl Stage {
    fn refused(error: Error) -> Self {
        Self::Refused(Some(Box::new(status(error))))
    }
}

/// Who could not prove who they are is nobody where the request may prove it instead.
fn or_anonymous(index: usize, caller: Result<Arc<Caller>>) -> Result<Arc<Caller>> {
    match caller {
        Err(error)
            if error.kind == ErrorKind::CallerUnauthenticated && METHODS[index].access == Access::RuleOrCredential =>
        {
            Ok(Arc::new(Caller {
                identity: Identity::Anonymous,
                scopes: Vec::new(),
                origin: Origin::default(),
            }))
        }
        caller => caller,
    }
}

fn defect(why: &'static str) -> Status {
    status(Error::internal(why))
}

/// gRPC over HTTP/2 is a POST of `application/grpc` or a subtype by `+`; anything else gets an answer of HTTP.
fn not_grpc(request: &Request<Incoming>) -> Option<StatusCode> {
    if request.method() != http::Method::POST {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    match rest {
        Some([] | [b'+' | b';', ..]) => None,
        _ => Some(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    }
}
