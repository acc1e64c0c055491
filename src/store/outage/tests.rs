//! The lines of outages, over a store whose answers the test sets. Time is paused, so it passes at once.

use std::sync::Arc;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use super::*;

/// A store whose answers the test sets, and the lines that were logged.
#[derive(Clone, Default)]
struct Store {
    down: Arc<Mutex<Option<String>>>,
    questions: Arc<Mutex<u32>>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Store {
    fn log(&self) -> OutageLog {
        let store = self.clone();
        let name = StoreName {
            product: "Redis",
            label: "sessions",
            address: "db:1".to_owned(),
            effect: "logins fail",
        };
        OutageLog::new(
            name,
            Box::new(move || {
                *store.questions.lock() += 1;
                let answer = store.down.lock().clone().map_or(Ok(()), Err);
                async move { answer }.boxed()
            }),
        )
    }

    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock())
    }
}

impl<S: Subscriber> Layer<S> for Store {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        self.lines
            .lock()
            .push(format!("{} {}", event.metadata().level(), message.0));
    }
}

/// Runs a test with paused time, whose events go to the store.
fn run<F: Future<Output = ()>>(test: impl FnOnce(Store) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let store = Store::default();
    let subscriber = tracing_subscriber::registry().with(store.clone());
    let _default = tracing::subscriber::set_default(subscriber);
    runtime.block_on(test(store));
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[test]
fn an_outage_is_one_line_at_each_edge() {
    run(|store| async move {
        let log = store.log();
        *store.down.lock() = Some("refused".to_owned());
        for _ in 0..60 {
            for _ in 0..200 {
                log.failed("a broken connection");
            }
            seconds(1).await;
        }
        assert_eq!(store.lines(), ["WARN lost Redis at db:1: refused; logins fail"]);
        assert_eq!(log.cause().unwrap(), "refused");
        // Another cause is the same outage.
        *store.down.lock() = Some("is loading".to_owned());
        seconds(2).await;
        assert_eq!(log.cause().unwrap(), "is loading");
        *store.down.lock() = None;
        seconds(2).await;
        assert_eq!(log.cause(), None);
        // Connections that broke meanwhile are found for a moment.
        log.failed("a broken connection");
        seconds(10).await;
        let lines = store.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("INFO Redis at db:1 is back after 6")
                && lines[0].ends_with("s; operations that failed meanwhile: 12000"),
            "{lines:?}"
        );
    });
}

#[test]
fn failures_at_a_store_that_answers_are_counted_in_a_line_a_minute() {
    run(|store| async move {
        let log = store.log();
        for _ in 0..150 {
            log.failed("all connections are in use");
            log.failed("all connections are in use");
            seconds(1).await;
        }
        let lines = store.lines();
        assert!((3..=4).contains(&lines.len()), "{lines:?}");
        assert!(
            lines[0].starts_with("WARN operations on Redis at db:1 failed although it answers: 2 of them"),
            "{lines:?}"
        );
        assert!(lines[1].contains(": 120 of them"), "{lines:?}");
        // What is left is in a last line; then the store is left alone.
        seconds(120).await;
        assert_eq!(store.lines().len(), 1);
        let questions = *store.questions.lock();
        seconds(600).await;
        assert_eq!(*store.questions.lock(), questions);
    });
}

#[test]
fn a_store_that_is_lost_from_the_start_is_back_later() {
    run(|store| async move {
        let log = store.log();
        *store.down.lock() = Some("refused".to_owned());
        log.lost("refused");
        seconds(30).await;
        *store.down.lock() = None;
        seconds(5).await;
        let lines = store.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].contains("is back after 3"), "{lines:?}");
        // A store that is dropped is not asked any more.
        *store.down.lock() = Some("refused".to_owned());
        log.failed("x");
        seconds(2).await;
        drop(log);
        let questions = *store.questions.lock();
        seconds(60).await;
        assert!(*store.questions.lock() <= questions + 1);
    });
}

#[test]
fn what_callers_lose_in_an_outage_has_a_line_when_it_changes() {
    run(|store| async move {
        let loss = Arc::new(Mutex::new(Loss::from("refused".to_owned())));
        let name = StoreName {
            product: "Redis",
            label: "sessions",
            address: "db:1".to_owned(),
            effect: "logins fail",
        };
        let answer = Arc::clone(&loss);
        let probe: Probe<Loss> = Box::new(move || {
            let answer = answer.lock().clone();
            async { Err(answer) }.boxed()
        });
        let log = OutageLog::new(name, probe);
        log.failed("no answer");
        seconds(5).await;
        *loss.lock() = Loss {
            cause: "commits wait".to_owned(),
            without_writes: Some("changes fail"),
        };
        seconds(5).await;
        assert_eq!(log.cause().unwrap(), "commits wait");
        *loss.lock() = Loss::from("refused".to_owned());
        seconds(5).await;
        assert_eq!(
            store.lines(),
            [
                "WARN lost Redis at db:1: refused; logins fail",
                "WARN Redis at db:1 takes no writes: commits wait; changes fail",
                "WARN lost Redis at db:1: refused; logins fail",
            ]
        );
    });
}

/// The task that asks ends with the panic; the next failure begins another one.
#[test]
fn a_probe_that_panics_does_not_end_the_reports() {
    run(|store| async move {
        let asked = store.clone();
        let name = StoreName {
            product: "Redis",
            label: "sessions",
            address: "db:1".to_owned(),
            effect: "logins fail",
        };
        let probe: Probe = Box::new(move || {
            let mut questions = asked.questions.lock();
            *questions += 1;
            assert!(*questions > 1, "a defect of the probe");
            async { Err("down".to_owned()) }.boxed()
        });
        let log = OutageLog::new(name, probe);
        for _ in 0..2 {
            log.failed("no answer");
            seconds(2).await;
        }
        assert_eq!(store.lines(), ["WARN lost Redis at db:1: down; logins fail"]);
    });
}
