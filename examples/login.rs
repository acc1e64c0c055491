//! Logs a person in, keeps their token fresh, and logs them out.
//!
//! ```console
//! $ cargo run -- serve --dev
//! $ cargo run --example login -- demo PASSWORD
//! ```

use std::io::Write as _;

use countersign::client::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(name), Some(password)) = (words.next(), words.next()) else {
        return Err("usage: login NAME PASSWORD".into());
    };
    let client = Client::builder("http://127.0.0.1:50051").connect_lazy()?;
    let session = client.log_in(&name, &password).await?;

    // Ask for it at every use: it is renewed ahead of its expiry, once, however many ask.
    let token = session.access_token().await?;
    let answer = client.validate(token.expose(), "api", &[]).await?;
    let claims = answer.claims.unwrap_or_default();
    writeln!(
        std::io::stdout(),
        "{name} is {}, in session {}",
        claims.subject,
        claims.session_id
    )?;

    session.log_out().await?;
    let answer = client.validate(token.expose(), "api", &[]).await?;
    writeln!(
        std::io::stdout(),
        "after logging out: active={}, {:?}",
        answer.active,
        answer.reason()
    )?;
    Ok(())
}
