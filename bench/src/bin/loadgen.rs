//! `loadgen [ADDR]`: load for a server, closed or open loop, and an honest account of what came of it; and what
//! goes with that, each in a subcommand.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use clap::Parser;
    use coreloop_bench::loadgen::{self, Command};

    /// Load for a server: closed loop without --rate, open loop with it. Without an address it starts the demo
    /// server in its own process.
    #[derive(Parser)]
    #[command(name = "loadgen", version, args_conflicts_with_subcommands = true)]
    struct Arguments {
        #[command(subcommand)]
        command: Option<Command>,
        #[command(flatten)]
        options: loadgen::Options,
    }

    coreloop_bench::process::refuse_file_size_signal();
    let arguments = Arguments::parse();
    match arguments.command {
        Some(command) => command.run(),
        None => loadgen::exit_code(loadgen::run(&arguments.options)),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("loadgen: needs epoll, so Linux");
}
