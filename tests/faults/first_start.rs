//! Two replicas start on empty stores at the same time. Together they create one `default` client and one signing
//! key, and no user: no account can log in by default. The owner of the store adds the first administrator by the
//! command line, and the audit trail records that.
//!
//! Full size: `COUNTERSIGN_TEST_STARTS=100 cargo test --all-features --test faults -- first_start`.

use std::thread;

use crate::support::{Admin, Caller, Deployment, DeploymentKind, size};

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_that_start_at_once_create_one_client_and_one_key() {
    let rounds = size("COUNTERSIGN_TEST_STARTS", 3);
    for round in 0..rounds {
        let deployment = Deployment::fresh(DeploymentKind::Clustered).await;
        let servers = tokio::task::block_in_place(|| {
            thread::scope(|scope| {
                let starts = [(); 2].map(|()| scope.spawn(|| deployment.serve()));
                starts.map(|start| start.join().expect("the replica starts"))
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
        // Each replica accepts tokens that the other signs: they have the same keys.
        let tokens = admin.login("", "root", &["countersign:users"], &[]).await.unwrap();
        Caller::of(&servers[1]).assert_active(&tokens.access_token).await;
    }
}
