//! The program `imp-control`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use imp_control::app::{self, App, StartError};
use imp_control::config::{AdminToken, Cli, Command, Config};
use imp_process::traces::Export;

fn main() -> ExitCode {
    // Before there are threads.
    imp_memory::small_pages_only();
    imp_memory::two_arenas();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Openapi) => print(&imp_control::rest::document().to_string()),
        Some(Command::AdminToken(options)) => admin_token(options).await,
        Some(Command::AcceptRestore(config)) => accept_restore(*config).await,
        Some(Command::Serve(config)) => serve(*config).await,
        None => serve(cli.config).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "imp-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let endpoint = config.otlp_endpoint.as_deref();
    let export = Export::start("imp-control", env!("CARGO_PKG_VERSION"), endpoint)?;
    imp_process::log::start(config.log_format, export.as_ref());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stop = imp_process::stop_signal()?;
    let to_file = config.bootstrap_token_file.is_some();
    let scheme = if config.tls().is_some() { "https" } else { "http" };
    let mut running = App::start(config).await.map_err(one_line)?;
    if let Some(token) = running.admin_token.as_ref().filter(|_| !to_file) {
        print(&format!("First start. The system-admin's token, shown this once:\n{token}"))?;
    }
    let rest = format!("{scheme}://{}", running.rest_addr);
    print(&format!("REST {rest}, docs {rest}/docs"))?;
    tokio::select! {
        () = stop => running.cancel(),
        () = running.stopped() => {}
    }
    running.wait().await;
    tokio::task::spawn_blocking(|| export.map(Export::end)).await?;
    Ok(())
}

/// Requires an existing database: creating one here would be a mistake.
async fn admin_token(options: AdminToken) -> anyhow::Result<()> {
    let token = app::admin_token(&options).await.map_err(one_line)?;
    match &options.token_file {
        Some(path) => print(&format!("A system-admin's token is in {}", path.display())),
        None => print(&token),
    }
}

async fn accept_restore(config: Config) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let epoch = app::accept_restore(&config).await.map_err(one_line)?;
    print(&format!("Accepted: agents take this database from here on (epoch {epoch})."))
}

fn one_line(error: StartError) -> anyhow::Error {
    anyhow::anyhow!(error.to_string().replace('\n', " "))
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
