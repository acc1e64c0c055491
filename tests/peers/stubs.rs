//! Stubs that are generated from the protos, compiled, and run against a server: Python, TypeScript, Java and Go.
//!
//! Each makes the calls of `grpc`, with requests that are compressed with gzip. `tests/run` installs what Python and
//! TypeScript need, `tests/toolchains` what Java and Go need. Without it their tests are skipped, but not where
//! `COUNTERSIGN_TEST_TOOLCHAINS` is set, as in CI.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::grpc::{ROOT, TlsServer, output, runs, tool};
use crate::support::PASSWORD;
use crate::support::deployment::{add_user, for_tests};
use crate::support::process::find;
use crate::support::serve::Storage;

const PROTOS: [&str; 6] = ["audit", "client", "key", "reason", "token", "user"];

/// An empty folder for generated files.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(ROOT).join("target/peers").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a command to its end, which must succeed.
fn succeed(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", output(&done));
}

/// `protoc` for all protos, with these options.
fn generate(protoc: &mut Command, options: &[String]) {
    let files = PROTOS.map(|name| format!("proto/countersign/v1/{name}.proto"));
    succeed(protoc.arg("-Iproto").args(options).args(files).current_dir(ROOT));
}

/// The `protoc` of grpcio-tools.
fn protoc() -> Command {
    let mut python = Command::new(tool("python3"));
    python.args(["-m", "grpc_tools.protoc"]);
    python
}

/// Whether a test that needs this may run. If not, it is skipped, or fails where toolchains must be there.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn is_installed(name: &str, found: bool) -> bool {
    let required = std::env::var_os("COUNTERSIGN_TEST_TOOLCHAINS").is_some();
    assert!(
        found || !required,
        "{name} is not installed: tests/toolchains does that"
    );
    if !found {
        eprintln!("{name} is not installed (tests/toolchains): the test is skipped");
    }
    found
}

#[test]
fn stubs_for_python_make_the_calls() {
    let tls = TlsServer::start();
    let generated = folder("python");
    let into = |what: &str| format!("--{what}={}", generated.display());
    generate(
        &mut protoc(),
        &[into("python_out"), into("pyi_out"), into("grpc_python_out")],
    );
    let imports = PROTOS.map(|name| format!("import countersign.v1.{name}_pb2, countersign.v1.{name}_pb2_grpc\n"));
    succeed(
        Command::new(tool("python3"))
            .args(["-W", "error", "-c", &imports.concat()])
            .env("PYTHONPATH", &generated),
    );
    let mut command = Command::new(tool("python3"));
    let script = format!("{ROOT}/tests/peers/grpcio/calls.py");
    runs(&tls, command.arg(script).env("PYTHONPATH", &generated));
}

#[test]
fn stubs_for_typescript_make_the_calls() {
    let tls = TlsServer::start();
    let source = Path::new(ROOT).join("tests/peers/typescript");
    let modules = source.join("node_modules");
    assert!(modules.is_dir(), "ts-proto is not installed: tests/run does that");
    let build = folder("typescript");
    let generated = build.join("generated");
    std::fs::create_dir(&generated).unwrap();
    std::os::unix::fs::symlink(&modules, build.join("node_modules")).unwrap();
    std::fs::copy(source.join("calls.ts"), build.join("calls.ts")).unwrap();
    generate(
        &mut protoc(),
        &[
            format!("--plugin={}", modules.join(".bin/protoc-gen-ts_proto").display()),
            format!("--ts_proto_out={}", generated.display()),
            "--ts_proto_opt=outputServices=grpc-js,env=node,esModuleInterop=true".to_owned(),
        ],
    );
    let sources = PROTOS.map(|name| format!("generated/countersign/v1/{name}.ts"));
    let options = [
        "--strict",
        "--target",
        "es2022",
        "--module",
        "commonjs",
        "--esModuleInterop",
        "--skipLibCheck",
    ];
    succeed(
        Command::new(tool("node"))
            .arg(modules.join("typescript/bin/tsc"))
            .args(options)
            .arg("calls.ts")
            .args(sources)
            .current_dir(&build),
    );
    runs(&tls, Command::new(tool("node")).arg(build.join("calls.js")));
}

