//! A service that lets only good tokens in: they are verified here, without a call.
//!
//! ```console
//! $ countersign client add orders --grant client_secret --scope countersign:watch --scope countersign:validate
//! $ cargo run --example guard < secret
//! ```

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;

use countersign::client::{Claims, Client, Credential, GuardLayer, Verifier, VerifierConfig};
use http::{Request, Response, StatusCode, header};
use tower::{Service as _, ServiceBuilder, ServiceExt as _};

/// Stands for any tower service: axum's router, or tonic's.
async fn orders(request: Request<String>) -> Result<Response<String>, Infallible> {
    // The guard has put them there.
    let claims = request.extensions().get::<Arc<Claims>>();
    let who = claims.map_or("nobody", |claims| claims.sub.as_str());
    Ok(Response::new(format!("the orders of {who}\n")))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret = std::io::stdin()
        .lines()
        .next()
        .ok_or("the secret is read from the standard input")??;
    let client = Client::builder("http://127.0.0.1:50051")
        .credential(Credential::Secret {
            client_id: "orders".to_owned(),
            secret: secret.into(),
            scope: vec!["countersign:watch".to_owned(), "countersign:validate".to_owned()],
        })
        .connect_lazy()?;
    let verifier = Verifier::start(client, VerifierConfig::new("https://countersign.local"));
    verifier.ready().await;

    let mut service = ServiceBuilder::new()
        .layer(GuardLayer::new(verifier, "api", &["orders:read"]))
        .service_fn(orders);

    // As an HTTP server would call it.
    let request = Request::get("/orders")
        .header(header::AUTHORIZATION, "Bearer not-a-token")
        .body(String::new())?;
    let answer = service.ready().await?.call(request).await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    writeln!(std::io::stdout(), "{} {:?}", answer.status(), answer.headers())?;
    Ok(())
}
