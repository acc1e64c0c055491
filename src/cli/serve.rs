//! `serve`: run the service.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Context, Failure};
use crate::account::{Principal, UserDraft};
use crate::app::{self, Access, Addresses, App, Inherited, ServeOptions};
use crate::config::{Config, Flag, Listen, Mode};
use crate::model::ErrorKind;
use crate::secret::{SecretText, random};
use crate::shutdown::{Stop, on_signals};
use crate::telemetry::Telemetry;

/// The user that `--dev` makes.
const DEMO: &str = "demo";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Where gRPC answers: an address, or unix:PATH for a socket that only its owner may use.
    #[arg(long, value_name = "ADDR")]
    listen: Option<Listen>,

    /// Address of the side port: keys, metrics, health.
    #[arg(long, value_name = "ADDR")]
    http_listen: Option<SocketAddr>,

    /// For trying out: a user `demo` with a random password (printed), reflection, readable logs.
    #[arg(long)]
    dev: bool,

    /// Serve off loopback without TLS: only where something in front does TLS.
    #[arg(long)]
    insecure: bool,

    /// Write the addresses here, as JSON, once the service answers.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

impl Args {
    fn flags(&self, inherited: &Inherited) -> Result<Vec<Flag>, Failure> {
        let mut flags = Vec::new();
        let mut set = |name, key, value: String| flags.push(Flag { name, key, value });
        if let Some(address) = &self.listen {
            set("--listen", "server.listen", address.to_string());
        }
        if let Some(address) = self.http_listen {
            set("--http-listen", "server.http_listen", address.to_string());
        }
        // What a service manager listens on is what counts, for what may be served there too.
        let (grpc, http) = inherited.addresses().map_err(|error| passed(&error))?;
        if let Some(listen) = grpc {
            set("LISTEN_FDS", "server.listen", listen.to_string());
        }
        if let Some(address) = http {
            set("LISTEN_FDS", "server.http_listen", address.to_string());
        }
        if self.dev {
            set("--dev", "server.reflection", "true".to_owned());
            set("--dev", "telemetry.log_format", "text".to_owned());
        }
        Ok(flags)
    }
}

fn passed(error: &std::io::Error) -> Failure {
    Failure::other(format!("LISTEN_FDS: {error}"))
}

pub(super) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let inherited = Inherited::take().map_err(|error| passed(&error))?;
    let config = context.config(args.flags(&inherited)?)?;
    if !args.insecure {
        config.check_exposure()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start: {error}")))?;
    let telemetry = {
        let _entered = runtime.enter();
        Telemetry::init(&config.telemetry)?
    };
    super::memory::keep();
    let served = runtime.block_on(serve(&config, args, inherited, &telemetry));
    telemetry.finish();
    // What still runs was told to stop; a task that does not is not waited for.
    runtime.shutdown_background();
    served
}

async fn serve(config: &Config, args: Args, inherited: Inherited, telemetry: &Telemetry) -> Result<(), Failure> {
    let stop = Stop::new();
    let signals = tokio::spawn(on_signals(stop.clone()));
    let stores = app::open(config, Access::Serve).await?;
    let app = App::build(config, stores).await?;
    let demo = if args.dev { Some(demo(&app).await?) } else { None };
    let options = ServeOptions {
        ready_file: args.ready_file,
        inherited,
        metrics: telemetry.metrics.clone(),
        stop,
    };
    let served = app::serve(config, app, options, |addresses| {
        greet(config, &addresses, demo.as_ref());
    })
    .await;
    signals.abort();
    Ok(served?)
}

/// The user `demo`.
enum Demo {
    /// With this password.
    Made(SecretText),
    /// By an earlier start.
    WasThere,
}

/// Makes the user `demo`, unless there is one.
async fn demo(app: &Arc<App>) -> Result<Demo, Failure> {
    let text: String = random::<20>(&*app.entropy)
        .iter()
        .map(|byte| char::from(b'a' + byte % 26))
        .collect();
    let password = SecretText::new(text);
    let draft = UserDraft {
        username: DEMO.to_owned(),
        ..UserDraft::default()
    };
    match app
        .users
        .create(
            &Principal::owner(),
            &draft,
            password.clone(),
            super::store::deadline(app),
        )
        .await
    {
        Ok(_) => Ok(Demo::Made(password)),
        Err(error) if error.kind == ErrorKind::UserExists => Ok(Demo::WasThere),
        Err(error) => Err(error.into()),
    }
}

/// Says where the service is and what to call.
fn greet(config: &Config, addresses: &Addresses, demo: Option<&Demo>) {
    let Addresses { grpc, http } = addresses;
    tracing::info!(%grpc, %http, mode = ?config.mode(), "serving");
    let place = match config.mode() {
        Mode::Embedded => format!("Everything is kept in {}\n", config.storage.data_dir.display()),
        Mode::Clustered => String::new(),
    };
    let (scheme, plain) = if config.server.tls.cert.is_some() {
        ("https", "")
    } else {
        ("http", " -plaintext")
    };
    let call = match demo {
        Some(Demo::Made(password)) => {
            let password = password.expose();
            let credential = format!(r#"{{"password": {{"username": "{DEMO}", "password": "{password}"}}}}"#);
            format!(
                "A user to try it with:  {DEMO}  {password}\n\n  \
                 grpcurl{plain} -d '{credential}' \\\n    {grpc} countersign.v1.TokenService/Issue\n"
            )
        }
        Some(Demo::WasThere) => format!(
            "The user {DEMO} was made by an earlier start:\n  \
             countersign user passwd {DEMO}    sets another password, also while this runs\n"
        ),
        None => format!(
            "  countersign user add NAME    makes a user, also while this runs\n  \
             grpcurl{plain} {grpc} list    shows the services, where reflection is on\n"
        ),
    };
    let text =
        format!("Countersign serves gRPC on {grpc}, keys, metrics and health on {scheme}://{http}\n{place}\n{call}");
    // Where nobody reads it the service serves all the same.
    drop(super::output::print(&text));
}
