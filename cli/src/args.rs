//! The command line arguments, their help, and the types that they are parsed into.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use coreloop::MethodName;
use coreloop::client::ClientTls;

use crate::address::Target;

/// An embeddable RPC server: one event loop per core, plain threads.
#[derive(Debug, Parser)]
#[command(
    name = "coreloop",
    version,
    arg_required_else_help = false,
    after_help = "Without a command it serves: `coreloop` is `coreloop serve`.\n\
                  Exit status: 0 done; 1 it went wrong; 2 the command line cannot be understood, nothing was tried."
)]
pub struct Args {
    /// The command to run; `serve` by default.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the demo services: Arith, Echo, Users.
    Serve(ServeArgs),
    /// Call a method once, with JSON.
    Call(CallArgs),
    /// Show the methods of a server: types, where they run, documentation.
    List(ListArgs),
    /// Show what a client of a resolver URL knows of each server: connection, health, circuit breaker, load.
    Endpoints(EndpointsArgs),
    /// Check whether a server is serving, as the health check of a container.
    Health(HealthArgs),
}

/// The arguments of `coreloop serve`.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    after_help = "Each listener prints `listening on ADDR` on standard output once it is ready; all else goes \
                        to standard error.\n\
                        SIGTERM and SIGINT let the calls in flight finish and end with status 0; a second one cuts \
                        that short.\n\
                        Values come from defaults, then the config file, then CORELOOP_… variables, then flags \
                        (docs/configuration.md)."
)]
pub struct ServeArgs {
    /// Read this TOML file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen on this address: host:port (port 0: any free port) or unix:PATH. May be given several times. Default:
    /// 127.0.0.1:6550.
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// The number of reactors, one thread each; 0 is one per core.
    #[arg(long, value_name = "N")]
    pub cores: Option<String>,
    /// The number of threads for pooled methods; 0 is as many as reactors, at least 2.
    #[arg(long, value_name = "N")]
    pub workers: Option<String>,
    /// Register the server here, such as consul://127.0.0.1:8500/demo, until it stops. May be given several times.
    #[arg(long, value_name = "URL")]
    pub register: Vec<String>,
    /// Register this zone.
    #[arg(long, value_name = "ZONE")]
    pub register_zone: Option<String>,
    /// Register this share of the calls, relative to the other servers.
    #[arg(long, value_name = "N")]
    pub register_weight: Option<String>,
    /// Register this address; needed if the server listens on all of them (0.0.0.0).
    #[arg(long, value_name = "ADDR")]
    pub register_address: Option<String>,
    /// Serve the console, metrics and profiles on this address; `off`: nowhere. Default: 127.0.0.1:6551, if it is free.
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
    /// Take over from the process that listens at this path, if there is one, without losing a connection, and let the
    /// next process take over from this one.
    #[arg(long, value_name = "PATH")]
    pub takeover: Option<String>,
    /// Pin each reactor to a core.
    #[arg(long)]
    pub pin: bool,
    /// Set any key of the configuration, such as limits.idle_ms=5000. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Read the configuration, and the files that it names, again when one of them changes. SIGHUP does so at once, also
    /// without this.
    #[arg(long)]
    pub reload_on_change: bool,
    /// Print the configuration, with the origin of each value, and exit.
    #[arg(long)]
    pub print_config: bool,
    /// Print a line of statistics on standard error every N seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub stats_every: Option<u32>,
    /// Record a sample of the requests into this file, which must not exist yet; `loadgen replay` sends them again.
    /// The file contains the arguments, but no metadata; only its owner may read it.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Record one request of N.
    #[arg(long, value_name = "1/N", value_parser = share, default_value = "1/100", requires = "record")]
    pub record_sample: u32,
    /// Stop recording when the file has this size.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64MiB", requires = "record")]
    pub record_max: u64,
    /// Blank the values of the fields with these names. A body that cannot be parsed (raw bytes) is then recorded
    /// without its bytes.
    #[arg(long, value_name = "FIELD,…", value_delimiter = ',', requires = "record")]
    pub record_blank: Vec<String>,
}

