//! The fields of a server's configuration and their meaning, and the names that the configuration of a server adds to
//! those of `mod.rs`.

#[cfg(feature = "config-file")]
pub use super::changes::WatchedFiles;
pub use super::error::{ConfigError, Origin};
pub use super::keys::{ConfigKey, keys};
#[cfg(feature = "config-file")]
pub use super::layers::{Layers, Origins, Resolved};
pub use super::socket_mode::{SocketMode, SocketModeError};
pub use super::valid::ValidConfig;
pub(crate) use super::value::listener_tls;
pub use super::value::split_listen;
pub(crate) use super::value::{split_method_limit, split_permission_rule};
#[cfg(feature = "config-file")]
pub use super::warning::ConfigWarning;
use super::{
    AdminConfig, Flush, ForwardedField, Limits, MissingFields, OtlpConfig, Profile, ProxyProtocolConfig,
    TlsConfig, TraceConfig, TurnBudget,
};

/// The configuration of a server, fixed when it starts.
///
/// ```
/// use coreloop::config::Config;
///
/// let mut config = Config::default();
/// config.cores = 2;
/// config.listen = vec!["127.0.0.1:0".into()];
/// let valid = config.validate(8).unwrap();
/// assert_eq!((valid.cores, valid.workers), (2, 2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Where the defaults of the other keys come from, in files, the environment and flags. Default: `server`; `small` for
    /// a device with little memory. A program begins with [`Config::small`] instead: setting this field changes no other.
    pub profile: Profile,

    /// Addresses to listen on: `host:port` (IPv6 in brackets; with port 0 the system chooses), `unix:PATH`, or, for
    /// clients in the same process, `memory:NAME` (an unused name instead of the name 0). With a protocol prefix, such
    /// as `http:127.0.0.1:8080`, the listener serves only that protocol ([`split_listen`]), with `+tls` or `+plain` behind it
    /// only with TLS or only without.
    /// Default: `127.0.0.1:6550`, which other machines cannot reach; `0.0.0.0:6550` accepts connections from all of
    /// them.
    pub listen: Vec<String>,

    /// Reactors, one thread each. Default 0: the number of cores that the process may use, by its affinity mask and
    /// by the CPU quota of its control groups (Linux); a fraction of a core counts as one. Too few: decoding and the
    /// kernel's network work compete for one core. More than there are cores: reactors take turns, and every turn of
    /// the loop waits for the scheduler.
    pub cores: usize,

    /// Threads that run pooled methods. Default 0: as many as reactors, at least 2. Too few: requests wait in the
    /// run queue while cores idle. Too many: handlers take CPU time from reactors.
    pub workers: usize,

    /// Upper bound of the second pool, for methods that may block. Default 512; threads start when work waits and end
    /// when idle. Too small: slow calls wait in the run queue behind each other. Too large: each thread costs a
    /// stack, and hundreds that become ready together overload the scheduler.
    pub blocking_threads: usize,

    /// Whether each reactor is pinned to one of the allowed cores. Default: false. Helps on a dedicated machine;
    /// hurts if another busy thread is pinned to the same core, since the scheduler can then move neither.
    pub pin: bool,

    /// Microseconds that a reactor polls without sleeping once it has no work. Default 0: it sleeps at once. Too
    /// small: it gives up just before the next request, and pays for both. Too large: an idle server uses CPU time.
    /// With one allowed core it is always 0: the spin would keep the sender of the next request from running.
    pub busy_poll_us: u64,

    /// Microseconds that a busy reactor naps before it looks for more calls, so that one read and one write serve
    /// several calls. Default 200; 0 disables naps. Naps are tried when connections have several calls in flight,
    /// kept only while they make calls clearly cheaper and more frequent, and stopped when the load falls. Too small:
    /// few calls are gathered. Too large: each call waits as long as the nap.
    pub gather_us: u64,

    /// Microseconds that a worker looks for more work before it parks. Default 20; 0 parks at once, as does any value
    /// with one allowed core. Too small: each batch pays for waking a thread. Too large: idle workers take time from
    /// reactors.
    pub worker_spin_us: u64,

    /// Maximum number of requests handed to a worker in one batch, 1 to 64 and never more than
    /// [`Limits::run_queue_max`]. Default 32. Too small: a queue operation and maybe a wake-up per request. Too
    /// large: one worker holds requests that other workers could have started.
    pub batch_max: usize,

    /// Whose calls take turns while calls wait for a worker. Default: [`FairBy::Connection`].
    pub fair_by: FairBy,

    /// The highest priority that a caller can claim with the metadata key `priority`, from 0 (the highest) to 3. Default
    /// 1, which is also the priority of calls without the key: callers can lower the priority of their calls, but not
    /// raise it above that of others. A call with a higher priority than this has this priority.
    pub priority_highest: u64,

    /// The most calls in progress of single methods, waiting or running, for each reactor: `Service.Method=N`. Default
    /// empty: no method has such a limit. At the limit: `resource_exhausted`. For methods that need something scarce, such
    /// as connections to a database. An inline method cannot have a limit.
    pub method_limits: Vec<String>,

    /// How several reactors share one port. Default: [`AcceptMode::Auto`].
    pub accept: AcceptMode,

    /// Permission bits of the file of each Unix socket; a user needs write permission to connect. Default 0666: every
    /// local user, as with a TCP port on the loopback address; the permissions of the file's folder restrict it
    /// further. Too restrictive: a proxy that runs as another user is refused. Too permissive: users that should not
    /// call can.
    pub unix_mode: SocketMode,

    /// The user, by name or number, that owns the file of each Unix socket. Default empty: the process's own user.
    /// Only root can set another one; a name that the system does not know keeps the server from starting.
    pub unix_user: String,

    /// The group, by name or number, that owns the file of each Unix socket. Default empty: the group that the system
    /// assigns. A process that is not root must be a member of it.
    pub unix_group: String,
    /// How missing fields of an argument are handled, and fields that are null. Default:
    /// [`MissingFields::ByProtocol`]. A service and a method may override the rule. `Zero` if callers forget fields:
    /// they get no error. `Error` if clients of Go or protobuf call: they leave out every field that is zero.
    pub missing_fields: MissingFields,

    /// When finished replies are written.
    pub flush: Flush,

    /// The bounds on the work of one turn of the loop.
    pub turn: TurnBudget,

    /// Settings of HTTP.
    pub http: HttpConfig,

    /// Settings of TLS.
    pub tls: TlsConfig,

    /// Settings of the PROXY protocol.
    pub proxy_protocol: ProxyProtocolConfig,

    /// Where and as what the server registers itself.
    pub register: RegisterConfig,

    /// The callers, their permissions, and their limits.
    pub auth: AuthConfig,

    /// Settings of tracing.
    pub trace: TraceConfig,

    /// Settings of the export of spans and metrics.
    pub otlp: OtlpConfig,

    /// Settings of the admin listener.
    pub admin: AdminConfig,

    /// How this process takes over from the running one, and the next from this.
    pub restart: RestartConfig,

    /// The bounds on what peers can make the server hold.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            profile: Profile::Server,
            listen: vec!["127.0.0.1:6550".to_owned()],
            cores: 0,
            workers: 0,
            blocking_threads: 512,
            pin: false,
            busy_poll_us: 0,
            gather_us: 200,
            worker_spin_us: 20,
            batch_max: 32,
            fair_by: FairBy::default(),
            priority_highest: 1,
            method_limits: Vec::new(),
            accept: AcceptMode::Auto,
            unix_mode: SocketMode::default(),
            unix_user: String::new(),
            unix_group: String::new(),
            missing_fields: MissingFields::ByProtocol,
            flush: Flush::default(),
            turn: TurnBudget::default(),
            http: HttpConfig::default(),
            tls: TlsConfig::default(),
            proxy_protocol: ProxyProtocolConfig::default(),
            register: RegisterConfig::default(),
            auth: AuthConfig::default(),
            trace: TraceConfig::default(),
            otlp: OtlpConfig::default(),
            admin: AdminConfig::default(),
            restart: RestartConfig::default(),
            limits: Limits::default(),
        }
    }
}

