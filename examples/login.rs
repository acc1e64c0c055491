//! Logs a user in, keeps the token fresh, and logs the user out.
//!
//! ```console
//! $ cargo run -- serve --dev
//! $ cargo run --example login -- demo PASSWORD
//! ```

use std::io::Write as _;

use countersign::client::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(password)) = (arguments.next(), arguments.next()) else {
        return Err("usage: login NAME PASSWORD".into());
    };
    let client = Client::builder("http://127.0.0.1:50051").connect_lazy()?;
    let session = client.log_in(&name, &password).await?;

    // Call this for each use: the session renews the token before it expires, once for all concurrent callers.
    let token = session.access_token().await?;
    let response = client.validate(token.expose(), "api", &[]).await?;
    let claims = response.claims.unwrap_or_default();
    writeln!(
        std::io::stdout(),
        "{name} is {}, in session {}",
        claims.subject,
        claims.session_id
    )?;

    session.log_out().await?;
    let response = client.validate(token.expose(), "api", &[]).await?;
    writeln!(
        std::io::stdout(),
        "after logging out: active={}, {:?}",
        response.active,
        response.reason()
    )?;
    Ok(())
}
