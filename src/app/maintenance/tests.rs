use std::ffi::OsString;

use super::*;
use crate::app::{Access, open};
use crate::config::{Config, Layers};
use crate::model::session::NewSession;
use crate::model::{ClientId, Epochs, SessionContext, SessionId, UserId};
use crate::secret::SystemEntropy;

#[tokio::test]
async fn sessions_that_are_long_over_are_removed_too() {
    let folder = tempfile::tempdir().unwrap();
    let data = ("COUNTERSIGN_STORAGE__DATA_DIR", folder.path().join("data"));
    let config = Config::load(&Layers {
        file: None,
        environment: vec![(OsString::from(data.0), data.1.into_os_string())],
        flags: Vec::new(),
    })
    .unwrap();
    let stores = open(&config, Access::Serve).await.unwrap();
    let app = App::build(&config, stores).await.unwrap();
    let (now, hour) = (app.stores.clock.now(), Duration::from_hours(1));
    let over = NewSession {
        id: SessionId::generate(now, &SystemEntropy),
        user: UserId::generate(now, &SystemEntropy),
        client: ClientId::default(),
        secret_hash: [7; 32],
        refresh_key: 1,
        scope: Vec::new(),
        audience: vec!["api".to_owned()],
        created: now.minus(4 * hour),
        idle_ttl: hour,
        expires: now.minus(2 * hour),
        epochs: Epochs::default(),
        era: 1,
        context: SessionContext::default(),
    };
    let live = NewSession {
        id: SessionId::generate(now, &SystemEntropy),
        expires: now.plus(hour),
        ..over.clone()
    };
    app.stores.sessions.create(&live, 10).await.unwrap();
    app.stores.sessions.create(&over, 10).await.unwrap();
    clean_up(&app).await.unwrap();
    assert_eq!(
        app.stores.sessions.purge_sessions(BATCH_SIZE).await.unwrap(),
        0,
        "nothing is left to remove"
    );
    assert_eq!(app.stores.sessions.list(live.user, 1).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_comparison_of_the_counters_is_repeated_soon() {
    let (reconnected, reconnections) = watch::channel(0);
    let (asked, mut tries) = tokio::sync::mpsc::channel(16);
    let answers = Arc::new(parking_lot::Mutex::new(vec![Ok(false); 3]));
    let compare = {
        let answers = answers.clone();
        async move || {
            asked.try_send(Instant::now()).unwrap();
            answers.lock().pop().unwrap_or(Ok(true))
        }
    };
    let stop = CancellationToken::new();
    let task = tokio::spawn(compare_at_reconnections(compare, true, stop.clone(), reconnections));
    let start = Instant::now();
    for _ in 0..4 {
        tries.recv().await.unwrap();
    }
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "at the start: {:?}",
        start.elapsed()
    );
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(tries.try_recv().is_err(), "all counters were compared");

    // The database fails, too.
    answers
        .lock()
        .extend((0..20).map(|_| Err(crate::model::Error::store_unavailable("away"))));
    reconnected.send(1).unwrap();
    let mut times = Vec::new();
    for _ in 0..21 {
        times.push(tries.recv().await.unwrap());
    }
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        pauses[0] <= Duration::from_millis(100) && pauses[19] <= LONGEST_PAUSE,
        "{pauses:?}"
    );
    assert!(pauses.is_sorted(), "{pauses:?}");
    stop.cancel();
    task.await.unwrap();
}
