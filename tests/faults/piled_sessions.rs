//! One user logs in and revokes each session by its id, which tells the store of sessions nothing: the revocation does not
//! know the user. The records must not pile up, and other users must not notice.
//!
//! The full size is `COUNTERSIGN_TEST_PILED_SESSIONS=3000 cargo test --all-features --test faults piled_sessions --
//! --nocapture`.

use std::sync::Arc;
use std::time::Duration;

use countersign::clock::SystemClock;
use countersign::proto::revoke_request::Target;
use countersign::proto::{ListSessionsRequest, RevokeRequest, Session, Tokens};
use countersign::store::sqlite::{Database, Mode};
use rstest::rstest;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::support::raw::with_bearer;
use crate::support::{Admin, Caller, Deployment, DeploymentKind, Load, assert_refused, size};

/// Callers of the attacker at a time.
const AT_ONCE: usize = 16;

/// The default of `tokens.max_sessions_per_user`; the other tests use a larger one.
const LIMIT: usize = 50;

/// How many session records the store has for this user.
async fn records(deployment: &Deployment, user: &str) -> usize {
    let Some(keys) = &deployment.keys else {
        let clock = Arc::new(SystemClock::new());
        let database = Database::open(&deployment.storage.data(), Mode::Subcommand, clock).unwrap();
        let user = user.to_owned();
        let count = database.read(move |tx| {
            let sql = "SELECT count(*) FROM sessions WHERE user_id = ?1";
            tx.first(sql, [user], |row| Ok(row.get::<_, u32>(0)?))
        });
        return count.await.unwrap().unwrap() as usize;
    };
    keys.at(&["HLEN", &format!("{}:s:{{{user}}}", keys.prefix())])
        .parse()
        .unwrap()
}

async fn list(admin: &Admin, user: &str) -> Vec<Session> {
    let request = ListSessionsRequest {
        user_id: user.to_owned(),
    };
    let answer = admin.users.clone().list_sessions(request).await;
    answer.expect("ListSessions succeeds").into_inner().sessions
}

/// Logs in and revokes the session by its id.
async fn piled_up(caller: &Caller) -> Tokens {
    let tokens = caller.login("ada").await;
    let by_id = Target::SessionId(tokens.session_id.clone());
    assert_eq!(caller.revoke(by_id).await.unwrap(), 0);
    tokens
}

/// Refreshes sessions of another user at a steady rate.
async fn refreshes(caller: &Caller) -> Load {
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(Arc::new(Mutex::new(caller.login("ben").await.refresh_token)));
    }
    let caller = caller.clone();
    Load::start(40, move |n| {
        let (caller, session) = (caller.clone(), Arc::clone(&sessions[n % sessions.len()]));
        async move {
            let mut token = session.lock().await;
            *token = caller.refresh(&token).await?.0.refresh_token;
            Ok(())
        }
    })
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn sessions_revoked_by_id_do_not_pile_up(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let count = size("COUNTERSIGN_TEST_PILED_SESSIONS", 200_usize);
    let deployment = Deployment::fresh(deployment_kind).await;
    let deployment = deployment.set("tokens.max_sessions_per_user", &LIMIT.to_string());
    let ada = deployment.add_user("ada", &[]);
    deployment.add_user("ben", &[]);
    let server = deployment.serve();
    let (caller, admin) = (Caller::of(&server), Admin::of(&server));

    let load = refreshes(&caller).await;
    sleep(Duration::from_secs(2)).await;
    let quiet = load.stop().await;
    let load = refreshes(&caller).await;
    let (start, mut attack) = (Instant::now(), JoinSet::new());
    for n in 0..AT_ONCE {
        let caller = Caller::of(&server);
        attack.spawn(async move {
            for _ in (n..count).step_by(AT_ONCE) {
                piled_up(&caller).await;
            }
        });
    }
    attack.join_all().await;
    let (piled, left) = (start.elapsed(), records(&deployment, &ada).await);
    let (start, mut attack) = (Instant::now(), JoinSet::new());
    for _ in 0..AT_ONCE {
        let (admin, ada) = (Admin::of(&server), ada.clone());
        attack.spawn(async move {
            let (end, mut listed) = (Instant::now() + Duration::from_secs(2), 0);
            while Instant::now() < end {
                assert!(list(&admin, &ada).await.is_empty(), "all of them are revoked");
                listed += 1;
            }
            listed
        });
    }
    let listed: u32 = attack.join_all().await.into_iter().sum();
    let busy = load.stop().await;
    println!(
        "{count} sessions made and revoked within {piled:?} left {left} records; {listed} listings within {:?}\n\
         Refresh of another user, quiet: {quiet}\nRefresh of another user, meanwhile: {busy}",
        start.elapsed(),
    );
    quiet.assert_only(&["Ok"]);
    busy.assert_only(&["Ok"]);
    // Each of the logins at a time may find the limit not reached yet.
    assert!(left <= LIMIT + 2 * AT_ONCE, "{left} records");
    assert_eq!(
        records(&deployment, &ada).await,
        0,
        "a listing removes the records of revoked sessions"
    );
    assert_eq!(list(&admin, &ada).await.len(), 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_revoked_session_goes_as_soon_as_its_user_is_known(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let ada = deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let (caller, admin) = (Caller::of(&server), Admin::of(&server));
    let own = caller.login("ada").await;

    // Users revoke their own sessions: the caller is the user.
    let other = caller.login("ada").await;
    let request = RevokeRequest {
        target: Some(Target::SessionId(other.session_id.clone())),
        ..RevokeRequest::default()
    };
    let answer = caller
        .tokens
        .clone()
        .revoke(with_bearer(request, &own.access_token))
        .await;
    assert_eq!(answer.unwrap().into_inner().sessions_revoked, 0, "not counted by id");
    assert_eq!(records(&deployment, &ada).await, 1);
    assert_refused(
        caller.refresh(&other.refresh_token).await,
        Code::Unauthenticated,
        "SESSION_REVOKED",
    );

    // A token names its user.
    let other = caller.login("ada").await;
    caller.revoke(Target::Token(other.access_token.clone())).await.unwrap();
    assert_eq!(records(&deployment, &ada).await, 1);

    // By the id alone: the next use, or the next listing, removes the record.
    let revoked = piled_up(&caller).await;
    assert_eq!(records(&deployment, &ada).await, 2, "the user is not known");
    for _ in 0..2 {
        assert_refused(
            caller.refresh(&revoked.refresh_token).await,
            Code::Unauthenticated,
            "SESSION_REVOKED",
        );
        assert_eq!(records(&deployment, &ada).await, 1);
    }
    for _ in 0..3 {
        piled_up(&caller).await;
    }
    assert_eq!(records(&deployment, &ada).await, 4);
    let listed = list(&admin, &ada).await;
    assert_eq!(
        listed.iter().map(|session| &session.session_id).collect::<Vec<_>>(),
        [&own.session_id]
    );
    assert_eq!(records(&deployment, &ada).await, 1);
    caller.refresh(&own.refresh_token).await.expect("the session is active");
}
