//! `loadgen [ADDR]`: load for a server, closed or open loop, and an honest account of what came of it.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use clap::Parser;
    use coreloop_bench::loadgen::{self, Ending};

    /// Load for a server: closed loop without --rate, open loop with it. Without an address it starts the demo
    /// server in its own process.
    #[derive(Parser)]
    #[command(name = "loadgen", version)]
    struct Arguments {
        #[command(flatten)]
        options: loadgen::Options,
    }

    match loadgen::run(&Arguments::parse().options) {
        Ok(Ending::Complete) => std::process::ExitCode::SUCCESS,
        Ok(Ending::AllFailed) => std::process::ExitCode::FAILURE,
        Ok(Ending::Cut) => std::process::ExitCode::from(130),
        Err(error) => {
            eprintln!("loadgen: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("loadgen: needs epoll, so Linux");
}
