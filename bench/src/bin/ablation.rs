//! `ablation measure [SET]…`: measures what each part of the server contributes, by disabling it. Starts itself again
//! as the server.

#[cfg(target_os = "linux")]
#[global_allocator]
static COUNTING: coreloop_bench::ablation::allocations::Counting =
    coreloop_bench::ablation::allocations::Counting;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use clap::{Parser, Subcommand};
    use coreloop_bench::ablation::{self, flames, serve};

    /// Measures what each part of the server contributes: the same calls with one feature disabled at a time, in
    /// interleaved rounds. Markdown on standard output, a picture for each set.
    #[derive(Parser)]
    #[command(name = "ablation", version)]
    struct Arguments {
        #[command(subcommand)]
        part: Part,
    }

    #[derive(Subcommand)]
    enum Part {
        /// Measure the sets.
        Measure(ablation::Options),
        /// Sample with perf, and draw flame graphs.
        Flames(flames::Options),
        /// Run the measured server.
        Serve(serve::Options),
    }

    coreloop_bench::process::refuse_file_size_signal();
    let result = match Arguments::parse().part {
        Part::Measure(options) => ablation::run(&options),
        Part::Flames(options) => flames::run(&options),
        Part::Serve(options) => serve::run(&options),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ablation: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("ablation: needs epoll, so Linux");
}
