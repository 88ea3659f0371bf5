//! `drive ADDR --connections N --depth D`: the bare closed-loop client; prints one line of JSON at the end.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use clap::Parser;

    /// The bare closed-loop client of the native protocol.
    #[derive(Parser)]
    #[command(name = "drive", version)]
    struct Arguments {
        #[command(flatten)]
        options: coreloop_bench::drive::Options,
    }

    match coreloop_bench::drive::run(&Arguments::parse().options) {
        Ok(outcome) => {
            let text = serde_json::to_string(&outcome).expect("plain numbers and text");
            if let Err(error) = coreloop_bench::console::out(&(text + "\n")) {
                coreloop_bench::console::note(&format!("drive: {error}"));
            }
            if outcome.errors == 0 {
                std::process::ExitCode::SUCCESS
            } else {
                std::process::ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("drive: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("drive: needs epoll, so Linux");
}
