//! The gRPC server: connections, the pipeline of every call, the policy table, and the services.

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

use tokio::time::Instant;

use crate::listener::{self, Limits, Listener, Security};
use crate::shutdown::Stop;
use connection::GrpcHandler;
use health::Health;

/// Serves gRPC until `stop`, then drains: reports `NOT_SERVING` to the watchers of health, stops accepting, shuts every
/// connection down gracefully, and returns after [`Limits::drain_timeout`] at the latest.
pub async fn serve(
    listener: impl Into<Listener>,
    security: Security,
    limits: Limits,
    grpc: Arc<GrpcHandler>,
    health: &Health,
    stop: &Stop,
) {
    // The listener drains only after health has reported it.
    let listener_stop = Stop::new();
    let forward_stop = async {
        health.drained().await;
        listener_stop.drain();
        stop.stopped().await;
        listener_stop.stop_now();
        std::future::pending::<()>().await;
    };
    let serving = async {
        tokio::select! {
            () = listener::serve(listener, security, limits, grpc, listener_stop.clone()) => {}
            () = forward_stop => {}
        }
    };
    let drain_began = async {
        stop.draining().await;
        Instant::now()
    };
    let (drain_began, ()) = tokio::join!(drain_began, serving);
    let seconds = drain_began.elapsed().as_secs_f64();
    tracing::info!(seconds, "drained: every connection is closed");
}
