use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use uuid::Uuid;

use super::*;
use crate::clock::{SystemClock, UnixMillis};
use crate::model::{ClientId, Error, ErrorKind};
use crate::secret::SystemEntropy;
use crate::store::{AuditQuery, Page};

/// A store in memory that can be down.
#[derive(Default)]
struct Trail {
    rows: Mutex<Vec<AuditEvent>>,
    statements: Mutex<u32>,
    down: AtomicBool,
}

#[async_trait]
impl AuditStore for Trail {
    async fn append_audit(&self, _: &AuditEvent) -> Result<()> {
        if self.down.load(Ordering::SeqCst) {
            return Err(ErrorKind::StoreUnavailable.into());
        }
        Err(Error::internal("a failure has no statement of its own"))
    }

    async fn append_audit_events(&self, events: &[AuditEvent]) -> Result<()> {
        if self.down.load(Ordering::SeqCst) {
            return Err(ErrorKind::StoreUnavailable.into());
        }
        *self.statements.lock() += 1;
        self.rows.lock().extend_from_slice(events);
        Ok(())
    }

    async fn list_audit(&self, _: &AuditQuery, _: Option<Uuid>, _: u32) -> Result<Page<AuditEvent>> {
        Err(Error::internal("not listed"))
    }

    async fn purge_audit(&self, _: UnixMillis, _: u32) -> Result<u32> {
        Ok(0)
    }
}

fn log(rows: u32) -> (Arc<Trail>, Arc<AttemptLog>) {
    let trail = Arc::new(Trail::default());
    let master = Arc::new(MasterKeyring::parse(&MasterKeyring::generate(&SystemEntropy)).unwrap());
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    let log = AttemptLog::new(trail.clone(), master, clock, entropy, rows);
    (trail, Arc::new(log))
}

fn failure<'a>(subject: Subject<'a>, ip_address: &str) -> Failure<'a> {
    Failure {
        kind: AuditType::TokenIssueFailed,
        grant: Some(Grant::Password),
        subject,
        client: Some(Named::Known("web")),
        origin: Origin {
            actor: String::new(),
            ip_address: ip_address.to_owned(),
            request_id: format!("request of {ip_address}"),
        },
    }
}

const fn unknown_name(name: &str) -> Subject<'_> {
    Subject::Other(Named::Unknown(name))
}

fn count(event: &AuditEvent) -> u64 {
    event.details.get("count").map_or(1, |count| count.as_u64().unwrap())
}

