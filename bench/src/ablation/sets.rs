//! The measured variants: sets of groups. Each group is one method under one load; its variants differ in what they
//! disable.
//!
//! The first variant of a group is the complete server; the others are shown as multiples of it.

use crate::loadgen::speech::AddressProtocol;

/// One way to serve the calls of a group.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub name: &'static str,
    pub speaks: AddressProtocol,
    /// The body's codec, if the protocol has a choice.
    pub codec: Option<&'static str>,
    /// Settings of the server, as `key=value`.
    pub settings: &'static [&'static str],
}

/// One method under one load.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub name: &'static str,
    pub method: &'static str,
    pub connections: u32,
    /// Calls in flight on each connection.
    pub depth: u32,
    pub variants: &'static [Variant],
}

/// Groups that answer one question.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    pub name: &'static str,
    /// The title above the picture.
    pub title: &'static str,
    pub groups: &'static [Group],
}

/// Settings of every variant: one reactor and one worker, since the server has one core.
pub const ALWAYS: [&str; 2] = ["cores=1", "workers=1"];

const INLINE: &str = "Arith.AddFixed";
const POOLED: &str = "Arith.Multiply";

const NO_POOL: &str = "limits.idle_buffer_bytes_max=0";
const LONE_REQUESTS: &str = "batch_max=1";
/// Every reply exceeds the high mark, which is checked between the messages of one read.
const LONE_WRITES: &str = "flush.high_mark_bytes=1";
const LONE_TURNS: &str = "turn.messages_max=1";
const NOTHING: &[&str] = &[NO_POOL, LONE_REQUESTS, LONE_WRITES, LONE_TURNS];

const fn native(name: &'static str, codec: &'static str, settings: &'static [&'static str]) -> Variant {
    Variant { name, speaks: AddressProtocol::Native, codec: Some(codec), settings }
}

const fn other(name: &'static str, speaks: AddressProtocol, settings: &'static [&'static str]) -> Variant {
    Variant { name, speaks, codec: None, settings }
}

const FIXED: Variant = native("native, fixed layout", "fixed", &[]);
const COMPACT: Variant = native("native, compact", "compact", &[]);
const GOB: Variant = native("native, gob", "gob", &[]);
const JSON: Variant = native("native, JSON", "json", &[]);
const NETRPC: Variant = other("Go net/rpc (gob)", AddressProtocol::Gob, &[]);
const JSONRPC: Variant = other("JSON-RPC", AddressProtocol::JsonRpc, &[]);
const HTTP: Variant = other("HTTP + JSON", AddressProtocol::Http, &[]);

const INLINE_LADDER: &[Variant] = &[FIXED, COMPACT, GOB, JSON, NETRPC, JSONRPC, HTTP];
const POOLED_LADDER: &[Variant] = &[COMPACT, GOB, JSON, NETRPC, JSONRPC, HTTP];

const INLINE_POOL: &[Variant] =
    &[native("with the pool", "fixed", &[]), native("without", "fixed", &[NO_POOL])];
const POOLED_POOL: &[Variant] =
    &[native("with the pool", "compact", &[]), native("without", "compact", &[NO_POOL])];
const HTTP_POOL: &[Variant] = &[
    other("with the pool", AddressProtocol::Http, &[]),
    other("without", AddressProtocol::Http, &[NO_POOL]),
];

const INLINE_BATCHING: &[Variant] = &[
    native("as it is", "fixed", &[]),
    native("one write per reply", "fixed", &[LONE_WRITES]),
    native("one message per turn", "fixed", &[LONE_TURNS]),
];
const POOLED_BATCHING: &[Variant] = &[
    native("as it is", "compact", &[]),
    native("one request per hand-off", "compact", &[LONE_REQUESTS]),
    native("one message per turn", "compact", &[LONE_TURNS]),
    native("both", "compact", &[LONE_REQUESTS, LONE_TURNS]),
];

const INLINE_STEPS: &[Variant] = &[
    FIXED,
    native("… in JSON", "json", &[]),
    other("… over HTTP", AddressProtocol::Http, &[]),
    other("… without the buffer pool", AddressProtocol::Http, &[NO_POOL]),
    other("… without batching", AddressProtocol::Http, NOTHING),
];
const POOLED_STEPS: &[Variant] = &[
    COMPACT,
    native("… in JSON", "json", &[]),
    other("… over HTTP", AddressProtocol::Http, &[]),
    other("… without the buffer pool", AddressProtocol::Http, &[NO_POOL]),
    other("… without batching", AddressProtocol::Http, NOTHING),
];

const INLINE_FULL: Group =
    Group { name: "inline, 64x16", method: INLINE, connections: 64, depth: 16, variants: INLINE_LADDER };
const INLINE_ONE: Group = Group { name: "inline, 64x1", depth: 1, ..INLINE_FULL };
const POOLED_FULL: Group =
    Group { name: "pooled, 64x16", method: POOLED, variants: POOLED_LADDER, ..INLINE_FULL };
const POOLED_ONE: Group = Group { name: "pooled, 64x1", depth: 1, ..POOLED_FULL };

/// All sets, in the order of the page.
pub const SETS: [Set; 4] = [
    Set {
        name: "protocols",
        title: "server CPU a call, by protocol and codec",
        groups: &[INLINE_ONE, POOLED_ONE, INLINE_FULL, POOLED_FULL],
    },
    Set {
        name: "pool",
        title: "server CPU a call, with the buffer pool and without",
        groups: &[
            Group { variants: INLINE_POOL, ..INLINE_ONE },
            Group { variants: POOLED_POOL, ..POOLED_ONE },
            Group { variants: INLINE_POOL, ..INLINE_FULL },
            Group { variants: POOLED_POOL, ..POOLED_FULL },
            Group { name: "HTTP, inline, 64x1", variants: HTTP_POOL, ..INLINE_ONE },
        ],
    },
    Set {
        name: "batching",
        title: "server CPU a call, with batching and without",
        groups: &[
            Group { variants: POOLED_BATCHING, ..POOLED_ONE },
            Group { variants: INLINE_BATCHING, ..INLINE_FULL },
            Group { variants: POOLED_BATCHING, ..POOLED_FULL },
        ],
    },
    Set {
        name: "steps",
        title: "server CPU a call, one thing after the other taken away",
        groups: &[
            Group { variants: INLINE_STEPS, ..INLINE_ONE },
            Group { variants: POOLED_STEPS, ..POOLED_ONE },
            Group { variants: INLINE_STEPS, ..INLINE_FULL },
            Group { variants: POOLED_STEPS, ..POOLED_FULL },
        ],
    },
];

#[cfg(test)]
mod tests {
    use coreloop::config::Layers;

    use super::*;
    use crate::loadgen::mix;

    #[test]
    fn every_set_is_valid() {
        for (at, set) in SETS.iter().enumerate() {
            assert!(SETS[..at].iter().all(|other| other.name != set.name), "{}", set.name);
            for group in set.groups {
                assert!(group.variants[0].settings.is_empty(), "{}: the first is the whole", group.name);
                for (at, variant) in group.variants.iter().enumerate() {
                    assert!(group.variants[..at].iter().all(|other| other.name != variant.name));
                    let calls = format!("{}=1", group.method);
                    mix::parse(variant.speaks, &calls, variant.codec, 0).expect(variant.name);
                    let settings = ALWAYS.iter().chain(variant.settings);
                    let layers =
                        settings.fold(Layers::new(), |layers, pair| layers.set(pair).expect("it is known"));
                    layers.resolve().expect("they fit").validate(1).expect("together, too");
                }
            }
        }
    }
}