/// The arguments of `coreloop call`.
#[derive(Debug, Parser)]
#[command(
    after_help = "The reply goes to standard output as the server sent it (where gob travels: shown as JSON), its times to \
                        standard error: of native: and http: also those that the server tells.\n\
                        Exit status: 0 the call was answered ok; 1 it was not, and standard error has \
                        `STATUS_NAME: message`;\n2 the arguments cannot be understood, nothing was sent.\n\n\
                        A method with streams has one JSON value per line, in and out, over native: only.\n\
                        In gob a whole number is an int, another one a float64, an array a slice, an object a struct. \
                        {\"$uint\": 7}, {\"$float\": 1}, {\"$bytes\": \"base64\"} and {\"$map\": {\"k\": 1}} say otherwise.\n\n\
                        coreloop call 127.0.0.1:6550 Arith.Multiply '{\"A\":6,\"B\":7}'\n\
                        coreloop call http:127.0.0.1:6550 Arith.Multiply '{\"A\":6,\"B\":7}'\n\
                        coreloop call 127.0.0.1:6550 Users.Watch 3"
)]
pub struct CallArgs {
    /// Give up after this time, including connecting: 500ms, 2s, 1m. Without it the call has no time limit. native:
    /// and http: send the deadline to the server, the other protocols cannot.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Send this metadata: http: sends it as header fields, jsonrpc: and gob: do not support it. May be given several
    /// times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub metadata: Vec<(String, String)>,
    /// The codec of the argument and the reply: for native:, JSON by default; each of the other protocols has one
    /// codec.
    #[arg(long, value_enum)]
    pub codec: Option<CodecName>,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// host:port or unix:PATH, optionally prefixed with `native:` (the default), `gob:`, `gob-http:`, `jsonrpc:` or
    /// `http:`, with `+tls` before the colon for TLS; or a resolver URL: static:a:1,b:2, consul://…, dns://…, file://…, etcd://….
    #[arg(value_name = "ADDR")]
    pub target: Target,
    /// The method.
    #[arg(value_name = "Service.Method", value_parser = method)]
    pub method: String,
    /// The argument; `-` reads it from standard input; null if omitted. Where the argument is a stream: its messages, one
    /// per line; `-`, or nothing, reads them from standard input.
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    pub argument: Option<String>,
}

/// The arguments of `coreloop list`.
#[derive(Debug, Parser)]
#[command(
    after_help = "One line for each method, in the order of the alphabet, with its documentation indented \
                        below:\n\n  Arith.Multiply  {A: i64, B: i64} -> i64   pooled\n      Product of the two."
)]
pub struct ListArgs {
    /// Give up after this time, including connecting.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub timeout: Duration,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// host:port or unix:PATH, optionally prefixed with `native:` (the default), `gob:`, `gob-http:`, `jsonrpc:` or
    /// `http:`, with `+tls` before the colon for TLS; or a resolver URL: static:a:1,b:2, consul://…, dns://…, file://…, etcd://….
    #[arg(value_name = "ADDR")]
    pub target: Target,
    /// Show only the methods of this service.
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
}

/// The arguments of `coreloop endpoints`.
#[derive(Debug, Parser)]
#[command(
    after_help = "The columns: the address and the zone as the resolver names them; whether a connection exists; whether \
                  the last health checks succeeded; the state of the circuit breaker; attempts in flight; the estimated \
                  latency; attempts that ended with success, failure, a refusal by a limit, cancelled.\n\
                  The client that looks makes no calls besides health checks: the counts are its own.\n\n\
                  coreloop endpoints consul://127.0.0.1:8500/orders --watch"
)]
pub struct EndpointsArgs {
    /// Show the state again whenever it has changed, until a signal ends it.
    #[arg(long)]
    pub watch: bool,
    /// How often to look for a change.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s", requires = "watch")]
    pub every: Duration,
    /// Print JSON: an array of endpoints; with --watch one line for each state.
    #[arg(long)]
    pub json: bool,
    /// Give up if the resolver names no endpoint within this time.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub timeout: Duration,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// The URL of a resolver: static:a:1,b:2, consul://host:port/service, dns://…, file://…, etcd://…; with
    /// `native+tls:` in front if the servers have TLS.
    #[arg(value_name = "URL")]
    pub url: String,
}

/// The arguments of `coreloop health`.
#[derive(Debug, Parser)]
#[command(
    after_help = "Prints `serving`. Exit status: 0 it is serving; 1 it is not, it drains, or it cannot be reached.\n\n\
                  coreloop health 127.0.0.1:6550"
)]
pub struct HealthArgs {
    /// Give up after this time, including connecting.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2s")]
    pub timeout: Duration,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// host:port or unix:PATH, as for `call`.
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:6550")]
    pub target: Target,
    /// Check this service; without it the whole server, which serves until it drains.
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
}

