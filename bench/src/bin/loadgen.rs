//! `loadgen [ADDR]`: generates load for a server, closed or open loop, and reports the results; related tools are
//! subcommands.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use clap::Parser;
    use coreloop_bench::loadgen::{self, Command};

    /// Load generator: makes calls to a server and reports rate, latency and errors.
    ///
    /// Without --rate the loop is closed: each connection keeps --depth calls in flight. With --rate the loop is
    /// open: calls are due at fixed times, and latency counts from when a call was due.
    ///
    /// With --streams the load is messages on streams, for methods whose argument or result is a stream.
    ///
    /// Before any load, the load generator requests the server's methods (Meta.Methods). If the server lists them and
    /// the method is missing, the run ends with an error. Servers without Meta.Methods are not checked.
    ///
    /// No file is written unless --json or --report names one.
    #[derive(Parser)]
    #[command(
        name = "loadgen",
        version,
        args_conflicts_with_subcommands = true,
        after_long_help = loadgen::EXIT_STATUS_HELP,
        after_help = "Exit status: 0 done, 1 failed, 2 wrong arguments, 3 SLO missed, 4 incomplete, 130 interrupted. \
                      More with --help."
    )]
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
    eprintln!("loadgen: needs Linux (epoll)");
}
