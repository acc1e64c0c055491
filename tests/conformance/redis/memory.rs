//! How much a session weighs.

use countersign::store::SessionStore as _;

use super::{connected, server};
use crate::sessions::world::{attempt, session_of, user};

/// The goal, in bytes a session, the context apart.
const MOST: usize = 450;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_weighs_little() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    for (count, most) in [(1, MOST), (10, MOST), (50, MOST)] {
        let user = user();
        for _ in 0..count {
            let session = session_of(user);
            store.create(&session, 1000).await.unwrap();
            // As it is after a refresh whose attempt id is a UUID.
            let id = session.id.to_string();
            store.rotate(&attempt(&session, 0, &id)).await.unwrap();
        }
        let key = format!("cs:s:{{{user}}}");
        let bytes: usize = server
            .command(&["MEMORY", "USAGE", &key, "SAMPLES", "0"])
            .parse()
            .unwrap();
        println!("{count} sessions of a user: {} bytes each", bytes / count);
        assert!(bytes / count <= most, "{count} sessions: {bytes} bytes");
    }
}