/// The TLS settings of a client, for addresses like `native+tls:host:port` and `https:host:port`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TlsArgs {
    /// With TLS: trust the authorities in this PEM file, instead of those of the system.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// With TLS: present the certificate in this PEM file.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// With TLS: the private key of the certificate.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// With TLS: expect a certificate for this name, instead of the host of the address.
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
}

impl TlsArgs {
    /// Returns the settings, if any is given.
    pub fn settings(&self) -> Option<ClientTls> {
        let TlsArgs { ca, cert, key, server_name } = self.clone();
        let mut settings = ClientTls::default();
        (settings.ca, settings.certificate, settings.key, settings.server_name) =
            (ca, cert, key, server_name);
        (settings != ClientTls::default()).then_some(settings)
    }
}

/// The codecs into which the JSON text can be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CodecName {
    /// JSON text, as on the command line.
    Json,
    /// Go's gob, converted from the JSON.
    Gob,
}

/// Parses `500ms`, `2s`, `1m`, also `1.5s`; never 0, which would leave no time at all.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("expected a duration above 0 with the unit us, ms, s or m, such as 500ms; found {text:?}");
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<f64>().map_err(|_| wrong())? * scale;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    if duration < Duration::from_micros(1) || duration > Duration::from_secs(86_400 * 365) {
        return Err(wrong());
    }
    Ok(duration)
}

/// Parses `1/100`, one in a hundred.
fn share(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix("1/").and_then(|number| number.parse().ok());
    number
        .filter(|number| (1..=1_000_000_000).contains(number))
        .ok_or_else(|| format!("expected a sample of the form 1/N, such as 1/100; found {text:?}"))
}

/// Parses `64MiB`, `1 GiB`, `4096`; at least the size of the file's head.
fn size(text: &str) -> Result<u64, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => u32::MAX,
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1_u64.checked_shl(shift)?));
    bytes
        .filter(|bytes| (4096..=1 << 40).contains(bytes))
        .ok_or_else(|| format!("expected a size from 4 KiB to 1024 GiB, such as 64MiB; found {text:?}"))
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("expected metadata of the form KEY=VALUE; found {text:?}")),
    }
}

fn method(text: &str) -> Result<String, String> {
    MethodName::parse(text).map(|name| name.to_string()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_argument_definitions_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit_and_an_amount() {
        for (text, ms) in [("500ms", 500), ("2s", 2000), ("1.5s", 1500), ("1m", 60_000), ("2000us", 2)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "0s", "-1s", "1h", "1e3s", "1..2s", "99999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn samples_and_sizes_are_bounded() {
        assert_eq!((share("1/1"), share("1/100")), (Ok(1), Ok(100)));
        for text in ["", "100", "2/3", "1/0", "1/-1", "1/", "1/99999999999"] {
            assert!(share(text).is_err(), "{text}");
        }
        for (text, bytes) in [("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("4096", 4096), ("8KiB", 8192)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "1MB", "4095", "99999999999999999999", "17179869184GiB", "-1KiB", "1.5MiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn record_options_require_a_file() {
        assert!(Args::try_parse_from(["coreloop", "serve", "--record-sample", "1/1"]).is_err());
        let args =
            Args::try_parse_from(["coreloop", "serve", "--record", "f", "--record-blank", "a,b"]).unwrap();
        let Some(Command::Serve(serve)) = args.command else { panic!("serve was asked for") };
        assert_eq!((serve.record_sample, serve.record_max), (100, 64 << 20));
        assert_eq!(serve.record_blank, ["a", "b"]);
    }

    #[test]
    fn a_lone_minus_and_a_negative_number_are_arguments() {
        for json in ["-", "-5"] {
            let args = Args::try_parse_from(["coreloop", "call", "a:1", "S.M", json]).unwrap();
            let Some(Command::Call(call)) = args.command else { panic!("call was asked for") };
            assert_eq!(call.argument.as_deref(), Some(json));
        }
    }

    #[test]
    fn a_key_may_have_an_empty_value() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("a").is_err() && pair("=b").is_err());
    }
}