/// Whose calls take turns while calls wait for a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FairBy {
    /// Each connection's.
    #[default]
    Connection,
    /// Each peer address's, however many connections it has. Unix and in-memory connections, which have no address, have a
    /// turn each.
    PeerIp,
    /// Each principal's: the name that an [interceptor](crate::interceptor) has given the caller on the reactor's
    /// thread. Calls without one take turns by their connections.
    Principal,
}

impl FairBy {
    /// The names in a config file, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["connection", "peer_ip", "principal"];

    /// Returns the name used in a config file.
    pub fn name(self) -> &'static str {
        match self {
            FairBy::Connection => "connection",
            FairBy::PeerIp => "peer_ip",
            FairBy::Principal => "principal",
        }
    }

    /// Returns the value with that name, if there is one.
    pub fn from_name(name: &str) -> Option<FairBy> {
        [FairBy::Connection, FairBy::PeerIp, FairBy::Principal]
            .into_iter()
            .find(|fair_by| fair_by.name() == name)
    }
}

/// How several reactors share one listening port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AcceptMode {
    /// `ReusePort` on Linux with several reactors, else `Acceptor`. A [`ValidConfig`] never contains it.
    #[default]
    Auto,
    /// Each reactor has its own listening socket (SO_REUSEPORT) and the kernel spreads connections by hash: no
    /// hand-over, but a small number of connections may spread unevenly, and not every platform balances.
    ReusePort,
    /// One reactor accepts and hands each connection to the reactor that has the fewest: even, at the cost of one
    /// hand-over per connection.
    Acceptor,
}

