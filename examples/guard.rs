//! A service that accepts only requests with a valid token. It verifies tokens locally, without a call to Countersign.
//!
//! ```console
//! $ countersign client add orders --grant client_secret --scope countersign:watch --scope countersign:validate
//! $ cargo run --example guard < secret
//! $ curl --header "authorization: Bearer $TOKEN" http://127.0.0.1:8000/orders
//! ```

use std::io::Write as _;
use std::sync::Arc;

use axum::routing::get;
use axum::{Extension, Router};
use countersign::client::{Claims, Client, Credential, GuardLayer, Verifier, VerifierConfig};

/// The guard has put the claims of the token into the request.
async fn orders(Extension(claims): Extension<Arc<Claims>>) -> String {
    format!("the orders of {}\n", claims.sub)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret = std::io::stdin()
        .lines()
        .next()
        .ok_or("write the client secret to the standard input")??;
    let client = Client::builder("http://127.0.0.1:50051")
        .credential(Credential::Secret {
            client_id: "orders".to_owned(),
            secret: secret.into(),
            scope: vec!["countersign:watch".to_owned(), "countersign:validate".to_owned()],
        })
        .connect_lazy()?;
    let verifier = Verifier::start(client, VerifierConfig::new("https://countersign.local"));
    verifier.ready().await;

    let guard = GuardLayer::new(verifier, "api", &["orders:read"]);
    let service = Router::new().route("/orders", get(orders)).layer(guard);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
    writeln!(std::io::stdout(), "http://{}/orders", listener.local_addr()?)?;
    axum::serve(listener, service).await?;
    Ok(())
}
