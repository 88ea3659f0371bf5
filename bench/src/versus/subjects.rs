//! The comparisons: the servers, the clients that call them, and the loads of each comparison.

use std::fmt;
use std::str::FromStr;

/// A number of connections, and of calls in flight on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load {
    /// Number of connections.
    pub connections: u32,
    /// Calls in flight on each connection.
    pub depth: u32,
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Load, String> {
        let parsed = text.split_once('x').and_then(|(connections, depth)| {
            Some(Load { connections: connections.parse().ok()?, depth: depth.parse().ok()? })
        });
        let sane = parsed.filter(|load| load.connections > 0 && load.depth > 0);
        sane.ok_or("a load is CONNECTIONSxDEPTH, as in 64x16".into())
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.connections, self.depth)
    }
}

/// How cores are assigned to the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The server has the first core, the client the second.
    Apart,
    /// The server has this many cores, the client all of them.
    Shared(usize),
}

/// A server, the call made to it, and the client that makes it.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    pub name: &'static str,
    /// The subject whose figures are the divisor of this one's.
    pub floor: Option<&'static str>,
    pub is_coreloop: bool,
    pub server: &'static [&'static str],
    pub call: &'static [&'static str],
    /// Additional arguments of `drive`.
    pub client: &'static [&'static str],
    pub place: Place,
}

pub const ADD_FIXED: &[&str] = &["--method", "Arith.AddFixed", "--codec", "fixed"];
const MULTIPLY: &[&str] = &["--method", "Arith.Multiply", "--codec", "compact"];
const SERVE: &[&str] =
    &["serve", "--listen", "127.0.0.1:0", "--cores", "1", "--workers", "1", "--set", SILENT];
const SERVE_TWO: &[&str] =
    &["serve", "--listen", "127.0.0.1:0", "--cores", "2", "--workers", "1", "--set", SILENT];
/// The client opens all its connections before the first call: by default the server closes the oldest of more than
/// 1,024 that have sent nothing.
const SILENT: &str = "limits.silent_connections_max=65536";

pub const FLOOR: Subject = Subject {
    name: "floor",
    floor: None,
    is_coreloop: false,
    server: &["floor"],
    call: ADD_FIXED,
    client: &[],
    place: Place::Apart,
};
pub const INLINE: Subject =
    Subject { name: "coreloop-inline", floor: Some("floor"), is_coreloop: true, server: SERVE, ..FLOOR };
pub const HAND_OFF: Subject = Subject { name: "floor-hand-off", server: &["floor", "--hand-off"], ..FLOOR };
pub const POOLED: Subject =
    Subject { name: "coreloop-pooled", floor: Some("floor-hand-off"), call: MULTIPLY, ..INLINE };

const BLOCKING: &[&str] = &["--blocking"];
const DIRECT: &[&str] = &["--by", "direct"];
const SHARED: &[&str] = &["--by", "shared"];
const LOADGEN: &[&str] = &["--by", "loadgen"];

/// A comparison: subjects under loads.
pub struct Set {
    /// The suffix of the load's name; empty for the main comparison.
    pub name: &'static str,
    /// `None`: the loads of the command line.
    pub loads: Option<&'static [Load]>,
    pub subjects: &'static [Subject],
    /// A note for the reader.
    pub note: Option<&'static str>,
    /// Whether `--strace` counts the client's system calls.
    pub is_of_clients: bool,
}

const fn load(connections: u32, depth: u32) -> Load {
    Load { connections, depth }
}

/// The server and its floors.
pub const MAIN: Set = Set {
    name: "",
    loads: None,
    subjects: &[FLOOR, INLINE, HAND_OFF, POOLED],
    note: None,
    is_of_clients: false,
};

/// One call at a time, with the plain blocking client and with the library's direct one.
pub const LONE: Set = Set {
    name: ", direct client",
    loads: Some(&[load(1, 1)]),
    subjects: &[
        Subject { name: "floor, blocking", client: BLOCKING, ..FLOOR },
        Subject { name: "floor, Direct", floor: Some("floor, blocking"), client: DIRECT, ..FLOOR },
        Subject { name: "coreloop, blocking", floor: Some("floor, blocking"), client: BLOCKING, ..INLINE },
        Subject { name: "coreloop, Direct", floor: Some("floor, blocking"), client: DIRECT, ..INLINE },
    ],
    note: None,
    is_of_clients: false,
};

/// Two reactors compared with one.
pub const REACTORS: Set = Set {
    name: ", reactors",
    loads: Some(&[load(64, 16)]),
    subjects: &[
        Subject { name: "one reactor", floor: None, place: Place::Shared(1), ..INLINE },
        Subject {
            name: "two reactors",
            floor: Some("one reactor"),
            server: SERVE_TWO,
            place: Place::Shared(2),
            ..INLINE
        },
    ],
    note: Some(
        "The client may run on every core, also on the server's: on two cores it is its appetite that the second \
         reactor competes with. \"× floor\" is × one reactor.",
    ),
    is_of_clients: false,
};

const CLIENTS_NOTE: &str = "\"× floor\" is × the bare client. With `shared` a load is threads that share one \
                            connection × calls that each keeps in flight.";

/// What a call costs its caller: the clients against one server.
pub const CLIENTS: [Set; 3] = [
    Set {
        name: ", clients",
        loads: Some(&[load(1, 1)]),
        subjects: &[
            Subject { name: "bare", floor: None, ..INLINE },
            Subject { name: "bare, blocking", floor: Some("bare"), client: BLOCKING, ..INLINE },
            Subject { name: "Direct", floor: Some("bare"), client: DIRECT, ..INLINE },
            Subject { name: "shared", floor: Some("bare"), client: SHARED, ..INLINE },
            Subject { name: "loadgen", floor: Some("bare"), client: LOADGEN, ..INLINE },
        ],
        note: None,
        is_of_clients: true,
    },
    Set {
        name: ", clients",
        loads: Some(&[load(1, 16), load(4, 16)]),
        subjects: &[
            Subject { name: "bare", floor: None, ..INLINE },
            Subject { name: "shared", floor: Some("bare"), client: SHARED, ..INLINE },
            Subject { name: "loadgen", floor: Some("bare"), client: LOADGEN, ..INLINE },
        ],
        note: None,
        is_of_clients: true,
    },
    Set {
        name: ", clients",
        loads: Some(&[load(64, 16)]),
        subjects: &[
            Subject { name: "bare", floor: None, ..INLINE },
            Subject { name: "loadgen", floor: Some("bare"), client: LOADGEN, ..INLINE },
        ],
        note: Some(CLIENTS_NOTE),
        is_of_clients: true,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_two_numbers() {
        assert_eq!("64x16".parse(), Ok(Load { connections: 64, depth: 16 }));
        for wrong in ["64", "x", "0x1", "1x0", "1x1x1", "-1x1"] {
            assert!(wrong.parse::<Load>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_floor_is_in_its_set_and_names_are_unique() {
        for set in [MAIN, LONE, REACTORS].into_iter().chain(CLIENTS) {
            for subject in set.subjects {
                let named = |name| set.subjects.iter().filter(|other| other.name == name).count();
                assert_eq!(named(subject.name), 1, "{}", subject.name);
                assert!(subject.floor.is_none_or(|floor| named(floor) == 1), "{}", subject.name);
            }
        }
    }
}
