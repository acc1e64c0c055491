//! Connections as users write them: to Postgres and Redis in every form of their URLs, and values from env files.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::deployment::{PASSWORD, add_user, for_tests};
use crate::support::{Admin, Caller, Database, KeySpace, Postgres, Redis, Storage, eventually, guard, ports};

/// Longer than a search for a server takes on a busy machine.
const RECOVERY: Duration = Duration::from_secs(30);

pub(crate) fn clustered(database: &str, redis: &str, prefix: &str) -> Storage {
    for_tests(Storage::clustered(database, redis, prefix))
}

/// Asserts that both stores can be used with this configuration, and names the form if not.
pub(crate) fn works(storage: &Storage, form: &str) {
    let done = storage.run(&["doctor"]).finish();
    assert!(done.status.success(), "{form}:\n{}{}", done.stdout, done.stderr);
    // The Redis of these tests has nothing on disk.
    for said in ["answers; schema", "writes nothing to disk"] {
        assert!(done.stdout.contains(said), "{form}:\n{}", done.stdout);
    }
}

/// Makes the server ask the user `app`, who owns the database, for this password.
pub(crate) async fn require_password(server: &Postgres, database: &Database, password: &str) {
    database
        .execute(&format!("CREATE ROLE app LOGIN PASSWORD '{password}'"))
        .await;
    database
        .execute(&format!("ALTER DATABASE {} OWNER TO app", database.name()))
        .await;
    let rules = server.folder().join("data/pg_hba.conf");
    let before = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(
        rules,
        format!("host all app all scram-sha-256\nlocal all app scram-sha-256\n{before}"),
    )
    .unwrap();
    database.execute("SELECT pg_reload_conf()").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_the_urls_leads_to_the_stores() {
    let postgres = Postgres::start(&[("listen_addresses", "127.0.0.1,::1")]);
    let database = postgres.database().await;
    let folder = guard::scratch("sockets");
    let socket = folder.join("redis.sock");
    let redis = Redis::start(&["--bind", "127.0.0.1", "::1", "--unixsocket", socket.to_str().unwrap()]);
    let (name, port, sockets) = (database.name(), postgres.address().port(), postgres.folder().display());
    clustered(database.url(), &redis.url(), "cs")
        .run(&["migrate"])
        .succeed();
    let encoded = sockets.to_string().replace('/', "%2F");
    for form in [
        format!("postgres://postgres@[::1]:{port}/{name}"),
        format!("postgresql://postgres@localhost:{port}/{name}?sslmode=prefer&target_session_attrs=any"),
        format!("postgres://postgres@{encoded}:{port}/{name}"),
        format!("postgres:///{name}?host={sockets}&port={port}&user=postgres"),
        // The first does not answer.
        format!(
            "postgres://postgres@127.0.0.1:{},[::1]:{port}/{name}?target_session_attrs=read-write",
            ports::free()
        ),
        format!("postgres:///?host=/nonexistent,::1&port={port}&user=postgres&dbname={name}"),
    ] {
        works(&clustered(&form, &redis.url(), "cs"), &form);
    }
    let redis_port = redis.address().port();
    for form in [
        format!("redis://[::1]:{redis_port}"),
        format!("redis://localhost:{redis_port}/2"),
        format!("redis+unix://{}", socket.display()),
        format!("unix://{}?db=2", socket.display()),
    ] {
        works(&clustered(database.url(), &form, "cs"), &form);
    }

    // Sessions are in the numbered database, also over the socket.
    add_user(&clustered(database.url(), &redis.url(), "cs"), "ada", &[]);
    for (number, form) in [
        (3, format!("redis://[::1]:{redis_port}/3")),
        (4, format!("redis+unix://{}?db=4", socket.display())),
    ] {
        let server = clustered(database.url(), &form, "cs").serve(&[]);
        Caller::of(&server).login("ada").await;
        assert!(
            redis.command(&["INFO", "keyspace"]).contains(&format!("db{number}:")),
            "{form}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_passwords_can_be_apart_from_the_urls() {
    let password = "p/w@:#%?";
    let postgres = Postgres::start(&[]);
    let database = postgres.database().await;
    require_password(&postgres, &database, password).await;
    let redis = Redis::start(&[]);
    let rule = format!(">{password}");
    redis.command(&["ACL", "SETUSER", "app", "on", &rule, "~*", "&*", "+@all"]);
    redis.command(&["CONFIG", "SET", "requirepass", password]);
    let folder = guard::scratch("secrets");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let file = write("password", &format!("\u{feff}{password} \r\n"));
    let (database_url, redis_url) = (
        format!("postgres://{}/{}", postgres.address(), database.name()),
        redis.url(),
    );
    let storage = clustered(&database_url, &redis_url, "cs")
        .set("storage.database_user", "app")
        .set("storage.redis_user", "app");
    let as_files = storage
        .clone()
        .set("storage.database_password_file", &file)
        .set("storage.redis_password_file", &file);
    as_files.run(&["migrate"]).succeed();
    works(&as_files, "passwords in files");
    let shown = as_files.run(&["config", "show"]).succeed();
    assert!(!shown.contains(password), "{shown}");

    // As libpq reads them.
    let of_redis = storage.clone().set("storage.redis_password", password);
    works(&of_redis.clone().env("PGPASSWORD", password), "PGPASSWORD");
    let escaped = password.replace(':', "\\:");
    let line = format!("127.0.0.1:{}:*:app:{escaped}\n", postgres.address().port());
    works(
        &of_redis.clone().env("PGPASSFILE", &write("pgpass", &line)),
        "PGPASSFILE",
    );

    // Percent-encoded in the URL.
    let encoded = "p%2Fw%40%3A%23%25%3F";
    let in_url = clustered(
        &format!("postgres://app:{encoded}@{}/{}", postgres.address(), database.name()),
        &format!("redis://app:{encoded}@{}", redis.address()),
        "cs",
    );
    works(&in_url, "passwords in the URLs");
    let wrong = of_redis.set("storage.database_password", "wrong");
    let refused = wrong.run(&["doctor"]).finish();
    assert_eq!(refused.code(), Some(69), "{}", refused.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_servers_the_one_that_can_be_written_is_used() {
    let mut first = Postgres::start(&[]);
    let database = first.database().await;
    let keys = KeySpace::fresh();
    clustered(database.url(), keys.url(), keys.prefix())
        .run(&["migrate"])
        .succeed();
    let second = first.streaming_standby("second");
    second.stop_receiving();
    // The standby is the first in the list.
    let hosts = format!("{},{}", second.address(), first.address());
    let url = format!(
        "postgres://postgres@{hosts}/{}?target_session_attrs=read-write",
        database.name()
    );
    let storage = clustered(&url, keys.url(), keys.prefix()).set("storage.acquire_timeout", "2s");
    works(&storage, &url);
    add_user(&storage, "ada", &[]);
    let server = storage.serve(&[]);
    let caller = Caller::of(&server);
    caller.login("ada").await;

    // The standby has received nothing since before `ada` was added.
    first.stop(Signal::SIGINT);
    second.promote();
    add_user(&storage, "grace", &[]);
    eventually("the promoted server is used", RECOVERY, || async {
        caller.issue("grace", PASSWORD).await.ok()
    })
    .await;
    assert!(
        caller.issue("ada", PASSWORD).await.is_err(),
        "the other server has no such user"
    );
    let address = second.address().to_string();
    assert!(server.log().contains(&address), "{}", server.log());

    // Neither: the error names both and their problems.
    let none = clustered(
        &format!(
            "postgres://postgres@{},{}/x",
            first.address(),
            SocketAddr::from(([127, 0, 0, 1], ports::free()))
        ),
        keys.url(),
        "cs",
    );
    let done = none.run(&["user", "list"]).finish();
    assert_eq!(done.code(), Some(69), "{}", done.stderr);
    assert!(done.stderr.contains(&first.address().to_string()), "{}", done.stderr);
    assert!(done.stderr.contains("no server can be written"), "{}", done.stderr);
}

#[test]
fn unknown_parameters_are_named_and_their_values_are_not_shown() {
    for (key, url, cure) in [
        (
            "storage.database_url",
            "postgres://db/cs?sslpassword=canary",
            "without a passphrase",
        ),
        (
            "storage.database_url",
            "postgres://db/cs?channel_binding=canary",
            "only prefer and disable",
        ),
        ("storage.database_url", "postgres://u:can#ary@db/cs", "percent-encode"),
        (
            "storage.redis_url",
            "redis://r?password=canary",
            "storage.redis_password",
        ),
        ("storage.redis_url", "redis://u:canary@r:many", "65535"),
    ] {
        let storage = clustered("postgres://db/cs", "redis://r", "cs").set(key, url);
        for command in [&["config", "check"][..], &["serve"], &["doctor"]] {
            let done = storage.run(command).finish();
            let said = done.stdout + &done.stderr;
            assert_eq!(done.status.code(), Some(64), "{said}");
            assert!(said.contains(key) && said.contains(cure), "{said}");
            assert!(!said.contains("canary") && !said.contains("ary@"), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_to_listen_on_and_values_of_env_files_are_read_as_they_are_written() {
    let storage = for_tests(Storage::embedded())
        .env("COUNTERSIGN_TOKENS__ISSUER", "\"https://a.example\"")
        .env("COUNTERSIGN_TOKENS__ACCESS_TTL", "")
        .env("COUNTERSIGN_TOKENS__REFRESH_GRACE", "'20s'\r");
    let shown = storage.run(&["config", "show"]).succeed();
    for line in [
        "issuer = \"https://a.example\"",
        "access_ttl = \"15m\"  # default",
        "refresh_grace = \"20s\"",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    for (listen, expected) in [("localhost:0", "127.0.0.1"), (":0", "::")] {
        let server = storage.serve_at(listen);
        for address in [
            server.grpc(),
            server.http_url().trim_start_matches("http://").parse().unwrap(),
        ] {
            let address: SocketAddr = address;
            assert_eq!(address.ip().to_string(), expected);
            // `:PORT` is every address of the machine.
            for host in ["127.0.0.1", "::1"]
                .into_iter()
                .take(if listen == ":0" { 2 } else { 1 })
            {
                tokio::net::TcpStream::connect((host, address.port())).await.unwrap();
            }
        }
    }
    let done = storage.run(&["serve", "--listen", ":0"]).finish();
    assert!(
        done.code() == Some(64) && done.stderr.contains("not loopback"),
        "{}",
        done.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn blanks_line_ends_and_byte_order_marks_are_no_part_of_a_secret() {
    let storage = for_tests(Storage::embedded());
    storage.run(&["migrate"]).succeed();
    let typed = format!("\u{feff}{PASSWORD} \t\r\n");
    storage.run(&["user", "add", "ada"]).input(&typed).succeed();
    let folder = guard::scratch("secrets");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let file = write("password", typed.as_bytes());
    storage
        .run(&["user", "add", "grace", "--password-file", &file])
        .succeed();
    add_user(&storage, "root", &["--admin"]);
    let server = storage.serve(&[]);
    let scope = ["countersign:validate"];
    let caller = Admin::of(&server)
        .login("", "root", &scope, &[])
        .await
        .unwrap()
        .access_token;
    for name in ["ada", "grace"] {
        let token = Caller::of(&server).login(name).await.access_token;
        let url = server.grpc_url();
        let call = |words: &[&str]| storage.run(&[&["token"], words, &["--server", &url]].concat());
        call(&["issue", "--user", name, "--password-file", &file]).succeed();
        let padded = format!("{token} \r\n\r\n");
        call(&["validate"]).input(&padded).succeed();
        let in_file = write("token", format!("\u{feff}{padded}").as_bytes());
        call(&["validate", "--token-file", &in_file])
            .env("COUNTERSIGN_TOKEN", &format!("'{caller}'\r"))
            .succeed();
    }
    // As `>` of PowerShell writes a file.
    let utf16: Vec<u8> = [0xfeff]
        .into_iter()
        .chain(PASSWORD.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let file = write("utf16", &utf16);
    let done = storage
        .run(&["user", "add", "linus", "--password-file", &file])
        .finish();
    assert!(
        !done.status.success() && done.stderr.contains("UTF-16"),
        "{}",
        done.stderr
    );
}
