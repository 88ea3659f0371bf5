//! `versus`: compares the server with its floor, in one command. It starts itself again as the floor and as the
//! client, so only this program and the server's, beside it, must be built.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use clap::{Parser, Subcommand};
    use coreloop_bench::{drive, floor, versus};

    /// Compares the server with its floor: CPU time per call, rate and latency.
    #[derive(Parser)]
    #[command(name = "versus", version, args_conflicts_with_subcommands = true)]
    struct Arguments {
        #[command(subcommand)]
        part: Option<Part>,
        #[command(flatten)]
        options: versus::Options,
    }

    #[derive(Subcommand)]
    enum Part {
        /// Run the bare server, as the program `floor`.
        Floor(floor::Options),
        /// Run the bare client, as the program `drive`.
        Drive(drive::Options),
    }

    coreloop_bench::process::refuse_file_size_signal();
    let arguments = Arguments::parse();
    let result = match arguments.part {
        None => versus::run(&arguments.options),
        Some(Part::Floor(options)) => floor::run(&options).map_err(|error| error.to_string()),
        Some(Part::Drive(options)) => drive::run(&options).map(|outcome| {
            println!("{}", serde_json::to_string(&outcome).expect("plain numbers and text"));
        }),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("versus: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("versus: needs epoll, so Linux");
}
