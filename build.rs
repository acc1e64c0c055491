//! Makes the Rust side of `proto/`, without protoc: protox compiles, tonic-prost-build generates.
//!
//! Leaves in `OUT_DIR`: `countersign.v1.rs`, and `descriptors.bin`, the descriptors that reflection serves.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message as _;

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

    // Comments are for readers of the files; reflection gives shapes, and the binary stays small.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    Ok(())
}
