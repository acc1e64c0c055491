//! Generates the Rust code of `proto/` without protoc: protox compiles, tonic-prost-build generates.
//!
//! Writes to `OUT_DIR`: `countersign.v1.rs`, Envoy's `envoy.….rs` for the server, and the descriptors that reflection
//! serves, `descriptors.bin` and `envoy.bin`.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message as _;
use prost_types::FileDescriptorSet;

const FILES: [&str; 6] = ["token", "user", "client", "key", "audit", "reason"];

/// Messages with a password, a token or another secret. Their `Debug` is written by hand in `src/proto.rs`.
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
    // Their tokens come from an earlier message and are of no use in a log.
    "WatchRevocationsRequest",
    "Heartbeat",
];

/// The protocol of Envoy's external authorization. Only the server needs it.
const ENVOY: &str = "envoy/service/auth/v3/external_auth.proto";

/// Messages of Envoy's protocol that contain cookies and tokens.
const ENVOY_SECRET: [&str; 2] = [
    "service.auth.v3.AttributeContext.HttpRequest",
    "config.core.v3.HeaderValue",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");

    let files = FILES.map(|name| format!("countersign/v1/{name}.proto"));
    let mut descriptors = protox::compile(files, ["proto"])?;

    // The command line finds the descriptor of a message by its type name, to print the message as JSON.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();

    tonic_prost_build::configure()
        .build_client(env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(env::var_os("CARGO_FEATURE_SERVER").is_some())
        .skip_debug(SECRET.map(|name| format!(".countersign.v1.{name}")))
        .compile_fds_with_config(descriptors.clone(), config)?;

    write_descriptors("descriptors.bin", &mut descriptors)?;

    if env::var_os("CARGO_FEATURE_SERVER").is_some() {
        let mut descriptors = protox::compile([ENVOY], ["proto"])?;
        tonic_prost_build::configure()
            // The server implements `Check` by hand. The client is for the agent, which asks its upstream.
            .build_client(true)
            .build_server(false)
            // For a dozen headers a BTreeMap is faster to build than a growing HashMap.
            .btree_map(".")
            .extern_path(".google.rpc.Status", "::tonic_types::Status")
            .skip_debug(ENVOY_SECRET.map(|name| format!(".envoy.{name}")))
            .compile_fds(descriptors.clone())?;
        write_descriptors("envoy.bin", &mut descriptors)?;
    }
    Ok(())
}

/// Writes the descriptors without comments: reflection does not need them, and the binary stays smaller.
fn write_descriptors(name: &str, descriptors: &mut FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join(name), descriptors.encode_to_vec())?;
    Ok(())
}
