//! Validate and `ValidateBatch`: on the path of every request of every other service, so they have their own codec. This
//! service or an agent answers.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::task::JoinSet;
use tonic::codec::EncodeBuf;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};

use super::codec::{EncodeResponse, HotPathCodec};
use super::verdicts::count_validation;
use crate::grpc::convert::answer::{ValidateAnswer, encode_batch};
use crate::grpc::layers::{Call, RequestBody, ResponseFuture};
use crate::grpc::policy::Method;
use crate::model::{Error, Result};
use crate::proto::{ValidateBatchRequest, ValidateRequest};

/// The most tokens of one batch.
const MAX_BATCH: usize = 256;
/// How many tokens of a batch are verified before other tasks get their turn.
const YIELD_EVERY: usize = 16;
/// The fewest tokens for which another task is started: verifying one takes not much longer than starting a task.
const MIN_TOKENS_PER_TASK: usize = 8;

/// Answers Validate.
pub trait AnswerValidate: Send + Sync + 'static {
    /// The answer about a token in the cache; none if there is more to do.
    fn validate_cached(&self, request: &ValidateRequest) -> Option<ValidateAnswer>;

    /// This moment of the monotonic clock. Keys that are loaded after it for one token are not loaded again for the next.
    fn monotonic_now(&self) -> Duration;

    /// The answer to a request that arrived at `asked`.
    fn validate(
        &self,
        request: &ValidateRequest,
        asked: Duration,
    ) -> impl Future<Output = Result<ValidateAnswer>> + Send;
}

/// Serves a call of Validate or `ValidateBatch`.
pub fn serve<V: AnswerValidate>(
    calls: &Arc<V>,
    method: &'static Method,
    request: http::Request<RequestBody>,
) -> ResponseFuture {
    let calls = Arc::clone(calls);
    let max = Some(method.max_request);
    if method.name == "ValidateBatch" {
        return Box::pin(async move {
            let mut grpc = Grpc::new(HotPathCodec::<ValidateBatchRequest, _>::default());
            grpc = grpc.apply_max_message_size_config(max, None);
            Ok(grpc.unary(ValidateBatch(calls), request).await)
        });
    }
    Box::pin(async move {
        let mut grpc = Grpc::new(HotPathCodec::<ValidateRequest, _>::default());
        grpc = grpc.apply_max_message_size_config(max, None);
        Ok(grpc.unary(Validate(calls), request).await)
    })
}

struct Validate<V>(Arc<V>);

impl<V: AnswerValidate> UnaryService<ValidateRequest> for Validate<V> {
    type Response = ValidateAnswer;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<ValidateAnswer>, Status>> + Send>>;

    fn call(&mut self, request: Request<ValidateRequest>) -> Self::Future {
        let calls = Arc::clone(&self.0);
        Box::pin(async move {
            let answer = calls.validate(request.get_ref(), calls.monotonic_now()).await?;
            count_validation(&answer);
            Ok(Response::new(answer))
        })
    }
}

struct ValidateBatch<V>(Arc<V>);

impl<V: AnswerValidate> UnaryService<ValidateBatchRequest> for ValidateBatch<V> {
    type Response = Vec<ValidateAnswer>;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Vec<ValidateAnswer>>, Status>> + Send>>;

    fn call(&mut self, request: Request<ValidateBatchRequest>) -> Self::Future {
        let calls = Arc::clone(&self.0);
        Box::pin(async move {
            // Tokens that are not in the cache take a while, during which the batch stays in memory.
            let _memory = Call::of(&request)?.reserve(request.get_ref().encoded_len())?;
            let answers = batch(&calls, request.into_inner().requests).await?;
            answers.iter().for_each(count_validation);
            Ok(Response::new(answers))
        })
    }
}

/// The answers about these tokens, in their order: the same as one by one. The tokens that are not in the cache are divided
/// among the threads of the runtime.
pub(super) async fn batch<V: AnswerValidate>(
    calls: &Arc<V>,
    requests: Vec<ValidateRequest>,
) -> Result<Vec<ValidateAnswer>> {
    if !(1..=MAX_BATCH).contains(&requests.len()) {
        return Err(Error::invalid("requests", "must be 1-256"));
    }
    let asked = calls.monotonic_now();
    let mut answers: Vec<Option<ValidateAnswer>> =
        requests.iter().map(|request| calls.validate_cached(request)).collect();
    let misses: Vec<usize> = (0..answers.len()).filter(|n| answers[*n].is_none()).collect();
    let threads = tokio::runtime::Handle::current().metrics().num_workers();
    let parts = misses.len().div_ceil(MIN_TOKENS_PER_TASK).min(threads);
    if parts < 2 {
        for (index, answer) in answer_all(&**calls, &requests, misses, asked).await {
            answers[index] = Some(answer.map_err(|error| at_index(error, index))?);
        }
    } else {
        let requests: Arc<[ValidateRequest]> = requests.into();
        // Dropped with the call: a caller that disconnects leaves no work behind.
        let mut tasks = JoinSet::new();
        for part in 0..parts {
            let (calls, requests) = (Arc::clone(calls), Arc::clone(&requests));
            let share: Vec<usize> = misses.iter().skip(part).step_by(parts).copied().collect();
            tasks.spawn(async move { answer_all(&*calls, &requests, share, asked).await });
        }
        let mut done = Vec::with_capacity(misses.len());
        while let Some(share) = tasks.join_next().await {
            done.extend(share.map_err(Error::internal)?);
        }
        // Of several errors the first in the order of the request is returned, as if the tokens were validated one by one.
        done.sort_unstable_by_key(|(index, _)| *index);
        for (index, answer) in done {
            answers[index] = Some(answer.map_err(|error| at_index(error, index))?);
        }
    }
    let all: Option<Vec<ValidateAnswer>> = answers.into_iter().collect();
    all.ok_or_else(|| Error::internal("a token of a batch has no answer"))
}

async fn answer_all<V: AnswerValidate>(
    calls: &V,
    requests: &[ValidateRequest],
    share: Vec<usize>,
    asked: Duration,
) -> Vec<(usize, Result<ValidateAnswer>)> {
    let mut done = Vec::with_capacity(share.len());
    for (count, index) in share.into_iter().enumerate() {
        // Many tokens that are not in the cache take long: other calls must not wait for all of them.
        if count % YIELD_EVERY == YIELD_EVERY - 1 {
            tokio::task::yield_now().await;
        }
        let answer = calls.validate(&requests[index], asked).await;
        let failed = answer.is_err();
        done.push((index, answer));
        if failed {
            break;
        }
    }
    done
}

/// The error of one request of a batch, with the index of the request.
fn at_index(mut error: Error, index: usize) -> Error {
    for violation in &mut error.violations {
        violation.field = format!("requests[{index}].{}", violation.field).into();
        error.message = format!("{}: {}", violation.field, violation.description).into();
    }
    error
}

impl EncodeResponse for ValidateAnswer {
    const INITIAL_CAPACITY: usize = 1024;

    fn write(self, out: &mut EncodeBuf<'_>) {
        self.encode(out);
    }
}

impl EncodeResponse for Vec<ValidateAnswer> {
    const INITIAL_CAPACITY: usize = 16 * 1024;

    fn write(self, out: &mut EncodeBuf<'_>) {
        encode_batch(&self, out);
    }
}
