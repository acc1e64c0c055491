//! Makes the Rust side of `proto/`, without protoc: protox compiles, tonic-prost-build generates.
//!
//! Leaves in `OUT_DIR`: `countersign.v1.rs`, Envoy's `envoy.….rs` for the server, and `descriptors.bin` and `envoy.bin`,
//! the descriptors that reflection serves.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message as _;
use prost_types::FileDescriptorSet;

const FILES: [&str; 6] = ["token", "user", "client", "key", "audit", "reason"];

/// Messages that hold a password, a token or another secret: `src/proto.rs` writes their `Debug` by hand.
const SECRET: [&str; 17] = [
    "PasswordCredential",
    "ClientSecretCredential",
    "ExchangeCredential",
    "Tokens",
    "RefreshRequest",
    "RevokeRequest",
    "ValidateRequest",
    "CreateUserRequest",
    "ChangePasswordRequest",
    "SetPasswordRequest",
    "BeginPasswordResetResponse",
    "CompletePasswordResetRequest",
    "ImportUsersRequest",
    "CreateClientResponse",
    "RotateClientSecretResponse",
    // They hold whatever the page before and the stream before gave; nobody needs them in a log.
    "WatchRevocationsRequest",
    "Heartbeat",
];

/// What Envoy asks: the server's only.
const ENVOY: &str = "envoy/service/auth/v3/external_auth.proto";

/// Of those, the messages that hold cookies and tokens.
const ENVOY_SECRET: [&str; 2] = [
    "service.auth.v3.AttributeContext.HttpRequest",
    "config.core.v3.HeaderValue",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");

    let files = FILES.map(|name| format!("countersign/v1/{name}.proto"));
    let mut descriptors = protox::compile(files, ["proto"])?;

    // The command line finds a message's descriptor, and with it its JSON, by its name.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();

    tonic_prost_build::configure()
        .build_client(env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(env::var_os("CARGO_FEATURE_SERVER").is_some())
        .skip_debug(SECRET.map(|name| format!(".countersign.v1.{name}")))
        .compile_fds_with_config(descriptors.clone(), config)?;

    keep_shapes("descriptors.bin", &mut descriptors)?;

    if env::var_os("CARGO_FEATURE_SERVER").is_some() {
        let mut descriptors = protox::compile([ENVOY], ["proto"])?;
        tonic_prost_build::configure()
            // Served by hand; an agent asks its upstream, as a client.
            .build_client(true)
            .build_server(false)
            // A dozen headers: a small tree is made sooner than a table that grows.
            .btree_map(".")
            .extern_path(".google.rpc.Status", "::tonic_types::Status")
            .skip_debug(ENVOY_SECRET.map(|name| format!(".envoy.{name}")))
            .compile_fds(descriptors.clone())?;
        keep_shapes("envoy.bin", &mut descriptors)?;
    }
    Ok(())
}

/// Comments are for readers of the files; reflection gives shapes, and the binary stays small.
fn keep_shapes(name: &str, descriptors: &mut FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join(name), descriptors.encode_to_vec())?;
    Ok(())
}
