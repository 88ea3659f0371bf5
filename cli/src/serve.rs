//! `coreloop serve`: the demo services until SIGTERM or SIGINT, then a drain and a summary.
//!
//! Standard output has only the lines `listening on ADDR`, for scripts that wait for them.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coreloop::config::{ConfigError, ConfigWarning, Layers, Origin, Resolved, split_listen};
use coreloop::reactor::Address;
use coreloop::server::Stopper;
use coreloop::signals;
use coreloop::{Server, demo};
use coreloop_poller::{os, quota};
use log::Level;

use crate::args::ServeArgs;
use crate::failure::Failure;
use crate::logger::{self, LogSettings, hint, say};
use crate::record::{RecordCounts, Recorder, Recording};
use crate::reload::Reload;
use crate::report::{Summary, Ticker};

/// The address of the console if neither the command line nor the configuration has one.
pub(crate) const ADMIN_DEFAULT: &str = "127.0.0.1:6551";
/// The section of the configuration for the log.
const LOG_SECTION: &str = "log";
/// In place of that address: no console.
const ADMIN_OFF: &str = "off";

/// Runs the command.
pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    let mut resolved = layers(args).and_then(Layers::resolve).map_err(Failure::error)?;
    // Some limits depend on the number of descriptors, so raise it first.
    let raised = os::raise_nofile_limit();
    let valid = resolved.validate(quota::usable_cores()).map_err(Failure::error)?;
    let warnings = std::mem::take(&mut resolved.warnings);
    if args.print_config {
        for warning in &warnings {
            let _ = writeln!(io::stderr(), "coreloop: warning: {warning}");
        }
        resolved.config = valid.into_config();
        return print_config(&resolved);
    }
    resolved.section::<LogSettings>(LOG_SECTION).map_err(Failure::error)?.install();
    if let Err(error) = raised {
        say(Level::Warn, "descriptors", format!("the limit of open descriptors stays as it is: {error}"));
    }
    // From here on a signal is kept for the server instead of ending the process, so that nothing is left half-done.
    let stop = Arc::new(Stop::default());
    let _signals = {
        let stop = stop.clone();
        signals::on_signals(&[signals::TERM, signals::INT, signals::HUP], move |signal| {
            stop.on_signal(signal)
        })
        .map_err(|error| Failure::error(format!("cannot watch for signals: {error}")))?
    };
    let listen = resolved.config.listen.clone();
    let has_default_admin = set_defaults(&mut resolved);
    let mut builder = demo::services(Server::builder()).resolved(&resolved).admin_optional(has_default_admin);
    builder = args.register.iter().fold(builder, |builder, url| builder.register(url));
    let recorder = args.record.as_ref().map(|file| {
        Arc::new(Recorder::new(Recording {
            file: file.clone(),
            sample: args.record_sample,
            bytes_max: args.record_max,
            blank: args.record_blank.clone(),
            on_failure: say_recording_stopped,
        }))
    });
    if let Some(recorder) = &recorder {
        builder = builder.interceptor(recorder.clone());
    }
    let server = builder.start().map_err(|error| {
        say_warnings(&warnings);
        Failure::error(error)
    })?;
    let reload = Arc::new(Reload::new(args, server.reloader(), resolved.config));
    stop.on_started(server.stopper(), reload.clone());
    let watch = args.reload_on_change.then(|| reload.watch()).transpose().map_err(Failure::error)?;
    if let Some(process) = server.predecessor() {
        say(Level::Info, "took_over", format!("took over from process {process}"));
    }
    announce(server.addresses(), &listen, &warnings, server.admin_address());
    for warning in server.warnings() {
        say(Level::Warn, "server_warning", warning);
    }
    if has_default_admin && server.admin_address().is_none() {
        say(
            Level::Warn,
            "no_console",
            format!("{ADMIN_DEFAULT} is taken: there is no console; --admin ADDR takes another address"),
        );
    }
    let ticker = args.stats_every.map(|seconds| {
        Ticker::start(server.stopper(), Duration::from_secs(u64::from(seconds))).map_err(Failure::error)
    });
    let ticker = ticker.transpose()?;
    let stopper = server.stopper();
    let stats = server.wait().map_err(Failure::error)?;
    drop((ticker, watch));
    let drained = stopper.stopping_since().map_or(Duration::ZERO, |began| began.elapsed());
    let summary = Summary::of(&stats).line();
    say(Level::Info, "summary", format!("drained in {:.2} s: {summary}", drained.as_secs_f64()));
    if let Some(recorder) = &recorder {
        say(Level::Info, "recorded", recorder.line());
    }
    logger::finish();
    Ok(())
}

/// Adds defaults, file, environment and flags; `Layers` defines the precedence.
pub(crate) fn layers(args: &ServeArgs) -> Result<Layers, ConfigError> {
    let mut layers = Layers::new().section::<LogSettings>(LOG_SECTION)?;
    if let Some(path) = &args.config {
        layers = layers.file(path)?;
    }
    layers = layers.process_env()?;
    for address in &args.listen {
        layers = layers.flag("listen", address)?;
    }
    for (key, text) in [
        ("cores", &args.cores),
        ("workers", &args.workers),
        ("register.zone", &args.register_zone),
        ("register.weight", &args.register_weight),
        ("register.address", &args.register_address),
        ("admin.listen", &args.admin),
        ("restart.takeover", &args.takeover),
    ] {
        if let Some(text) = text {
            let is_off = key == "admin.listen" && text == ADMIN_OFF;
            layers = layers.flag(key, if is_off { "" } else { text })?;
        }
    }
    if args.pin {
        layers = layers.flag("pin", "true")?;
    }
    args.set.iter().try_fold(layers, |layers, pair| layers.set(pair))
}

