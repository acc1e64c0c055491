//! The edge: what proxies are told, and what comes of it, with the real ones in front: Envoy (with the configuration of
//! `deploy/envoy.yaml`), nginx, Traefik and Caddy. The application behind them tells what reached it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod application;
mod check;
mod cookies;
mod envoy;
mod forward_auth;
mod outage;
mod proxies;
mod site;