impl AcceptMode {
    /// The names in a config file, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["auto", "reuseport", "acceptor"];

    /// Returns the name used in a config file.
    pub fn name(self) -> &'static str {
        match self {
            AcceptMode::Auto => "auto",
            AcceptMode::ReusePort => "reuseport",
            AcceptMode::Acceptor => "acceptor",
        }
    }

    /// Returns the mode with that name, if there is one.
    pub fn from_name(name: &str) -> Option<AcceptMode> {
        [AcceptMode::Auto, AcceptMode::ReusePort, AcceptMode::Acceptor]
            .into_iter()
            .find(|accept| accept.name() == name)
    }
}

/// How a new process takes over the listening sockets of the running one (feature `restart`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestartConfig {
    /// The path of the Unix socket at which a process takes over from the one that listens there, and then listens for
    /// the next: it must be the same for both. Default: empty, no process takes over. Only processes of the same user
    /// can connect to it.
    pub takeover: String,

    /// Milliseconds for one takeover, at both ends: from the connection to the moment when the new process serves.
    /// Default 30,000. At the limit: the new process does not start, and the running one serves on. Too small: a process
    /// that prepares for long cannot take over. Too large: a new process that hangs keeps others from taking over.
    pub takeover_ms: u64,

    /// Whether the server listens on the sockets that the service manager passes (`LISTEN_FDS`), instead of `listen`, and
    /// sends it notices (`NOTIFY_SOCKET`, `WATCHDOG_USEC`). Default: false; `coreloop serve` sets it. Without the
    /// variables it has no effect.
    pub systemd: bool,
}

impl Default for RestartConfig {
    fn default() -> Self {
        RestartConfig { takeover: String::new(), takeover_ms: 30_000, systemd: false }
    }
}