#[test]
fn stubs_for_java_make_the_calls() {
    let jars = Path::new("/usr/share/java");
    let plugin = find("grpc_java_plugin");
    let (javac, java, compiler) = (find("javac"), find("java"), find("protoc"));
    let libraries = jars.join("grpc-netty.jar").is_file() && jars.join("protobuf.jar").is_file();
    let found = plugin.is_some() && javac.is_some() && java.is_some() && compiler.is_some() && libraries;
    if !is_installed("grpc-java", found) {
        return;
    }
    let storage = for_tests(Storage::embedded());
    add_user(&storage, "ada", &[]);
    let server = storage.serve(&[]);
    let build = folder("java");
    let into = |what: &str| format!("--{what}={}", build.display());
    // The generated code must have the version of the library, so this is the `protoc` of the same system.
    generate(
        &mut Command::new(compiler.unwrap()),
        &[
            format!("--plugin=protoc-gen-grpc-java={}", plugin.unwrap().display()),
            into("java_out"),
            into("grpc-java_out"),
        ],
    );
    let classes = build.join("classes");
    let sources: Vec<PathBuf> = std::fs::read_dir(build.join("countersign/v1"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    succeed(
        Command::new(javac.unwrap())
            .args(["-cp", "/usr/share/java/*", "-proc:none", "-d"])
            .arg(&classes)
            .arg(format!("{ROOT}/tests/peers/grpc-java/Calls.java"))
            .args(sources),
    );
    let done = Command::new(java.unwrap())
        .arg("-cp")
        .arg(format!("{}:/usr/share/java/*", classes.display()))
        .args(["Calls", &server.grpc().to_string()])
        .env("PEER_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    assert!(
        done.status.success() && done.stdout.ends_with(b"good\n"),
        "{:?}: {}",
        done.status,
        output(&done)
    );
}

#[test]
fn stubs_for_go_make_the_calls() {
    let packaged = Path::new("/usr/share/gocode");
    let (go, plugin, grpc_plugin) = (find("go"), find("protoc-gen-go"), find("protoc-gen-go-grpc"));
    let libraries = packaged.join("src/google.golang.org/grpc").is_dir();
    let found = go.is_some() && plugin.is_some() && grpc_plugin.is_some() && libraries;
    if !is_installed("grpc-go", found) {
        return;
    }
    let tls = TlsServer::start();
    let build = folder("go");
    let source = build.join("src");
    std::fs::create_dir(&source).unwrap();
    let into = |what: &str| format!("--{what}={}", source.display());
    generate(&mut protoc(), &[into("go_out"), into("go-grpc_out")]);
    let program = build.join("peer");
    succeed(
        Command::new(go.unwrap())
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(format!("{ROOT}/tests/peers/grpc-go"))
            .env("GO111MODULE", "off")
            .env("GOPATH", format!("{}:{}", build.display(), packaged.display()))
            .env("GOCACHE", Path::new(ROOT).join("target/go")),
    );
    runs(&tls, &mut Command::new(program));
}

/// There is no compiler for C# to be had here: this checks only that the code has the namespace.
#[test]
fn stubs_for_csharp_have_the_namespace_of_the_protos() {
    // The one of grpcio-tools has no C#.
    let compiler = find("protoc");
    if !is_installed("protoc", compiler.is_some()) {
        return;
    }
    let build = folder("csharp");
    let into = format!("--csharp_out={}", build.display());
    generate(&mut Command::new(compiler.unwrap()), &[into]);
    for name in ["Audit", "Client", "Key", "Reason", "Token", "User"] {
        let code = std::fs::read_to_string(build.join(format!("{name}.cs"))).unwrap();
        assert!(code.contains("namespace Countersign.V1 {"), "{name}");
    }
}
