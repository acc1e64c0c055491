//! The service over gRPC: who may call what, within which limits, and what each answer looks like on the wire.

pub mod connection;
pub mod convert;
pub mod health;
pub mod layers;
pub mod policy;
pub mod reflection;
pub mod services;
pub mod status;
mod write_coalescing;

use std::sync::Arc;

use crate::listener::{self, Limits, Listener, Security};
use crate::shutdown::Stop;
use connection::GrpcHandler;
use health::Health;

/// Serves gRPC until `stop`, then drains: tells health's watchers, stops accepting, ends every connection politely, and
/// returns after [`Limits::drain_timeout`] at the latest.
pub async fn serve(
    listener: impl Into<Listener>,
    security: Security,
    limits: Limits,
    grpc: Arc<GrpcHandler>,
    health: &Health,
    stop: &Stop,
) {
    // The listener learns of the end only after health has told it.
    let told = Stop::new();
    let tell = async {
        health.drained().await;
        told.drain();
        stop.stopped().await;
        told.now();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = listener::serve(listener, security, limits, grpc, told.clone()) => {}
        () = tell => {}
    }
}
