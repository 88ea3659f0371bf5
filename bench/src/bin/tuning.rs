//! `tuning [SET]…`: measures what each setting of the server costs and gains, as Markdown and pictures.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use clap::Parser;
    use coreloop_bench::tuning;

    /// Measures what each setting of the server costs and gains: the same loads with one setting changed, in
    /// interleaved rounds. Markdown on standard output, a picture for each set.
    #[derive(Parser)]
    #[command(name = "tuning", version)]
    struct Arguments {
        #[command(flatten)]
        options: tuning::Options,
    }

    coreloop_bench::process::refuse_file_size_signal();
    match tuning::run(&Arguments::parse().options) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tuning: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("tuning: needs epoll, so Linux");
}