/// Where and as what the server registers itself. `ServerBuilder::register_as` takes precedence over
/// address, zone and weight.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegisterConfig {
    /// The URL of the registry and the service: `consul://127.0.0.1:8500/orders`. Default: empty, the server registers
    /// itself nowhere. A registry that cannot be reached is tried again; a URL that is not valid keeps the server from
    /// starting.
    pub url: String,

    /// The address that clients connect to, with its protocol if it is not the native one: `10.0.0.7:6550`. Default: empty,
    /// that of the first TCP listener. A server that listens on all addresses (`0.0.0.0`) needs it, and does not start
    /// without.
    pub address: String,

    /// The zone of the server, such as a data centre. Default: empty, none.
    pub zone: String,

    /// The share of the calls, relative to the other servers, up to 65,535. Default 1; 0: no calls while another server can
    /// take them. Too large: the others are idle while this one is overloaded.
    pub weight: u64,

    /// The time that a drain waits until the server is deregistered, in milliseconds. Default 2,000; 0: it does not wait.
    /// Too small: clients learn that the server goes only when it closes their connections. Too large: with a registry
    /// that does not answer, each stop takes that long.
    pub deregister_ms: u64,
}

impl Default for RegisterConfig {
    fn default() -> Self {
        RegisterConfig {
            url: String::new(),
            address: String::new(),
            zone: String::new(),
            weight: 1,
            deregister_ms: 2000,
        }
    }
}

/// The callers, their permissions, and their limits. The interceptors that it stands for are outside all others, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthConfig {
    /// The file of bearer tokens, as [`TokenCheck::from_file`](crate::interceptor::TokenCheck::from_file) reads it: on each
    /// line a name, a token, and roles. Default: empty, no tokens. A call with a token that is not in the file is refused;
    /// one without a token too, unless there are rules in [`allow`](AuthConfig::allow). A file that cannot be read keeps the
    /// server from starting.
    pub tokens_file: String,

    /// The callers of each method, as [`Permissions`](crate::interceptor::Permissions) has it:
    /// `Orders.*=role:admin spiffe://shop/*`. Default: empty, every caller may call every method. Once there is a rule, a
    /// method that no rule names is closed, also `Health.Check` and the probe `GET /readyz`.
    pub allow: Vec<String>,

    /// Calls per second of each principal, and as many at once after a pause. Default 0: no limit. Calls without a principal
    /// are limited together. Too small: bursts of a well-behaved caller are refused.
    pub calls_per_second: u64,

    /// Calls in progress of each principal, over all reactors. Default 0: no limit. Too small: a caller's own parallel calls
    /// are refused.
    pub in_progress_max: u64,
}

/// Settings of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Origins whose pages may call methods and read the answers (CORS), as a browser writes them:
    /// `https://app.example`, without a path; `*` is every origin. Default: none, so browsers block the pages of
    /// other sites. Too many: each of those sites acts with the network access of its visitor, which may reach
    /// networks that the site cannot.
    pub cors_origins: Vec<String>,

    /// The proxies whose field `forwarded_field` tells the client of an HTTP request: IP addresses, networks such as
    /// `10.0.0.0/8`, and `unix` for all peers of Unix sockets. Default: empty, and the field is only metadata. The client is
    /// the last address of the field that is not in this list. Too wide: those peers can pretend to be any client.
    pub forwarded_from: Vec<String>,

    /// The field that these proxies write. Default: [`ForwardedField::XForwardedFor`]. A field that the proxies do not write
    /// themselves is what the client has sent: with the wrong one, every client can pretend to be another.
    pub forwarded_field: ForwardedField,

    /// Whether the console is served at `/`: a page that lists and calls the methods. Default: true. It reads the
    /// OpenAPI document, so it is not served without [`openapi`](HttpConfig::openapi).
    pub console: bool,

    /// Whether the OpenAPI document is served at `/openapi.json`. Default: true. If it is off, clients learn the
    /// methods and their types only from `Meta.Methods`.
    pub openapi: bool,

    /// The name of the application, shown by the console and the OpenAPI document, at most 200 characters. Default:
    /// empty, no name is shown.
    pub application_name: String,

    /// The version of the application, shown by the OpenAPI document, at most 200 characters. Default: empty, the
    /// version of coreloop is shown.
    pub application_version: String,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            cors_origins: Vec::new(),
            forwarded_from: Vec::new(),
            forwarded_field: ForwardedField::default(),
            console: true,
            openapi: true,
            application_name: String::new(),
            application_version: String::new(),
        }
    }
}
