//! The limits: bounds on what peers can make a server hold or wait for.
//!
//! Every queue, buffer, table and timeout of the server has its bound here, so the config bounds memory whatever
//! peers do. The code that enforces a limit counts how often it is reached; this file counts nothing. Ranges are in
//! `keys.rs`, the rules between limits in `valid.rs`.

/// The bounds of a server. Sizes are in bytes, times in milliseconds; 0 is an error unless the field gives it a
/// meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one frame or body, and of a body once decompressed. Default 16 MiB; at most 4 GiB less 64 KiB and a
    /// header, so that the length of a whole frame fits in 32 bits. At the limit: native `resource_exhausted`, and
    /// close if the frame cannot be skipped; HTTP 413. Too small: legitimate large calls fail. Too large: one peer
    /// can make the server hold that much per call.
    pub frame_bytes_max: usize,

    /// Connections per reactor. Default 65 536. At the limit: a new one is accepted, closed at once and counted. Too
    /// small: clients are refused. Larger than the process's descriptor limit: accepting fails and pauses instead.
    pub connections_max: usize,

    /// Requests in flight per connection. Default 1024. At the limit: reading stops until half are answered. With native
    /// frames, calls that state a deadline are still read, and refused with `resource_exhausted`. Too small: pipelines
    /// stall. Too large: one connection can fill the run queue for all.
    pub in_flight_max: usize,

    /// Bytes of the bodies held by one connection's requests in flight. Default 64 MiB; at least
    /// `frame_bytes_max`. At the limit: as at `in_flight_max`. Too small: large calls run one after the other, or are
    /// refused. Too large: one connection pins that much memory (the count alone would allow 16 GiB).
    pub in_flight_bytes_max: usize,

    /// Bytes of replies that wait for a peer to read them. Default 4 MiB. At the limit: reading from that peer stops;
    /// if no byte is written for `write_stall_ms`, the connection is closed. The calls in
    /// flight are still answered, `in_flight_max` of them beyond this limit. Too small: pipelines of large replies stall. Too
    /// large: each slow reader holds that much.
    pub write_queue_high_bytes: usize,

    /// Level of the write queue at which reading resumes; below the high mark. Default 1 MiB; 0 resumes when the
    /// queue is empty. Too small: the connection idles before it takes requests again. Too close to the high mark:
    /// reading stops and resumes all the time.
    pub write_queue_low_bytes: usize,

    /// Calls that wait for a worker, per reactor. Default 16 384, at most 4 194 304. At the limit: a call is answered
    /// `resource_exhausted` at once. Too small: bursts are refused that could be served in time. Too large: under
    /// overload, calls without a deadline wait for long, and each holds its argument.
    pub run_queue_max: usize,

    /// Calls of async methods in flight, in the whole server: each has a future, which counts until its executor drops it.
    /// Default 16 384. At the limit: a call is answered `resource_exhausted` at once. Too small: calls that only wait are
    /// refused. Too large: each holds its argument and its future.
    pub async_in_flight_max: usize,

    /// Microseconds of estimated work that each worker is given ahead; all other calls wait in the run queue, where they
    /// can still be refused, removed and overtaken. At least two calls are handed over for each worker, whatever they
    /// take, and while much work waits, a thirty-second of it, up to 500 µs. Default 100. Too small: workers wait for the reactor between calls. Too large: calls that were handed over
    /// delay those of other connections.
    pub look_ahead_us: u64,

    /// Milliseconds that calls may wait for a worker. Default 0: any time. If all calls of 100 ms have waited longer,
    /// every call that has waited longer is answered `resource_exhausted` until one has not (CoDel's signal). For
    /// callers that state no deadlines. Too small: bursts are cut that could be served. Too large: calls are served whose
    /// callers have given up.
    pub queue_target_ms: u64,

    /// Whether the number of calls in progress, waiting or running, is limited by how long they take: as many as keep the
    /// workers busy without waiting for each other. Default: false. At the limit: `resource_exhausted`. For callers that
    /// state no deadlines, and methods that take about the same time.
    pub adaptive_concurrency: bool,

    /// Header lines of an HTTP request. Default 64. At the limit: 431. Too small: requests through proxies that add
    /// headers fail. Too large: each head costs more time to parse.
    pub http_headers_max: usize,

    /// Bytes of an HTTP head: request line and headers together. Default 16 KiB. At the limit: 431. Too small: long
    /// cookies or tokens fail. Too large: each silent connection can hold that much.
    pub http_head_bytes_max: usize,

    /// Connections per reactor whose peers have not sent a byte yet. Default 1024. At the limit: the oldest of them
    /// is closed when a new one is accepted. Too small: clients that connect ahead of their first call are dropped
    /// when many connect at once. Too large: silent peers hold that many descriptors until `idle_ms`.
    pub silent_connections_max: usize,

    /// TLS handshakes in progress, for each reactor on average: the bound is for all reactors together. Default 256. At the
    /// limit: further connections to listeners with TLS wait in the accept queue. Too small: many clients that connect at
    /// once wait for each other. Too large: a flood of handshakes delays calls.
    pub tls_handshakes_max: usize,

    /// Milliseconds from the accept of a connection with TLS to the end of its handshake. Default 10,000. At the limit: the
    /// connection is closed. Too small: clients on slow links cannot connect. Too large: clients that stop in the middle
    /// keep others waiting.
    pub tls_handshake_ms: u64,

    /// Milliseconds from the first byte until the protocol is identified. Default 10 000, in total. Before its first
    /// byte a connection is idle (`idle_ms`), since clients connect ahead of their first call. At the limit: close.
    /// Too small: peers on slow links cannot connect. Too large: peers that stop after one byte keep their slots.
    pub first_bytes_ms: u64,

    /// Milliseconds for a whole HTTP head, from its first byte. Default 10 000, in total, so that one byte a second
    /// does not extend it. At the limit: 408 and close. Too small: slow links fail. Too large: slow senders hold
    /// slots.
    pub head_ms: u64,

    /// Milliseconds for a whole frame or body, from its first byte. Default 30 000, in total. At the limit: close
    /// (HTTP 408). Too small: large bodies on slow links fail. Too large: slow senders hold half-filled buffers.
    pub frame_ms: u64,

    /// Milliseconds without a request before a connection is closed. Default 600 000. At the limit: a drain notice,
    /// then close. Too small: clients reconnect all the time. Too large: inactive peers keep slots.
    pub idle_ms: u64,

    /// Milliseconds after which a connection is drained, whatever it does. Default 0: at no age. Each connection has a
    /// limit of its own within 10 % of this, so that those that began together do not end together. At the limit: as in a
    /// drain of the server, except that calls in flight have any time, and an HTTP/1.1 connection without a request stays
    /// until its next answer or `idle_ms`. With gob and JSON-RPC, which cannot announce it, calls that cross the close
    /// are lost. Too small: clients connect again all the time. Too large: clients stay with the servers that were there
    /// when they connected.
    pub connection_age_max_ms: u64,

    /// Milliseconds that a write queue may make no progress. Default 30 000. At the limit: close. Too small: a short
    /// network fault costs connections. Too large: a dead reader holds its queue that long.
    pub write_stall_ms: u64,

    /// Nesting of JSON, gob and similar formats. Default 128, which is also the maximum: decoders recurse, and a
    /// stack overflow ends the process. At the limit: `invalid_argument`. Too small: deep legitimate values fail.
    pub depth_max: usize,

    /// gob type definitions per connection. Default 1024. At the limit: close. Too small: clients with many types
    /// fail. Too large: a peer can make the connection store that many.
    pub gob_types_max: usize,

    /// Bytes of one gob type definition. Default 64 KiB. At the limit: close. Too small: structs with very many
    /// fields fail. Too large: one connection can hold this times `gob_types_max`.
    pub gob_type_bytes_max: usize,

    /// Bytes of idle buffers that a reactor keeps for its next reads and replies. Default 8 MiB; 0 keeps none, so
    /// each buffer is allocated again. At the limit: a returned buffer is freed. Too small: busy traffic allocates in
    /// every turn. Too large: the buffers of a burst are held until they have been idle for some seconds.
    pub idle_buffer_bytes_max: usize,

    /// Bytes of one reply's body, before compression. Default 64 MiB; at most `frame_bytes_max`. At the limit: the
    /// call is answered `resource_exhausted` instead, and the connection stays open. Too small: legitimate large
    /// replies fail. Too large: one call can make the server hold that much for each caller.
    pub reply_bytes_max: usize,

    /// Streaming calls of one connection that have not ended. Default 1 024. At the limit: further ones are refused with
    /// `resource_exhausted`. Too small: clients that subscribe to much are refused. Too large: one client can hold that
    /// many handlers.
    pub streams_max: usize,

    /// Bytes of messages that a peer may send for one stream before the application takes them. Default 256 KiB; values
    /// below 64 KiB count as 64 KiB, which every stream begins with. At the limit: the peer gets no credit until messages
    /// are taken. Too small: one stream does not fill a long link. Too large: a slow handler holds that much.
    pub stream_window_bytes: usize,

    /// Bytes of messages that a peer may send on one connection before the application takes them. Default 16 MiB;
    /// values below 1 MiB count as 1 MiB, which every connection begins with. At the limit: the peer gets no credit
    /// until messages are taken. Too small: streams wait for each other. Too large: one peer can make the server hold
    /// that much.
    pub connection_window_bytes: usize,

    /// Bytes of messages that wait for credit of one connection's peer. Default 16 MiB. At the limit: no sink of the
    /// connection is ready. Too small: one stream without credit slows the others. Too large: a peer that reads nothing
    /// makes the server hold that much.
    pub held_bytes_max: usize,

    /// Bytes of refusals and pongs that wait to be written on a connection that goes on reading at its other limits: with
    /// open streams, or at `in_flight_max`. Default 256 KiB. At the limit: reading stops until half of them are written, and
    /// `write_stall_ms` applies. Too small: bursts of refused calls stop the streams. Too
    /// large: a peer that reads nothing makes the server hold that much.
    pub refusal_bytes_max: usize,

    /// Milliseconds without a byte from the peer of a connection with open streams: a ping is sent. Default 30 000. Too
    /// small: pings cost more than they find. Too large: a peer that has gone without a word is noticed late.
    pub stream_keepalive_ms: u64,

    /// Milliseconds for the answer to that ping. Default 10 000. At the limit: the connection is closed and its streams
    /// end. Too small: a peer that stops for a moment loses its streams. Too large: as above.
    pub stream_keepalive_timeout_ms: u64,

    /// Bytes that are still read and discarded after the last answer on a connection, or after an HTTP request was
    /// refused before its body. Default 1 MiB. At the limit: close; a peer that is still sending may not see the
    /// answer. Too small: error answers are lost to resets. Too large: refused uploads cost as much as accepted ones.
    pub linger_bytes_max: usize,

    /// Milliseconds for the same. Default 2 000. At the limit: close. Too small: error answers are lost on slow
    /// links. Too large: finished connections keep their slots.
    pub linger_ms: u64,

    /// Milliseconds between the change of health to `not_serving` and the drain; new connections and calls are still
    /// served. Default 0: the drain begins at once. This time is added to `drain_ms`. Too small: load balancers that
    /// poll the health send connections to a closed port. Too large: a restart takes longer.
    pub drain_grace_ms: u64,

    /// Milliseconds that a drain keeps HTTP connections without a request; a request in that time is served, and its
    /// answer has `Connection: close`. Default 1 000; 0 closes them at once. At the limit: close. Too small: a
    /// proxy's next request meets a closed connection. Too large: a restart waits for peers that send nothing.
    pub drain_idle_ms: u64,

    /// Milliseconds that a drain waits for calls in flight. Default 10 000; 0 ends them at once. At the limit: the
    /// remaining calls are answered `unavailable` and counted. Too small: restarts lose calls. Too large: a restart
    /// waits for the slowest call, and may last longer than the service manager waits.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            frame_bytes_max: 16 << 20,
            connections_max: 65_536,
            in_flight_max: 1024,
            in_flight_bytes_max: 64 << 20,
            write_queue_high_bytes: 4 << 20,
            write_queue_low_bytes: 1 << 20,
            run_queue_max: 16_384,
            async_in_flight_max: 16_384,
            look_ahead_us: 100,
            queue_target_ms: 0,
            adaptive_concurrency: false,
            http_headers_max: 64,
            http_head_bytes_max: 16 << 10,
            silent_connections_max: 1024,
            tls_handshakes_max: 256,
            tls_handshake_ms: 10_000,
            first_bytes_ms: 10_000,
            head_ms: 10_000,
            frame_ms: 30_000,
            idle_ms: 600_000,
            connection_age_max_ms: 0,
            write_stall_ms: 30_000,
            depth_max: 128,
            gob_types_max: 1024,
            gob_type_bytes_max: 64 << 10,
            idle_buffer_bytes_max: 8 << 20,
            reply_bytes_max: 64 << 20,
            streams_max: 1024,
            stream_window_bytes: 256 << 10,
            connection_window_bytes: 16 << 20,
            held_bytes_max: 16 << 20,
            refusal_bytes_max: 256 << 10,
            stream_keepalive_ms: 30_000,
            stream_keepalive_timeout_ms: 10_000,
            linger_bytes_max: 1 << 20,
            linger_ms: 2_000,
            drain_grace_ms: 0,
            drain_idle_ms: 1_000,
            drain_ms: 10_000,
        }
    }
}
