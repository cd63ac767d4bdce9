//! The program `imp-agent`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use imp_agent::accept_shrink;
use imp_agent::app::App;
use imp_agent::bootstrap;
use imp_agent::config::{Cli, Command, Config, NodeCertificate};
use imp_agent::module;
use imp_process::traces::Export;

/// After a burst it returns memory, which glibc's arenas keep, once it is told to ([`imp_memory`]).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    imp_memory::small_pages_only();
    imp_memory::return_at_once();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Bootstrap(options)) => {
            bootstrap::render(&options).and_then(|yaml| print(&yaml))
        }
        Some(Command::Module(options)) => module::described(options.module.as_deref())
            .map_err(Into::into)
            .and_then(|text| print(&text)),
        Some(Command::NodeCertificate(options)) => issue(&options),
        Some(Command::AcceptShrink(options)) => {
            accept_shrink::ask(&options).and_then(|words| print(&words))
        }
        Some(Command::Serve(config)) => serve(*config).await,
        None => serve(cli.config).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let line = format!("{error:#}").replace('\n', " ");
            let _ = writeln!(std::io::stderr(), "imp-agent: {line}");
            ExitCode::FAILURE
        }
    }
}

fn issue(options: &NodeCertificate) -> anyhow::Result<()> {
    let NodeCertificate { gateway, node_id, days, out, state_dir } = options;
    Ok(imp_agent::port::issue(state_dir, gateway.0, node_id, *days, out)?)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let endpoint = config.otlp_endpoint.as_deref();
    let export = Export::start("imp-agent", env!("CARGO_PKG_VERSION"), endpoint)?;
    imp_process::log::start(config.log_format, export.as_ref());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stop = imp_process::stop_signal()?;
    let mut running = App::start(config).await?;
    let ended = tokio::select! {
        () = stop => Ok(()),
        error = running.ended() => Err(error),
    };
    running.shutdown().await;
    tokio::task::spawn_blocking(|| export.map(Export::end)).await?;
    Ok(ended?)
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