#[tokio::test]
async fn failures_of_one_network_are_one_row_with_their_number() {
    let (trail, log) = log(100);
    for host in 1..=200 {
        log.record(&failure(
            unknown_name(&format!("name{host}")),
            &format!("192.0.2.{host}"),
        ));
    }
    log.record(&failure(unknown_name("ada"), "2001:db8:1:2::3"));
    log.record(&failure(unknown_name("ada"), "2001:db8:1:ffff::4"));
    log.record(&failure(unknown_name("ada"), "198.51.100.7"));
    assert!(trail.rows.lock().is_empty(), "no call writes");
    log.flush().await.unwrap();
    assert_eq!(*trail.statements.lock(), 1);
    let rows = trail.rows.lock();
    let of = |network: &str| rows.iter().find(|row| row.details["network"] == network).unwrap();
    assert_eq!(rows.len(), 3);

    let many = of("192.0.2.0/24");
    assert_eq!((count(many), many.outcome.as_str()), (200, "denied"));
    assert_eq!((many.subject.as_str(), many.origin.ip_address.as_str()), ("", ""));
    assert_eq!(
        (many.client_id.as_str(), &many.details["grant"]),
        ("web", &"password".into())
    );
    assert!(many.details["first_unix_ms"].as_i64() <= many.details["last_unix_ms"].as_i64());
    // What all failures have in common stays.
    let two = of("2001:db8:1::/48");
    assert_eq!((count(two), two.origin.request_id.as_str()), (2, ""));
    let one = of("198.51.100.0/24");
    assert_eq!((count(one), one.origin.ip_address.as_str()), (1, "198.51.100.7"));
    assert_eq!(one.origin.request_id, "request of 198.51.100.7");
    assert_eq!(one.subject, two.subject, "the same name has the same pseudonym");
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_not_stored() {
    let (trail, log) = log(100);
    let typed = "correct horse battery staple";
    let mut attempt = failure(unknown_name(typed), "192.0.2.1");
    attempt.client = Some(Named::Unknown(typed));
    log.record(&attempt);
    log.flush().await.unwrap();
    let rows = trail.rows.lock();
    assert!(!format!("{rows:?}").contains("horse"), "{rows:?}");
    assert!(rows[0].subject.starts_with("unknown:") && rows[0].subject.len() == 24);
    assert_eq!(rows[0].subject, rows[0].client_id);
}

#[tokio::test]
async fn a_text_that_is_no_address_is_not_stored() {
    let (trail, log) = log(100);
    log.record(&failure(Subject::Account("ada"), "192.0.2.1\0"));
    log.record(&failure(unknown_name("x"), "::ffff:192.0.2.1"));
    log.flush().await.unwrap();
    let addresses: Vec<_> = trail
        .rows
        .lock()
        .iter()
        .map(|row| row.origin.ip_address.clone())
        .collect();
    assert_eq!(addresses, ["", "192.0.2.1"]);
}

#[tokio::test]
async fn an_account_gets_rows_of_its_own_up_to_a_limit() {
    let (trail, log) = log(100);
    let own = usize::try_from(ROWS_PER_ACCOUNT).unwrap();
    for n in 0..own + 50 {
        log.record(&failure(Subject::Account("ada"), &format!("192.0.{n}.1")));
    }
    log.record(&failure(Subject::Account("ben"), "192.0.2.1"));
    log.write().await.unwrap();
    assert_eq!(trail.rows.lock().len(), own + 1, "these do not wait for the interval");
    log.flush().await.unwrap();
    {
        let rows = trail.rows.lock();
        assert_eq!(rows.len(), own + 2);
        let last = rows.last().unwrap();
        assert_eq!((last.subject.as_str(), count(last)), ("ada", 50));
        assert!(rows[..=own].iter().all(|row| !row.origin.ip_address.is_empty()));
    }
    // The next interval begins anew.
    log.record(&failure(Subject::Account("ada"), "192.0.2.1"));
    log.write().await.unwrap();
    assert_eq!(trail.rows.lock().len(), own + 3);
}

#[tokio::test]
async fn a_flood_has_a_limited_number_of_rows_and_the_counts_add_up() {
    let (trail, log) = log(20);
    let mut attempts = 0;
    for n in 0..5000 {
        log.record(&failure(unknown_name("x"), &format!("10.{}.{}.1", n / 250, n % 250)));
        let mut secret = failure(Subject::Other(Named::Unknown("y")), "10.0.0.1");
        secret.grant = Some(Grant::ClientSecret);
        log.record(&secret);
        attempts += 2;
    }
    // Accounts keep their half.
    for n in 0..30 {
        log.record(&failure(Subject::Account(&format!("user{n}")), "10.0.0.1"));
        attempts += 1;
    }
    assert!(log.counts.lock().held() < 60, "the memory is limited as well");
    log.flush().await.unwrap();
    let rows = trail.rows.lock();
    assert!(rows.len() <= 20 + 2, "{}", rows.len());
    assert_eq!(rows.iter().map(count).sum::<u64>(), attempts);
    assert_eq!(rows.iter().filter(|row| row.subject.starts_with("user")).count(), 10);
    let over_limit = rows.iter().filter(|row| row.details.contains_key("over_limit"));
    assert!(over_limit.map(count).sum::<u64>() > 4900);
}

#[tokio::test]
async fn an_outage_of_the_store_loses_no_count_and_writes_no_row_twice() {
    let (trail, log) = log(20);
    log.record(&failure(Subject::Account("ada"), "192.0.2.1"));
    log.record(&failure(unknown_name("x"), "192.0.2.1"));
    trail.down.store(true, Ordering::SeqCst);
    for _ in 0..100 {
        log.flush().await.unwrap_err();
        for n in 0..40 {
            log.record(&failure(Subject::Account(&format!("user{n}")), "192.0.2.1"));
        }
    }
    assert!(log.counts.lock().held() < 40);
    trail.down.store(false, Ordering::SeqCst);
    log.flush().await.unwrap();
    log.flush().await.unwrap();
    let rows = trail.rows.lock();
    assert_eq!(rows.iter().map(count).sum::<u64>(), 2 + 100 * 40);
    assert_eq!(rows.iter().map(|row| row.id).collect::<HashSet<_>>().len(), rows.len());
    assert!(rows.len() <= 2 * 22, "{}", rows.len());
}

#[tokio::test(start_paused = true)]
async fn rows_of_accounts_are_written_at_once_counts_each_interval_and_the_rest_at_the_end() {
    let (trail, log) = log(20);
    let stop = CancellationToken::new();
    let task = tokio::spawn(log.clone().run(stop.clone()));
    let written = async |rows: usize| {
        while trail.rows.lock().len() < rows {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::Instant::now()
    };
    let start = tokio::time::Instant::now();
    log.record(&failure(unknown_name("x"), "192.0.2.1"));
    log.record(&failure(Subject::Account("ada"), "192.0.2.1"));
    assert!(written(1).await - start < Duration::from_secs(1));
    assert_eq!(trail.rows.lock()[0].subject, "ada");
    assert!(written(2).await - start >= INTERVAL);

    trail.down.store(true, Ordering::SeqCst);
    log.record(&failure(Subject::Account("ada"), "192.0.2.1"));
    tokio::time::sleep(Duration::from_secs(5)).await;
    trail.down.store(false, Ordering::SeqCst);
    written(3).await;
    log.record(&failure(unknown_name("x"), "192.0.2.1"));
    stop.cancel();
    task.await.unwrap();
    assert_eq!(trail.rows.lock().len(), 4);
}

#[tokio::test]
async fn tokens_of_a_client_have_rows_of_their_own_up_to_a_limit() {
    let (trail, log) = log(100);
    let origin = |request_id: &str| Origin {
        request_id: request_id.to_owned(),
        ..Origin::default()
    };
    let token = |client: &str, n: u32| {
        let client = ClientId::parse(client, "client_id").unwrap();
        AuditEvent::new(
            AuditType::TokenIssued,
            &client,
            &origin(&n.to_string()),
            UnixMillis(i64::from(n)),
            &SystemEntropy,
        )
        .with_client(&client)
    };
    let count_token = |client: &str, n| log.count_token(AuditType::TokenIssued, token(client, n)).is_some();
    let own = (0..500).filter(|n| count_token("billing", *n)).count();
    assert_eq!(own, 60);
    assert!(count_token("web", 1), "another client");
    // All clients together: each has one more row, with its count.
    let others = (0..100).map(|client| (0..20).filter(|n| count_token(&format!("client{client}"), *n)).count());
    assert_eq!(others.sum::<usize>(), 600 - 61);
    assert!(trail.rows.lock().is_empty(), "the calls write rows of their own");
    log.flush().await.unwrap();
    let rows = trail.rows.lock();
    let billing = rows.iter().find(|row| row.client_id == "billing").unwrap();
    assert_eq!(
        (count(billing), billing.subject.as_str(), billing.outcome.as_str()),
        (440, "billing", "success")
    );
    assert_eq!(
        (billing.origin.request_id.as_str(), &billing.details["last_unix_ms"]),
        ("", &499.into())
    );
    let all: u64 = rows.iter().map(count).sum();
    assert_eq!(all + 600, 500 + 1 + 100 * 20);
    assert!(rows.len() <= 101, "{}", rows.len());
}

/// The rows of tokens that the store could not take are written later, each once, and no more than in any interval.
#[tokio::test]
async fn tokens_of_machines_do_not_wait_for_a_store_without_writes() {
    let (trail, log) = log(100);
    trail.down.store(true, Ordering::SeqCst);
    let client = ClientId::parse("billing", "client_id").unwrap();
    for n in 0..100 {
        let event = AuditEvent::new(
            AuditType::TokenIssued,
            &client,
            &Origin::system(),
            UnixMillis(n),
            &SystemEntropy,
        );
        let event = event.with_client(&client);
        log.record_token(AuditType::TokenIssued, event).await.unwrap();
    }
    assert!(log.flush().await.is_err());
    trail.down.store(false, Ordering::SeqCst);
    log.flush().await.unwrap();
    let rows = trail.rows.lock();
    let ids: HashSet<Uuid> = rows.iter().map(|row| row.id).collect();
    assert_eq!((rows.len(), ids.len()), (61, 61), "60 rows and one count");
    assert_eq!(rows.iter().map(count).sum::<u64>(), 100);
}
