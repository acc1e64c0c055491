//! Row 41: two replicas start on empty stores at once. One `default` client is made, one signing key, and nobody who could
//! log in; the first administrator is made by whoever owns the store, and that is on the trail.
//!
//! Full size: `COUNTERSIGN_TEST_STARTS=100 cargo test --all-features --test faults -- first_start`.

use std::thread;

use crate::support::{Admin, Caller, Deployment, Shape, size};

#[tokio::test(flavor = "multi_thread")]
async fn two_first_starts_at_once_make_one_of_each() {
    let rounds = size("COUNTERSIGN_TEST_STARTS", 3);
    for round in 0..rounds {
        let deployment = Deployment::fresh(Shape::Clustered).await;
        let servers = tokio::task::block_in_place(|| {
            thread::scope(|scope| {
                let starts = [(); 2].map(|()| scope.spawn(|| deployment.serve()));
                starts.map(|start| start.join().expect("it starts"))
            })
        });
        let database = deployment.database.as_ref().unwrap();
        for (sql, count) in [
            ("SELECT count(*) FROM clients", "1"),
            ("SELECT count(*) FROM clients WHERE id = 'default'", "1"),
            ("SELECT count(*) FROM signing_keys WHERE state = 'active'", "1"),
            ("SELECT count(*) FROM signing_keys WHERE state = 'pending'", "1"),
            ("SELECT count(*) FROM signing_keys", "2"),
            ("SELECT count(*) FROM secrets WHERE purpose = 'refresh'", "1"),
            ("SELECT count(*) FROM audit_events WHERE kind = 'client.created'", "1"),
            ("SELECT count(*) FROM users", "0"),
        ] {
            assert_eq!(database.scalar(sql).await, count, "round {round}: {sql}");
        }
        if round > 0 {
            continue;
        }
        let root = deployment.add_user("root", &["--admin"]);
        let admin = Admin::of(&servers[0]);
        let made = admin.events("user.created").await;
        assert_eq!(
            (made.len(), made[0].actor.as_str(), &made[0].subject),
            (1, "cli", &root)
        );
        // What one replica signs is good to the other: they have the same keys.
        let tokens = admin.login("", "root", &["countersign:users"], &[]).await.unwrap();
        Caller::of(&servers[1]).assert_active(&tokens.access_token).await;
    }
}
