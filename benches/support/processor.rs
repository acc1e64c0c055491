//! The processor time of all processes that take part in a call.

use std::time::Duration;

use super::cores::{cpu_micros, cpu_micros_with_children};
use super::figures::median;
use super::generator::{Round, Source, Target, closed_over};
use crate::support::{Postgres, Redis};

/// Processor time, in microseconds: of one call, or in all.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    pub service: f64,
    pub postgres: f64,
    pub redis: f64,
}

impl Cost {
    pub const fn all(self) -> f64 {
        self.service + self.postgres + self.redis
    }

    pub fn times(self, factor: f64) -> Self {
        Self {
            service: self.service * factor,
            postgres: self.postgres * factor,
            redis: self.redis * factor,
        }
    }

    /// The cost of each of `count`.
    pub fn each(self, count: u64) -> Self {
        self.times(1.0 / count.max(1) as f64)
    }

    /// The median of each part.
    pub fn median(costs: &[Self]) -> Self {
        let of = |part: PartOf| median(costs.iter().copied().map(part));
        Self {
            service: of(|cost| cost.service),
            postgres: of(|cost| cost.postgres),
            redis: of(|cost| cost.redis),
        }
    }

    /// What was spent since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            service: self.service - before.service,
            postgres: self.postgres - before.postgres,
            redis: self.redis - before.redis,
        }
    }
}

/// Selects a part of a cost.
pub type PartOf = fn(Cost) -> f64;

/// The parts of a cost and their sum, by name.
pub const PARTS: [(&str, PartOf); 4] = [
    ("the service", |cost| cost.service),
    ("Postgres", |cost| cost.postgres),
    ("Redis", |cost| cost.redis),
    ("all of them", Cost::all),
];

/// The rounds of one case.
#[derive(Default)]
pub struct Measured {
    pub rounds: Vec<Round>,
    pub costs: Vec<Cost>,
}

impl Measured {
    pub fn cost(&self, of: impl Fn(Cost) -> f64) -> f64 {
        median(self.costs.iter().copied().map(of))
    }

    pub fn median(&self) -> Cost {
        Cost::median(&self.costs)
    }

    /// The median of all latencies, in microseconds.
    pub fn latency(&self) -> f64 {
        median(
            self.rounds
                .iter()
                .map(|round| round.latency.value_at_quantile(0.5) as f64),
        )
    }

    /// Runs a round at these servers, with `streams` concurrent calls on each connection, and notes what it cost.
    pub async fn round(
        &mut self,
        stores: StoreProcesses,
        servers: &[Target],
        streams: usize,
        span: Duration,
        source: impl FnMut() -> Source,
    ) {
        let before = stores.spent();
        let round = closed_over(servers, streams, span, source).await;
        round.assert_ok();
        let spent = Cost {
            service: round.cpu_micros as f64,
            ..stores.spent().since(before)
        };
        self.costs.push(spent.each(round.calls()));
        self.rounds.push(round);
    }
}

/// The processes of the stores.
#[derive(Clone, Copy)]
pub struct StoreProcesses {
    postgres: u32,
    redis: u32,
}

impl StoreProcesses {
    pub fn of(postgres: &Postgres, redis: &Redis) -> Self {
        Self {
            postgres: postgres.pid(),
            redis: redis.pid(),
        }
    }

    /// The processor time that they have used so far.
    pub fn spent(self) -> Cost {
        Cost {
            service: 0.0,
            postgres: cpu_micros_with_children(self.postgres) as f64,
            redis: cpu_micros(self.redis) as f64,
        }
    }

    /// The same, with that of these services.
    pub fn spent_with(self, services: &[u32]) -> Cost {
        Cost {
            service: services.iter().map(|&pid| cpu_micros(pid)).sum::<u64>() as f64,
            ..self.spent()
        }
    }
}

/// The same request again and again.
pub fn always(request: bytes::Bytes) -> impl FnMut() -> Source {
    move || {
        let request = request.clone();
        Box::new(move |_| Some(request.clone()))
    }
}

/// One request after the other, from an iterator that all streams share. The streams end with it.
pub fn each_once<I>(requests: I) -> impl FnMut() -> Source
where
    I: Iterator<Item = bytes::Bytes> + Send + 'static,
{
    let requests = std::sync::Arc::new(std::sync::Mutex::new(requests));
    move || {
        let requests = std::sync::Arc::clone(&requests);
        Box::new(move |_| requests.lock().unwrap().next())
    }
}
