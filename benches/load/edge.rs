//! Envoy's Check, which a proxy calls for each request.

use std::sync::Arc;

use bytes::Bytes;
use countersign::proto::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use countersign::proto::envoy::service::auth::v3::{AttributeContext, CheckRequest};

use crate::cases::{STREAMS, VALIDATE, alternate, requests, warm_up};
use crate::figures::speed;
use crate::generator::framed;
use crate::report::ReportRow;
use crate::server::Server;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

pub async fn check(server: &Server) -> Vec<ReportRow> {
    let tokens = server.tokens(1000);
    let (validate, checks) = (requests(&tokens), Arc::new(tokens.iter().map(check_request).collect()));
    let (ours, theirs) = (server.target(CHECK), server.target(VALIDATE));
    warm_up(&ours, &checks).await;
    warm_up(&theirs, &validate).await;
    let [checked, validated] = alternate([(&ours, &checks), (&theirs, &validate)], STREAMS).await;
    vec![
        ReportRow::new(
            "Check (against Validate)",
            "calls/s",
            speed(&checked),
            speed(&validated),
        )
        .at_least(0.85),
    ]
}

/// A request of Envoy for a typical request of a browser.
fn check_request(token: &String) -> Bytes {
    let headers = [
        (":authority", "shop.example.org"),
        (":method", "GET"),
        (":path", "/reports/2026"),
        (":scheme", "https"),
        (
            "accept",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        ),
        ("accept-language", "en-GB,en;q=0.5"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        ),
        ("x-forwarded-for", "192.0.2.17"),
        ("x-request-id", "7c1f4dbe-5d2e-4d0a-8f4b-0e9b5b7f5f11"),
    ];
    let mut headers: std::collections::BTreeMap<String, String> = headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    headers.insert("authorization".to_owned(), format!("Bearer {token}"));
    framed(&CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(Request {
                http: Some(HttpRequest {
                    method: "GET".to_owned(),
                    host: "shop.example.org".to_owned(),
                    path: "/reports/2026".to_owned(),
                    headers,
                    ..HttpRequest::default()
                }),
            }),
            context_extensions: [("audience".to_owned(), "api".to_owned())].into(),
            ..AttributeContext::default()
        }),
    })
}
