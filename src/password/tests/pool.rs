use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::super::pool::Pool;
use super::*;
use crate::clock::SystemClock;
use crate::model::{Error, ErrorKind};
use crate::secret::SystemEntropy;

fn pool(threads: usize, queue: usize) -> Arc<Pool> {
    let mut config = config();
    (config.hash_threads, config.queue) = (Some(threads), queue);
    let clock = Arc::new(SystemClock::new());
    Arc::new(Pool::start(&config, Peppers::default(), clock, Arc::new(SystemEntropy)).unwrap())
}

/// A deadline in the far future. The clock of the pool starts with the pool.
const LONG: Duration = Duration::from_mins(1);

/// Keeps one thread of the pool busy until the returned sender is dropped. Returns once the thread is busy.
async fn occupy(pool: &Arc<Pool>) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Result<(), Error>>) {
    let (release, held) = mpsc::channel::<()>();
    let (says, running) = tokio::sync::oneshot::channel();
    let busy = Arc::clone(pool);
    let task = tokio::spawn(async move {
        let work = move |_: &HashParameters, _: &mut ScratchMemory| {
            let _ = says.send(());
            let _ = held.recv();
            Ok(())
        };
        busy.run(LONG, work).await
    });
    running.await.unwrap();
    (release, task)
}

/// Waits until this many jobs are queued.
async fn queued(pool: &Pool, count: usize) {
    let counted = async {
        while pool.queued() != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, counted).await.unwrap();
}

#[tokio::test]
async fn it_hashes_and_verifies() {
    let pool = pool(2, 8);
    let hash = pool.hash(text("correct horse"), LONG).await.unwrap();
    let right = pool
        .verify(Some(hash.clone()), text("correct horse"), LONG)
        .await
        .unwrap();
    assert!(right.matches && !right.rehash_needed);
    for stored in [Some(hash), None, Some(text(""))] {
        let wrong = pool.verify(stored, text("correct horsf"), LONG).await.unwrap();
        assert!(!wrong.matches && !wrong.rehash_needed);
    }
    pool.check(&text("correct horse battery"), "password", &[], LONG)
        .await
        .unwrap();
    for weak in ["short", "ada.lovelaceada.lovelace"] {
        let error = pool
            .check(&text(weak), "password", &["ada.lovelace"], LONG)
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::PasswordTooWeak);
    }
    let long = pool.verify(None, text(&"x".repeat(1_025)), LONG).await.unwrap_err();
    assert_eq!(long.kind, ErrorKind::InvalidRequest);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let pool = pool(1, 2);
    let (release, busy) = occupy(&pool).await;
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.hash(text("waits"), LONG).await })
        })
        .collect();
    queued(&pool, 2).await;
    let error = pool.hash(text("refused"), LONG).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Overloaded);
    assert!(error.retry_after.is_some());
    drop(release);
    busy.await.unwrap().unwrap();
    for task in waiting {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_caller_that_has_gone_away_is_not_hashed_and_blocks_no_other() {
    let pool = pool(1, 1);
    let (release, busy) = occupy(&pool).await;
    let hashed = Arc::new(AtomicUsize::new(0));
    let (gone, count) = (Arc::clone(&pool), Arc::clone(&hashed));
    let gone = tokio::spawn(async move {
        let work = move |_: &HashParameters, _: &mut ScratchMemory| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        gone.run(LONG, work).await
    });
    queued(&pool, 1).await;
    gone.abort();
    gone.await.unwrap_err();
    // The only queued caller has gone away, so the next caller takes its place.
    let next = Arc::clone(&pool);
    let next = tokio::spawn(async move { next.hash(text("next"), LONG).await });
    tokio::task::yield_now().await;
    drop(release);
    busy.await.unwrap().unwrap();
    next.await.unwrap().unwrap();
    assert_eq!(hashed.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_password_past_its_deadline_is_not_hashed() {
    let pool = pool(1, 8);
    let (release, busy) = occupy(&pool).await;
    let hashed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&hashed);
    let work = move |_: &HashParameters, _: &mut ScratchMemory| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    // The pool's clock starts with the pool. If this test is slower than the deadline, the result is the same.
    let soon = Duration::from_millis(200);
    assert_eq!(
        pool.run(soon, work).await.unwrap_err().kind,
        ErrorKind::DeadlineExceeded
    );
    assert_eq!(
        pool.hash(text("late"), Duration::ZERO).await.unwrap_err().kind,
        ErrorKind::DeadlineExceeded
    );
    drop(release);
    busy.await.unwrap().unwrap();
    pool.hash(text("after"), LONG).await.unwrap();
    assert_eq!(hashed.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_panic_costs_one_call_and_no_thread() {
    let pool = pool(1, 8);
    let work = |_: &HashParameters, _: &mut ScratchMemory| -> Result<(), Error> { panic!("a library's defect") };
    assert_eq!(pool.run(LONG, work).await.unwrap_err().kind, ErrorKind::Internal);
    pool.hash(text("goes on"), LONG).await.unwrap();
}

#[tokio::test]
async fn no_more_hashes_run_at_a_time_than_there_are_threads() {
    let pool = pool(2, 64);
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let (pool, running, most) = (Arc::clone(&pool), Arc::clone(&running), Arc::clone(&most));
            tokio::spawn(async move {
                let work = move |parameters: &HashParameters, memory: &mut ScratchMemory| {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let hash = parameters.hash(&text("password"), &SystemEntropy, memory);
                    running.fetch_sub(1, Ordering::SeqCst);
                    hash
                };
                pool.run(LONG, work).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn stopping_the_pool_answers_waiting_callers() {
    let pool = pool(1, 8);
    let (release, busy) = occupy(&pool).await;
    let waiting = Arc::clone(&pool);
    let waiting = tokio::spawn(async move { waiting.hash(text("waits"), LONG).await });
    queued(&pool, 1).await;
    let stopping = Arc::clone(&pool);
    let stopping = tokio::task::spawn_blocking(move || stopping.stop());
    assert_eq!(waiting.await.unwrap().unwrap_err().kind, ErrorKind::ShuttingDown);
    drop(release);
    stopping.await.unwrap();
    busy.await.unwrap().unwrap();
    assert_eq!(
        pool.hash(text("late"), LONG).await.unwrap_err().kind,
        ErrorKind::ShuttingDown
    );
}

#[tokio::test]
async fn peppers_are_used_from_the_next_hash_on() {
    let pool = pool(1, 8);
    let plain = pool.hash(text("password"), LONG).await.unwrap();
    pool.set_peppers(Peppers::new([(7, SecretBytes::new([7; 32]))], true));
    let verdict = pool.verify(Some(plain), text("password"), LONG).await.unwrap();
    assert!(verdict.matches && verdict.rehash_needed);
    assert!(
        pool.hash(text("password"), LONG)
            .await
            .unwrap()
            .expose()
            .contains("keyid=AAAABw")
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn hashing_gives_way_to_serving() {
    let pool = pool(1, 8);
    let nice = |_: &HashParameters, _: &mut ScratchMemory| Ok(rustix::process::getpriority_process(None).unwrap());
    let here = rustix::process::getpriority_process(None).unwrap();
    assert!(pool.run(LONG, nice).await.unwrap() > here);
    assert_eq!(rustix::process::getpriority_process(None).unwrap(), here);
}
