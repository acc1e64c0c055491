//! The way from one replica to one store, which fails as the plan says.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign::model::{Error, Result};
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::plan::Fault;
use crate::sim::Sim;
use crate::support::random::Random;

/// How long a caller of a store waits for the answer.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(300);

/// Whether a store answers. All replicas share it.
#[derive(Debug, Default)]
pub(crate) struct Outage(AtomicBool);

impl Outage {
    pub(crate) fn set(&self, is_down: bool) {
        self.0.store(is_down, Ordering::Relaxed);
    }
}

/// The life of one process. A crash ends it: every task of the process stops at its next call of a store, and never goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life(CancellationToken);

impl Life {
    pub(crate) fn crash(&self) {
        self.0.cancel();
    }

    /// Returns once the process has crashed.
    pub(crate) async fn ended(&self) {
        self.0.cancelled().await;
    }

    pub(crate) fn token(&self) -> CancellationToken {
        self.0.clone()
    }

    /// Returns while the process lives.
    async fn go_on(&self) {
        if self.0.is_cancelled() {
            pending::<()>().await;
        }
    }
}

/// The way from a replica to a store.
pub(crate) struct Link {
    pub(crate) sim: Arc<Sim>,
    name: String,
    life: Life,
    outage: Arc<Outage>,
    dice: Mutex<Random>,
}

impl Link {
    pub(crate) fn new(sim: &Arc<Sim>, name: String, life: Life, outage: Arc<Outage>) -> Arc<Self> {
        let dice = Mutex::new(sim.fork());
        Arc::new(Self {
            sim: sim.clone(),
            name,
            life,
            outage,
            dice,
        })
    }

    /// Calls the store. `effect` is the whole transition, which runs at its first poll.
    pub(crate) async fn call<T>(&self, operation: &str, effect: impl Future<Output = Result<T>>) -> Result<T> {
        self.life.go_on().await;
        let (fault, delay) = self.draw();
        self.latency().await;
        if fault == Some(Fault::DelayBefore) {
            sleep(delay).await;
        } else if fault == Some(Fault::ErrorBefore) {
            return self.fail(operation, "error before");
        } else if fault == Some(Fault::CrashBefore) {
            self.crash(operation, "before").await;
        }
        self.life.go_on().await;
        if self.outage.0.load(Ordering::Relaxed) {
            sleep(TIMEOUT).await;
            return self.fail(operation, "outage");
        }
        let result = effect.await;
        self.note(operation, if result.is_ok() { "done" } else { "refused" });
        if fault == Some(Fault::DelayAfter) {
            sleep(delay).await;
        } else if fault == Some(Fault::ErrorAfter) {
            return self.fail(operation, "error after");
        } else if fault == Some(Fault::LostReply) {
            sleep(TIMEOUT).await;
            self.life.go_on().await;
            return self.fail(operation, "lost reply");
        } else if fault == Some(Fault::CrashAfter) {
            self.crash(operation, "after").await;
        }
        self.latency().await;
        self.life.go_on().await;
        result
    }

    /// Like [`Link::call`], for an operation that the store may also execute after its caller has given up.
    pub(crate) async fn call_or_late<T: Send + 'static>(
        &self,
        operation: &'static str,
        effect: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        if !self.draw_late() {
            return self.call(operation, effect).await;
        }
        self.life.go_on().await;
        let delay = TIMEOUT + self.dice.lock().millis(0, 1_500);
        let sim = self.sim.clone();
        let line = format!("{} {operation}: late", self.name);
        sim.late_begins();
        tokio::spawn(async move {
            sleep(delay).await;
            let done = effect.await;
            sim.trace(|| format!("{line} {}", if done.is_ok() { "done" } else { "refused" }));
            sim.late_ends();
        });
        sleep(TIMEOUT).await;
        self.life.go_on().await;
        self.fail(operation, "no reply yet")
    }

    /// Pauses for up to 3 ms, so that calls of the same moment overlap in every order.
    async fn latency(&self) {
        let delay = self.dice.lock().millis(0, 4);
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }

    /// The pause between two steps of a store that has a defect.
    pub(crate) fn pause(&self) -> Duration {
        self.dice.lock().millis(1, 10)
    }

    fn draw(&self) -> (Option<Fault>, Duration) {
        let mut dice = self.dice.lock();
        let delay = dice.millis(1, 400);
        if self.sim.is_calm() || dice.below(1000) >= self.sim.plan.fault_rate || self.sim.plan.faults.is_empty() {
            return (None, delay);
        }
        let fault = self.sim.plan.faults[dice.below(self.sim.plan.faults.len())];
        (Some(fault), delay)
    }

    fn draw_late(&self) -> bool {
        let late_rate = self.sim.plan.late_rate;
        late_rate > 0 && !self.sim.is_calm() && self.dice.lock().below(1000) < late_rate
    }

    async fn crash(&self, operation: &str, when: &str) {
        self.note(operation, &format!("crash {when}"));
        self.life.crash();
        pending::<()>().await;
    }

    fn fail<T>(&self, operation: &str, why: &str) -> Result<T> {
        self.note(operation, why);
        Err(Error::store_unavailable("a fault of the simulation"))
    }

    fn note(&self, operation: &str, text: &str) {
        self.sim.trace(|| format!("{} {operation}: {text}", self.name));
    }
}
