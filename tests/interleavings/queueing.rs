//! The hashing queue: no job is lost or done twice, and no thread sleeps while there is one.

use std::sync::Arc;

use loom::thread;

use super::hashing_queue::{PushError, Queue, QueueItem};

struct Job(u32);

impl QueueItem for Job {
    fn is_obsolete(&self) -> bool {
        self.0 == OBSOLETE
    }
}

const OBSOLETE: u32 = 99;

#[test]
fn each_of_two_sleeping_threads_gets_a_job() {
    loom::model(|| {
        let queue = Arc::new(Queue::<Job>::new(2));
        let threads = [(); 2].map(|()| {
            let queue = Arc::clone(&queue);
            // A lost wake-up would leave one of them waiting for ever.
            thread::spawn(move || queue.pop().unwrap().0)
        });
        queue.push(Job(1)).unwrap();
        queue.push(Job(2)).unwrap();
        let mut done = threads.map(|thread| thread.join().unwrap());
        done.sort_unstable();
        assert_eq!(done, [1, 2]);
    });
}

#[test]
fn a_closed_queue_ends_every_thread_and_does_no_job_twice() {
    loom::model(|| {
        let queue = Arc::new(Queue::<Job>::new(2));
        let threads = [(); 2].map(|()| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || std::iter::from_fn(|| queue.pop()).map(|job| job.0).collect::<Vec<_>>())
        });
        queue.push(Job(1)).unwrap();
        queue.close();
        assert_eq!(queue.push(Job(2)), Err(PushError::Closed));
        let done: Vec<u32> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        // A job that waits when the queue is closed is dropped.
        assert!(done.is_empty() || done == [1], "{done:?}");
    });
}

#[test]
fn a_full_queue_takes_the_place_of_an_obsolete_job_only() {
    loom::model(|| {
        let queue = Arc::new(Queue::new(1));
        queue.push(Job(OBSOLETE)).unwrap();
        let pushes = [1, 2].map(|number| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.push(Job(number)).map(|()| number))
        });
        let accepted: Vec<u32> = pushes
            .into_iter()
            .filter_map(|push| push.join().unwrap().ok())
            .collect();
        assert_eq!((accepted.len(), queue.len()), (1, 1));
        assert_eq!(queue.pop().unwrap().0, accepted[0]);
    });
}