/// Sets the values that this program has where nothing else sets them. Returns whether the address of the console is one of
/// them.
pub(crate) fn set_defaults(resolved: &mut Resolved) -> bool {
    let is_unset = |key: &str| matches!(resolved.origins.of(key), None | Some(Origin::Default));
    let (has_default_admin, has_default_systemd) = (is_unset("admin.listen"), is_unset("restart.systemd"));
    if has_default_admin {
        resolved.config.admin.listen = ADMIN_DEFAULT.to_owned();
    }
    resolved.config.restart.systemd |= has_default_systemd;
    has_default_admin
}

fn print_config(resolved: &Resolved) -> Result<(), Failure> {
    let mut text = String::new();
    resolved.print(&mut text).map_err(Failure::error)?;
    crate::print(&text)
}

/// Prints the addresses for programs, and hints for people.
fn announce(addresses: &[Address], listen: &[String], warnings: &[ConfigWarning], admin: Option<&Address>) {
    let mut lines = String::new();
    for address in addresses {
        let _ = writeln!(lines, "listening on {address}");
    }
    // The server continues if its output is closed.
    let _ = crate::print(&lines);
    // After the lines above: some scripts read both outputs as one and wait for the first line.
    say_warnings(warnings);
    // A listener may serve another protocol only; curl does not support `unix:`.
    let first = |protocol: &str| {
        let mut both = addresses.iter().zip(listen);
        let serves = |listen: &str| split_listen(listen).0.is_none_or(|name| name == protocol);
        both.find(|(_, listen)| serves(listen)).map(|(address, _)| reachable(address))
    };
    if let Some(address) = first("http").filter(|address| !address.starts_with("unix:")) {
        hint(format!(
            "curl  curl -d '{{\"A\":6,\"B\":7}}' http://{address}/Arith/Multiply\n\
             see   http://{address}/"
        ));
    }
    if let Some(admin) = admin {
        hint(format!("admin on http://{}/", reachable(admin)));
    }
    let Some(address) = first("native") else { return };
    // The name with which the program was called, so that the lines can be copied unchanged.
    let program = std::env::args().next().unwrap_or_else(|| "coreloop".to_owned());
    hint(format!(
        "try   {program} call {address} Arith.Multiply '{{\"A\":6,\"B\":7}}'\n      \
         {program} list {address}\n\
         load  cargo run --release -p coreloop-bench --bin drive -- {address} --connections 64 --depth 16\n\
         docs  docs/wire.md (the protocol), docs/http.md, docs/configuration.md, examples/python/client.py\n\
         stop  Ctrl-C: calls in flight are finished first"
    ));
}

/// Returns the address to connect to: for a server that listens on all addresses, the loopback address.
fn reachable(address: &Address) -> String {
    let text = address.to_string();
    match text.strip_prefix("0.0.0.0:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.strip_prefix("[::]:").map_or(text.clone(), |port| format!("[::1]:{port}")),
    }
}

fn say_recording_stopped(record: &RecordCounts) {
    let why = record.trouble.as_deref().unwrap_or("recording stopped");
    let text = format!("{why}; {} requests are in the file; the server goes on", record.recorded);
    // Text without `warning` in front: scripts look for it.
    say(Level::Info, "recording_stopped", text);
}

pub(crate) fn say_warnings(warnings: &[ConfigWarning]) {
    for warning in warnings {
        say(Level::Warn, "config_warning", warning.to_string());
    }
}

/// Passes signals to the server, or keeps them until it has started.
#[derive(Default)]
struct Stop(Mutex<StopState>);

#[derive(Default)]
struct StopState {
    has_signal: bool,
    started: Option<(Stopper, Arc<Reload>)>,
}

impl Stop {
    /// The first signal begins the drain, the second one ends it at once. SIGHUP reads the configuration again; one that
    /// comes before the server has started finds it just read.
    fn on_signal(&self, signal: i32) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if signal == signals::HUP {
            let reload = state.started.as_ref().map(|(_, reload)| reload.clone());
            drop(state);
            if let Some(reload) = reload {
                reload.run();
            }
            return;
        }
        state.has_signal = true;
        if let Some((stopper, _)) = &state.started {
            stopper.stop();
        }
    }

    fn on_started(&self, stopper: Stopper, reload: Arc<Reload>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.has_signal {
            stopper.stop();
        }
        state.started = Some((stopper, reload));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_listener_is_reached_on_loopback() {
        for (bound, called) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:2", "[::1]:2"),
            ("10.0.0.1:3", "10.0.0.1:3"),
            ("unix:/a", "unix:/a"),
        ] {
            assert_eq!(reachable(&bound.parse().unwrap()), called);
        }
    }
}
