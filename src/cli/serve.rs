//! `serve`: run the service.

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

/// The username of the user that `--dev` creates.
const DEMO_USER: &str = "demo";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Address of the gRPC port, or unix:PATH for a socket that only its owner may use.
    #[arg(long, value_name = "ADDR")]
    listen: Option<Listen>,

    /// Address of the HTTP port: keys, metrics, health.
    #[arg(long, value_name = "ADDR")]
    http_listen: Option<String>,

    /// For a first try: create a user `demo` with a random password (printed), serve reflection, log as text.
    #[arg(long)]
    dev: bool,

    /// Serve off loopback without TLS; only if a proxy in front of the service does TLS.
    #[arg(long)]
    insecure: bool,

    /// Write the addresses to this file, as JSON, once the service answers.
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
        if let Some(address) = &self.http_listen {
            set("--http-listen", "server.http_listen", address.clone());
        }
        // The sockets of a service manager replace the configured addresses, also for the check of exposure.
        let (grpc, http) = inherited.addresses().map_err(|error| inherited_failure(&error))?;
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

fn inherited_failure(error: &std::io::Error) -> Failure {
    Failure::other(format!("LISTEN_FDS: {error}"))
}

pub(super) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let inherited = Inherited::take().map_err(|error| inherited_failure(&error))?;
    let config = context.config_of_service(args.flags(&inherited)?)?;
    if !args.insecure {
        let checked = config.check_exposure().map_err(Failure::from);
        checked.map_err(|failure| failure.in_log(config.telemetry.log_format))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start: {error}")))?;
    let telemetry = {
        let _entered = runtime.enter();
        Telemetry::init(&config.telemetry)?
    };
    super::memory::disable_core_dumps();
    let served = runtime.block_on(serve(&config, args, inherited, &telemetry));
    telemetry.finish();
    if served.is_ok() {
        tracing::info!("stopped");
    }
    // All tasks were told to stop. Those that still run are not waited for.
    runtime.shutdown_background();
    served.map_err(|failure| failure.in_log(config.telemetry.log_format))
}

async fn serve(config: &Config, args: Args, inherited: Inherited, telemetry: &Telemetry) -> Result<(), Failure> {
    let stop = Stop::new();
    let signals = tokio::spawn(on_signals(stop.clone()));
    let stores = app::open(config, Access::Serve).await?;
    let app = App::build(config, stores).await?;
    let demo = if args.dev {
        Some(create_demo_user(&app).await?)
    } else {
        None
    };
    let options = ServeOptions {
        ready_file: args.ready_file,
        inherited,
        metrics: telemetry.metrics.clone(),
        stop,
    };
    let served = app::serve(config, app, options, |addresses| {
        print_greeting(config, &addresses, demo.as_ref());
    })
    .await;
    signals.abort();
    Ok(served?)
}

/// The user `demo`.
enum DemoUser {
    /// It was created with this password.
    Created(SecretText),
    /// It was created by an earlier start.
    Exists,
}

/// Creates the user `demo`, unless it exists.
async fn create_demo_user(app: &Arc<App>) -> Result<DemoUser, Failure> {
    let text: String = random::<20>(&*app.stores.entropy)
        .iter()
        .map(|byte| char::from(b'a' + byte % 26))
        .collect();
    let password = SecretText::new(text);
    let draft = UserDraft {
        username: DEMO_USER.to_owned(),
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
        Ok(_) => Ok(DemoUser::Created(password)),
        Err(error) if error.kind == ErrorKind::UserExists => Ok(DemoUser::Exists),
        Err(error) => Err(error.into()),
    }
}

/// Prints the addresses of the service and a first call.
fn print_greeting(config: &Config, addresses: &Addresses, demo: Option<&DemoUser>) {
    let Addresses { grpc, http } = addresses;
    tracing::info!(%grpc, %http, mode = ?config.mode(), "serving");
    let storage = match config.mode() {
        Mode::Embedded => format!("Everything is kept in {}\n", config.storage.data_dir.display()),
        Mode::Clustered => String::new(),
    };
    let (scheme, plain) = if config.server.tls.cert.is_some() {
        ("https", "")
    } else {
        ("http", " -plaintext")
    };
    let call = match demo {
        Some(DemoUser::Created(password)) => {
            let password = password.expose();
            let credential = format!(r#"{{"password": {{"username": "{DEMO_USER}", "password": "{password}"}}}}"#);
            format!(
                "A user to try it with:  {DEMO_USER}  {password}\n\n  \
                 grpcurl{plain} -d '{credential}' \\\n    {grpc} countersign.v1.TokenService/Issue\n"
            )
        }
        Some(DemoUser::Exists) => format!(
            "The user {DEMO_USER} was created by an earlier start:\n  \
             countersign user passwd {DEMO_USER}    sets a new password, also while this runs\n"
        ),
        None => format!(
            "  countersign user add NAME    creates a user, also while this runs\n  \
             grpcurl{plain} {grpc} list    lists the services, if reflection is on\n"
        ),
    };
    let text =
        format!("Countersign serves gRPC on {grpc}, keys, metrics and health on {scheme}://{http}\n{storage}\n{call}");
    // A closed standard output must not stop the service.
    drop(super::output::print(&text));
}
