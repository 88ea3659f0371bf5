//! `loadgen [ADDR]`: load for a server, closed or open loop, and an honest account of what came of it.
//! `loadgen compare` measures coreloop and its peers; it starts itself again as the bare client.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use clap::{Parser, Subcommand};
    use coreloop_bench::loadgen::{self, Ending};
    use coreloop_bench::{compare, drive};

    /// Load for a server: closed loop without --rate, open loop with it. Without an address it starts the demo
    /// server in its own process.
    #[derive(Parser)]
    #[command(name = "loadgen", version, args_conflicts_with_subcommands = true)]
    struct Arguments {
        #[command(subcommand)]
        part: Option<Part>,
        #[command(flatten)]
        options: loadgen::Options,
    }

    #[derive(Subcommand)]
    enum Part {
        /// Coreloop and its peers, one after the other on this machine.
        Compare(compare::Options),
        /// Be the bare client, as the program `drive`.
        #[command(hide = true)]
        Drive(drive::Options),
    }

    let arguments = Arguments::parse();
    let result = match arguments.part {
        None => loadgen::run(&arguments.options),
        Some(Part::Compare(options)) => compare::run(&options),
        Some(Part::Drive(options)) => drive::run(&options).map(|outcome| {
            println!("{}", serde_json::to_string(&outcome).expect("plain numbers and text"));
            Ending::Complete
        }),
    };
    match result {
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
