//! Authorization for proxies, directly and with real ones in front: Envoy (with the configuration of
//! `deploy/envoy.yaml`), nginx, Traefik and Caddy. The application behind them returns the request that reached it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod application;
mod browsers;
mod check;
mod cookies;
mod envoy;
mod forward_auth;
mod hostile;
mod outage;
mod proxies;
mod recipes;
mod routes;
mod site;
