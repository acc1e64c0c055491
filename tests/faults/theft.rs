//! A refresh token is stolen: both the honest client and the attacker use it. The session is revoked on all three
//! replicas, with all its tokens.

use std::time::Duration;

use countersign::clock::{Clock as _, SystemClock};
use countersign::proto::{RefreshOutcome, Tokens};
use tokio::time::{Instant, sleep_until};
use tonic::Code;

use crate::support::{Caller, Fleet, assert_refused};

/// A sequence of refreshes with stolen tokens. The last call is the one that revokes the session.
struct Sequence<'a> {
    callers: &'a [Caller],
    begun: Instant,
    second: i64,
    turn: usize,
    tokens: Vec<Tokens>,
}

fn second() -> i64 {
    SystemClock::new().now().0 / 1000
}

impl<'a> Sequence<'a> {
    async fn begin(callers: &'a [Caller], client: &str) -> Self {
        let tokens = callers[0].login_at(client, "ada").await;
        Self {
            callers,
            begun: Instant::now(),
            second: second(),
            turn: 0,
            tokens: vec![tokens],
        }
    }

    /// Each call goes to the next replica.
    fn caller(&mut self) -> &'a Caller {
        self.turn += 1;
        &self.callers[self.turn % self.callers.len()]
    }

    /// Presents the `n`th token of the sequence; the refresh succeeds.
    async fn refresh(&mut self, n: usize, attempt: &str) -> RefreshOutcome {
        let token = self.tokens[n].refresh_token.clone();
        let answer = self
            .caller()
            .refresh_as(&token, attempt)
            .await
            .expect("the refresh succeeds");
        let outcome = answer.outcome();
        self.tokens.push(answer.tokens.unwrap());
        outcome
    }

    /// Presents the `n`th token of the sequence, which is a reuse and revokes the session.
    #[expect(clippy::print_stdout, reason = "a test says what it measured")]
    async fn reuse(mut self, n: usize, attempt: &str, what: &str) {
        let token = self.tokens[n].refresh_token.clone();
        let refused = self.caller().refresh_as(&token, attempt).await;
        assert_refused(refused, Code::Unauthenticated, "REFRESH_TOKEN_REUSED");
        let (ended, in_one_second) = (Instant::now(), self.second == second());
        let mut slowest = Duration::ZERO;
        for caller in self.callers {
            for tokens in &self.tokens {
                let refused = caller.refresh_as(&tokens.refresh_token, attempt).await;
                assert_refused(refused, Code::Unauthenticated, "SESSION_REVOKED");
                caller.until_revoked(&tokens.access_token).await;
            }
            slowest = ended.elapsed();
        }
        println!(
            "{what}: revoked after {:?}{}; checked at every replica {slowest:?} later",
            ended.duration_since(self.begun),
            if in_one_second {
                ", all within one second of the wall clock"
            } else {
                ""
            },
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reuse_of_a_stolen_token_revokes_the_session_whichever_party_is_first() {
    let fleet = Fleet::start(&[], &[]).await;
    fleet
        .run(&[
            "client",
            "add",
            "graceless",
            "--grant",
            "password",
            "--audience",
            "*",
            "--refresh-grace",
            "0s",
        ])
        .await;
    fleet
        .run(&[
            "client",
            "add",
            "brief",
            "--grant",
            "password",
            "--audience",
            "*",
            "--refresh-grace",
            "1s",
        ])
        .await;
    let callers = fleet.callers();
    // The first call of each replica pays for its connection.
    for caller in &callers {
        caller.login("ada").await;
    }

    let mut sequence = Sequence::begin(&callers, "default").await;
    sequence.refresh(0, "").await;
    sequence.refresh(1, "").await;
    sequence.reuse(0, "", "the grandparent").await;

    let mut sequence = Sequence::begin(&callers, "default").await;
    for n in 0..5 {
        sequence.refresh(n, "").await;
    }
    sequence.reuse(1, "", "a much older token").await;

    let mut sequence = Sequence::begin(&callers, "graceless").await;
    sequence.refresh(0, "").await;
    sequence.reuse(0, "", "the parent, with a grace of 0").await;

    let mut sequence = Sequence::begin(&callers, "brief").await;
    sequence.refresh(0, "").await;
    sleep_until(Instant::now() + Duration::from_millis(1_050)).await;
    sequence.reuse(0, "", "the parent, after the grace").await;

    let mut sequence = Sequence::begin(&callers, "default").await;
    sequence.refresh(0, "mine").await;
    sequence.reuse(0, "yours", "the parent, with another attempt id").await;

    // The response of the second rotation is lost, so its token is an orphan. Its parent is presented again, and then
    // its grandparent.
    let mut sequence = Sequence::begin(&callers, "default").await;
    sequence.refresh(0, "").await;
    sequence.refresh(1, "").await;
    assert_eq!(sequence.refresh(1, "").await, RefreshOutcome::Replayed);
    sequence.reuse(0, "", "the parent of an orphan").await;

    // The attacker refreshes first: S1, R1 (attacker), S1 (honest).
    let mut sequence = Sequence::begin(&callers, "default").await;
    sequence.refresh(0, "attacker").await;
    sequence
        .reuse(0, "honest", "the honest client, at once, with its own attempt id")
        .await;

    let mut sequence = Sequence::begin(&callers, "brief").await;
    sequence.refresh(0, "").await;
    sleep_until(Instant::now() + Duration::from_millis(1_050)).await;
    sequence.reuse(0, "", "the honest client, after the grace").await;

    // R1 and R2 by the attacker, then S1 by the honest client.
    let mut sequence = Sequence::begin(&callers, "default").await;
    sequence.refresh(0, "").await;
    sequence.refresh(1, "").await;
    sequence.reuse(0, "", "the honest client, two generations behind").await;

    // Within the grace both get the same successor. When one of them goes further, the next use by the other revokes
    // the session.
    let mut sequence = Sequence::begin(&callers, "default").await;
    sequence.refresh(0, "").await;
    assert_eq!(sequence.refresh(0, "").await, RefreshOutcome::Replayed);
    assert_eq!(sequence.tokens[1].refresh_token, sequence.tokens[2].refresh_token);
    sequence.refresh(1, "attacker").await;
    sequence
        .reuse(2, "honest", "the first divergence of two holders of the same token")
        .await;

    let reused = "SELECT count(*) FROM audit_events WHERE kind = 'token.refresh.reused'";
    assert_eq!(fleet.database.scalar(reused).await, "10");
    fleet.assert_no_panics();
}
