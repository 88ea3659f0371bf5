//! The configuration of a server: plain structs with public fields, a safe default for each.
//!
//! Here are the fields and what they mean; `limits.rs` has the bounds. Nothing here opens a socket or starts a
//! thread, and nothing is checked until [`Config::validate`] turns a `Config` into a [`ValidConfig`], which cannot be
//! wrong. `keys.rs` is the one table of names and ranges; `layers.rs` reads file, environment and flags.

mod error;
mod keys;
mod limits;
mod socket_mode;
mod valid;
mod value;

#[cfg(feature = "config-file")]
mod file;
#[cfg(feature = "config-file")]
mod layers;
#[cfg(feature = "config-file")]
mod nearest;
#[cfg(feature = "config-file")]
mod print;
#[cfg(feature = "config-file")]
mod warning;

pub use error::{ConfigError, Origin};
pub use keys::{ConfigKey, keys};
#[cfg(feature = "config-file")]
pub use layers::{Layers, Origins, Resolved};
pub use limits::Limits;
pub use socket_mode::SocketMode;
pub use valid::ValidConfig;
pub use value::split_listen;
#[cfg(feature = "config-file")]
pub use warning::ConfigWarning;

/// Everything a server can be told before it starts.
///
/// ```
/// use coreloop::config::Config;
///
/// let config = Config { cores: 2, listen: vec!["127.0.0.1:0".into()], ..Config::default() };
/// let valid = config.validate(8).unwrap();
/// assert_eq!((valid.cores, valid.workers), (2, 2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen: `host:port` (IPv6 in brackets; port 0 lets the system choose) or `unix:PATH`. With the name
    /// of a protocol in front, `http:127.0.0.1:8080`, the listener serves that one alone ([`split_listen`]).
    /// Default: `127.0.0.1:6550`, which other machines cannot reach; `0.0.0.0:6550` opens it to all of them.
    pub listen: Vec<String>,

    /// Reactors, one thread each. Default 0: the number of cores that the process may use, by its affinity mask and by
    /// the CPU quota of its control groups (Linux); a part of a core counts as one.
    /// Too few: decoding and the kernel's network work crowd one core. More than there are cores: they take
    /// turns, and every turn of the loop waits for the scheduler.
    pub cores: usize,

    /// Threads that run pooled methods. Default 0: as many as reactors, at least 2.
    /// Too few: requests wait in the work queue while cores idle. Too many: handlers push reactors aside.
    pub workers: usize,

    /// Upper bound of the second pool, for methods that may wait. Default 512; threads come as work waits and
    /// go when idle. Too small: slow calls wait in the work queue behind each other. Too large: each thread
    /// costs a stack, and hundreds that become ready together swamp the scheduler.
    pub blocking_threads: usize,

    /// Whether each reactor is pinned to one of the allowed cores. Default: not.
    /// Helps on a machine that does nothing else; hurts where another busy thread is pinned to the same core,
    /// since the scheduler can then move neither.
    pub pin: bool,

    /// Microseconds that a reactor polls without sleeping once it has run dry. Default 0: it sleeps at once.
    /// Too small: it gives up just before the next request, and pays for both. Too large: an idle server heats
    /// its cores. With one allowed core it is always 0: whoever should send the next request could not run.
    pub busy_poll_us: u64,

    /// Microseconds that a busy reactor naps before it looks for more calls, so that one read and one write serve
    /// several. Default 200; 0 is never. Naps are tried where connections have several calls in flight, kept only
    /// while they make calls clearly cheaper and more, and stop when the load falls.
    /// Too small: few calls gather. Too large: each call waits as long as the nap.
    pub gather_us: u64,

    /// Microseconds that a worker looks for more work before it parks. Default 20; 0 parks at once, as always
    /// with one allowed core. Too small: each batch pays for waking a thread. Too large: idle workers take time
    /// from reactors.
    pub worker_spin_us: u64,

    /// Most requests handed to a worker in one batch, 1 to 64 and never more than
    /// [`Limits::work_queue_max`]. Default 32. Too small: a queue operation and maybe a wake-up per request.
    /// Too large: one worker holds what others could have begun.
    pub batch_max: usize,

    /// How several reactors share one port. Default: [`AcceptMode::Auto`].
    pub accept: AcceptMode,

    /// Permission bits of the file of each Unix socket that is listened on: whoever may write to the file may connect.
    /// Default 0666, every local user, as with a TCP port on the loopback address; the permissions of the file's folder
    /// narrow it. Too few: a proxy that runs as another user is refused. Too many: users that should not call can.
    pub unix_mode: SocketMode,

    /// The user, by name or number, that owns the file of each Unix socket. Default empty: the process's own. Only root
    /// can name another one; a name that the system does not know keeps the server from starting.
    pub unix_user: String,

    /// The group, by name or number, that owns the file of each Unix socket. Default empty: the one that the system
    /// gives. A process that is not root must be a member of it.
    pub unix_group: String,
    /// What becomes of fields that an argument lacks, or that are null. Default: [`MissingFields::ByProtocol`].
    /// A service and a method may have another rule. `Zero` where callers forget fields: they are not told.
    /// `Error` where Go's or protobuf's clients call: they leave out every field that is zero.
    pub missing_fields: MissingFields,

    /// When finished replies leave.
    pub flush: Flush,

    /// How much one turn of the loop may do before others have theirs.
    pub turn: TurnBudget,

    /// What concerns HTTP alone.
    pub http: HttpConfig,

    /// The bounds on what peers can make the server hold.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: vec!["127.0.0.1:6550".to_owned()],
            cores: 0,
            workers: 0,
            blocking_threads: 512,
            pin: false,
            busy_poll_us: 0,
            gather_us: 200,
            worker_spin_us: 20,
            batch_max: 32,
            accept: AcceptMode::Auto,
            unix_mode: SocketMode::default(),
            unix_user: String::new(),
            unix_group: String::new(),
            missing_fields: MissingFields::ByProtocol,
            flush: Flush::default(),
            turn: TurnBudget::default(),
            http: HttpConfig::default(),
            limits: Limits::default(),
        }
    }
}

