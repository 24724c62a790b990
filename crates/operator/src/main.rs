//! The manager's process: options, logs, signals.

use std::process::ExitCode;

use kubebyon_operator::{
    config::{ConfigError, Options},
    manager, telemetry,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    // Before anything else can open a TLS connection.
    let installed = rustls::crypto::ring::default_provider().install_default();
    if installed.is_err() {
        eprintln!("kubebyon-operator: another TLS provider is installed; report this as a bug");
        return ExitCode::FAILURE;
    }
    let options = match Options::load() {
        Ok(options) => options,
        Err(ConfigError::Arguments(error)) => error.exit(),
        Err(error) => {
            eprintln!("kubebyon-operator: {error}");
            return ExitCode::from(2);
        }
    };
    if let Err(message) = telemetry::logs::install(options.log_format, &options.log_filter) {
        eprintln!("kubebyon-operator: {message}");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())
            .map_err(|error| manager::ManagerError::Options(error.to_string()))?;
        let mut interrupt = signal(SignalKind::interrupt())
            .map_err(|error| manager::ManagerError::Options(error.to_string()))?;
        let told = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            told.cancel();
        });
        manager::run(options, stop).await
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the manager ends");
            ExitCode::FAILURE
        }
    }
}
