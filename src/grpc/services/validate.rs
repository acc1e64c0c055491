//! Validate and `ValidateBatch`: on the path of every request of every other service, so they are served by hand. What
//! answers them is the rules of this service, or an agent's verifier.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::codec::EncodeBuf;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};

use super::codec::{EncodeResponse, HotPathCodec};
use crate::grpc::convert::answer::{Answer, encode_batch};
use crate::grpc::layers::{RequestBody, ResponseFuture};
use crate::grpc::policy::Method;
use crate::model::{Error, Result};
use crate::proto::{ValidateBatchRequest, ValidateRequest};

/// The most tokens of one batch.
const MAX_BATCH: usize = 256;
/// So many of a batch are verified in one go.
const YIELD_EVERY: usize = 16;
/// Fewer than so many are not worth another task: a signature takes longer than a task, but not much.
const LEAST_PART: usize = 8;

/// What answers Validate.
pub trait Validates: Send + Sync + 'static {
    /// The answer about a token that was verified before; none if anything more has to be done for it.
    fn remembered(&self, request: &ValidateRequest) -> Option<Answer>;

    /// This moment of the monotonic clock: what is looked up after it for one token need not be for the next.
    fn asked(&self) -> Duration;

    /// The answer to a question of that moment, whatever it takes.
    fn validate(&self, request: &ValidateRequest, asked: Duration) -> impl Future<Output = Result<Answer>> + Send;
}

/// Answers a call of Validate or `ValidateBatch`.
pub fn serve<V: Validates>(
    by: &Arc<V>,
    method: &'static Method,
    request: http::Request<RequestBody>,
) -> ResponseFuture {
    let by = Arc::clone(by);
    let max = Some(method.max_request);
    if method.name == "ValidateBatch" {
        return Box::pin(async move {
            let mut grpc = Grpc::new(HotPathCodec::<ValidateBatchRequest, _>::default());
            grpc = grpc.apply_max_message_size_config(max, None);
            Ok(grpc.unary(Batch(by), request).await)
        });
    }
    Box::pin(async move {
        let mut grpc = Grpc::new(HotPathCodec::<ValidateRequest, _>::default());
        grpc = grpc.apply_max_message_size_config(max, None);
        Ok(grpc.unary(One(by), request).await)
    })
}

struct One<V>(Arc<V>);

impl<V: Validates> UnaryService<ValidateRequest> for One<V> {
    type Response = Answer;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Answer>, Status>> + Send>>;

    fn call(&mut self, request: Request<ValidateRequest>) -> Self::Future {
        let by = Arc::clone(&self.0);
        Box::pin(async move {
            let answer = by.validate(request.get_ref(), by.asked()).await?;
            Ok(Response::new(answer))
        })
    }
}

struct Batch<V>(Arc<V>);

impl<V: Validates> UnaryService<ValidateBatchRequest> for Batch<V> {
    type Response = Vec<Answer>;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Vec<Answer>>, Status>> + Send>>;

    fn call(&mut self, request: Request<ValidateBatchRequest>) -> Self::Future {
        let by = Arc::clone(&self.0);
        Box::pin(async move {
            let answers = batch(by, request.into_inner().requests).await?;
            Ok(Response::new(answers))
        })
    }
}

/// The answers about these tokens, in their order: the same that each would get alone. What memory does not have ready
/// is shared out among the threads of the runtime.
async fn batch<V: Validates>(by: Arc<V>, requests: Vec<ValidateRequest>) -> Result<Vec<Answer>> {
    if !(1..=MAX_BATCH).contains(&requests.len()) {
        return Err(Error::invalid("requests", "must be 1-256"));
    }
    let asked = by.asked();
    let mut answers: Vec<Option<Answer>> = requests.iter().map(|request| by.remembered(request)).collect();
    let misses: Vec<usize> = (0..answers.len()).filter(|n| answers[*n].is_none()).collect();
    let threads = tokio::runtime::Handle::current().metrics().num_workers();
    let parts = misses.len().div_ceil(LEAST_PART).min(threads);
    if parts < 2 {
        for (index, answer) in answer_all(&*by, &requests, misses, asked).await {
            answers[index] = Some(answer.map_err(|error| within(error, index))?);
        }
    } else {
        let requests: Arc<[ValidateRequest]> = requests.into();
        // Dropped with the call: a caller who goes away leaves no work behind.
        let mut tasks = JoinSet::new();
        for part in 0..parts {
            let (by, requests) = (Arc::clone(&by), Arc::clone(&requests));
            let share: Vec<usize> = misses.iter().skip(part).step_by(parts).copied().collect();
            tasks.spawn(async move { answer_all(&*by, &requests, share, asked).await });
        }
        let mut done = Vec::with_capacity(misses.len());
        while let Some(share) = tasks.join_next().await {
            done.extend(share.map_err(Error::internal)?);
        }
        // Of several errors the first in the order of the request is told, as if it had been worked off one by one.
        done.sort_unstable_by_key(|(index, _)| *index);
        for (index, answer) in done {
            answers[index] = Some(answer.map_err(|error| within(error, index))?);
        }
    }
    let all: Option<Vec<Answer>> = answers.into_iter().collect();
    all.ok_or_else(|| Error::internal("a token of a batch was passed over"))
}

async fn answer_all<V: Validates>(
    by: &V,
    requests: &[ValidateRequest],
    share: Vec<usize>,
    asked: Duration,
) -> Vec<(usize, Result<Answer>)> {
    let mut done = Vec::with_capacity(share.len());
    for (count, index) in share.into_iter().enumerate() {
        // Many tokens that were never seen before take long: others must not wait for all of them.
        if count % YIELD_EVERY == YIELD_EVERY - 1 {
            tokio::task::yield_now().await;
        }
        let answer = by.validate(&requests[index], asked).await;
        let failed = answer.is_err();
        done.push((index, answer));
        if failed {
            break;
        }
    }
    done
}

/// The error of one request of a batch: names the request.
fn within(mut error: Error, index: usize) -> Error {
    for violation in &mut error.violations {
        violation.field = format!("requests[{index}].{}", violation.field).into();
        error.message = format!("{}: {}", violation.field, violation.description).into();
    }
    error
}

impl EncodeResponse for Answer {
    const INITIAL_CAPACITY: usize = 1024;

    fn write(self, out: &mut EncodeBuf<'_>) {
        self.encode(out);
    }
}

impl EncodeResponse for Vec<Answer> {
    const INITIAL_CAPACITY: usize = 16 * 1024;

    fn write(self, out: &mut EncodeBuf<'_>) {
        encode_batch(&self, out);
    }
}