/// How several reactors share one listening port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AcceptMode {
    /// `ReusePort` on Linux with several reactors, else `Acceptor`. A [`ValidConfig`] never holds it.
    #[default]
    Auto,
    /// Each reactor has a listening socket of its own (SO_REUSEPORT) and the kernel spreads connections by
    /// hash: nothing is handed over, but few connections may spread unevenly, and not every platform balances.
    ReusePort,
    /// One reactor accepts and deals connections out to the reactor that has the fewest: even, at the cost of
    /// one hand-over per connection.
    Acceptor,
}

impl AcceptMode {
    /// The names that a config file knows, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["auto", "reuseport", "acceptor"];

    /// The name as a config file has it.
    pub fn name(self) -> &'static str {
        match self {
            AcceptMode::Auto => "auto",
            AcceptMode::ReusePort => "reuseport",
            AcceptMode::Acceptor => "acceptor",
        }
    }

    /// The choice of that name, if there is one.
    pub fn from_name(name: &str) -> Option<AcceptMode> {
        [AcceptMode::Auto, AcceptMode::ReusePort, AcceptMode::Acceptor]
            .into_iter()
            .find(|accept| accept.name() == name)
    }
}

/// What becomes of a field that an argument lacks, or that is null where its type has no null.
///
/// A default that serde knows of (`#[serde(default)]`, `Option`) counts in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MissingFields {
    /// Zero where clients leave out their zero values: in gob, in JSON-RPC 1.0, and in requests with
    /// `Connect-Protocol-Version`. An error in plain JSON over HTTP, JSON-RPC 2.0, and native JSON and MessagePack.
    #[default]
    ByProtocol,
    /// Zero in every protocol: 0, false, empty text, list or map, a struct of zeros, the first variant of an enum without
    /// data. A type without a zero (an enum with data, a NonZero) is an error.
    Zero,
    /// An error in every protocol. In gob, where a zero cannot be told from a field that is left out, only a field that
    /// the sender's type does not have.
    Error,
}

impl MissingFields {
    /// The names that a config file knows, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["by_protocol", "zero", "error"];

    /// The name as a config file has it.
    pub fn name(self) -> &'static str {
        match self {
            MissingFields::ByProtocol => "by_protocol",
            MissingFields::Zero => "zero",
            MissingFields::Error => "error",
        }
    }

    /// The rule of that name, if there is one.
    pub fn from_name(name: &str) -> Option<MissingFields> {
        let all = [MissingFields::ByProtocol, MissingFields::Zero, MissingFields::Error];
        all.into_iter().find(|rule| rule.name() == name)
    }
}

/// When finished replies leave: always at the end of the turn, earlier or later as these say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flush {
    /// A write queue that grows past this within a turn is flushed at once. Default 0: 80 % of
    /// [`Limits::write_queue_high_bytes`], which it may not exceed. Too small: many small writes where one
    /// would do. As large as the high mark: reading stops before the first write was tried.
    pub high_mark_bytes: usize,

    /// Microseconds that a reply may wait for company after its turn. Default 0: none, it leaves when its turn
    /// ends. Too large: every lone reply is late by that much.
    pub delay_us: u64,
}

/// What concerns HTTP alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Origins whose pages may call methods and read the answers (CORS), as a browser writes them:
    /// `https://app.example`, without a path; `*` is every origin. Default: none, so browsers keep the pages of
    /// other sites out. Too many: each of those sites acts with its visitor's reach, into networks that it could
    /// not reach itself.
    pub cors_origins: Vec<String>,

    /// Whether the console is served at `/`: a page to read and call the methods. Default: it is. It reads the OpenAPI
    /// document, so it is not served without [`openapi`](HttpConfig::openapi).
    pub console: bool,

    /// Whether the OpenAPI document is served at `/openapi.json`. Default: it is. Off, strangers learn the methods and
    /// their types only from `Meta.Methods`.
    pub openapi: bool,

    /// The name of the application, which the console and the OpenAPI document show, at most 200 characters.
    /// Default: empty, they show none.
    pub application_name: String,

    /// The version of the application, which the OpenAPI document shows, at most 200 characters. Default: empty, the
    /// version of coreloop.
    pub application_version: String,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            cors_origins: Vec::new(),
            console: true,
            openapi: true,
            application_name: String::new(),
            application_version: String::new(),
        }
    }
}

/// How much one turn of the loop may do, so that one busy peer cannot hold all others up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnBudget {
    /// Bytes read from one connection in one turn; it goes on in the next. Default 256 KiB.
    /// Too small: large frames take many turns and reads. Too large: a fast sender delays everyone else.
    pub read_bytes_max: usize,

    /// Connections accepted in one turn. Default 64. Too small: a burst of clients waits in the kernel's
    /// backlog, which drops some when full. Too large: a burst delays the answers to those already in.
    pub accepts_max: usize,

    /// Messages decoded from one connection in one turn. Default 1024. Too small: deep pipelines break into
    /// small batches. Too large: one pipeliner of tiny requests holds the loop.
    pub messages_max: usize,
}

impl Default for TurnBudget {
    fn default() -> Self {
        TurnBudget { read_bytes_max: 256 << 10, accepts_max: 64, messages_max: 1024 }
    }
}
