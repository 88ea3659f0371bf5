//! `floor [--listen ADDR] [--hand-off]`: the bare epoll server that other servers are measured against.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use clap::Parser;

    /// The bare epoll server that other servers are measured against.
    #[derive(Parser)]
    #[command(name = "floor", version)]
    struct Arguments {
        #[command(flatten)]
        options: coreloop_bench::floor::Options,
    }

    match coreloop_bench::floor::run(&Arguments::parse().options) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("floor: needs epoll, so Linux");
}
