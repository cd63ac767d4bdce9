//! `imp-control`: wires the parts.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use imp_control::app::{self, App, StartError, accept_restore};
use imp_control::config::{AdminToken, Cli, Command, Config};

#[tokio::main]
async fn main() -> ExitCode {
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
    imp_process::log::start(config.log_format);
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
    Ok(())
}

/// On a database that is there: one that would be made now is somebody's mistake.
async fn admin_token(options: AdminToken) -> anyhow::Result<()> {
    let token = app::admin_token(&options).await.map_err(one_line)?;
    match &options.token_file {
        Some(path) => print(&format!("A system-admin's token is in {}", path.display())),
        None => print(&token),
    }
}

async fn accept_restore(config: Config) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = app::open(&config).await.map_err(one_line)?;
    let epoch = accept_restore::accept_restore(&store, imp_process::clock::now()).await?;
    store.close().await;
    print(&format!("Accepted: agents take this database from here on (epoch {epoch})."))
}

fn one_line(error: StartError) -> anyhow::Error {
    anyhow::anyhow!(error.to_string().replace('\n', " "))
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
