//! What carries the bytes between the two ends of a real connection: in random portions, late, and not to the end. It
//! reads the frames that pass, and checks the rules that hold for each direction whatever the ends do (docs/wire.md,
//! "Streams"). It can make an end one that says hello, see [`Hello`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{ErrorKind, Read, Write};

use coreloop::transport::BlockingTransport;

use crate::frames::FrameFault;
use crate::rng::Rng;

const REQUEST: u8 = 0;
const REPLY: u8 = 1;
const CANCEL: u8 = 3;
const HELLO: u8 = 7;
const DATA: u8 = 8;
const WINDOW: u8 = 9;
const END: u8 = 11;

const HEADER_BYTES: usize = 32;
/// The windows of each direction before any credit, in bytes.
pub const STREAM_WINDOW: u32 = 65_536;
pub const CONNECTION_WINDOW: u32 = 1 << 20;

/// The windows that one end grants, in bytes, and how the other end learns of them: from credit, as the ends of this
/// crate give it, or from a hello, as others may. The relay adds the hello before the first frame of the end, and drops
/// the credit that enlarges the windows from their initial sizes: the hello has given it.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    pub stream: u32,
    pub connection: u32,
    pub is_hello: bool,
}

impl Grant {
    fn hello(&self) -> Vec<u8> {
        let mut metadata = Vec::new();
        let defaults = [STREAM_WINDOW, CONNECTION_WINDOW];
        for ((key, bytes), default) in
            [("stream-window", self.stream), ("connection-window", self.connection)].into_iter().zip(defaults)
        {
            // What is left out is the default.
            if bytes != default {
                let text = bytes.to_string();
                metadata.push(key.len() as u8);
                metadata.extend_from_slice(key.as_bytes());
                metadata.extend_from_slice(&(text.len() as u16).to_le_bytes());
                metadata.extend_from_slice(text.as_bytes());
            }
        }
        metadata.resize(metadata.len().next_multiple_of(8), 0);
        let mut frame = vec![0; HEADER_BYTES];
        (frame[0], frame[1], frame[2], frame[3]) = (0x19, 0x96, 1, HELLO);
        frame[6..8].copy_from_slice(&(metadata.len() as u16).to_le_bytes());
        frame.append(&mut metadata);
        frame
    }
}

/// The hello of an end that does not say it itself.
struct Hello {
    grant: Grant,
    /// The ids of streams whose credit was dropped; 0 is the connection.
    dropped: BTreeSet<u64>,
}

impl Hello {
    fn drops(&mut self, frame: &Frame) -> bool {
        let (granted, default) = match frame.id {
            0 => (self.grant.connection, CONNECTION_WINDOW),
            _ => (self.grant.stream, STREAM_WINDOW),
        };
        // The first credit is the one that enlarges the window: it is given when the stream opens.
        let drops = frame.kind == WINDOW && granted > default && self.dropped.insert(frame.id);
        if drops {
            let bytes = u32::from_le_bytes(frame.body[..].try_into().expect("four bytes"));
            assert_eq!(bytes, granted - default, "the credit that enlarges the window of {}", frame.id);
        }
        drops
    }
}

/// A frame that has passed.
struct Frame {
    kind: u8,
    flags: u8,
    id: u64,
    body: Vec<u8>,
    frame_bytes: i64,
}

/// Finds the frames in a sequence of bytes.
#[derive(Default)]
struct Scanner {
    bytes: Vec<u8>,
}

impl Scanner {
    fn feed(&mut self, bytes: &[u8], mut on_frame: impl FnMut(Frame, &[u8])) {
        self.bytes.extend_from_slice(bytes);
        while self.bytes.len() >= HEADER_BYTES {
            let header = &self.bytes[..HEADER_BYTES];
            assert_eq!(header[..3], [0x19, 0x96, 1], "a frame begins here");
            let metadata = usize::from(u16::from_le_bytes([header[6], header[7]]));
            let body = u32::from_le_bytes([header[28], header[29], header[30], header[31]]) as usize;
            let (kind, flags) = (header[3], header[5]);
            let id = u64::from_le_bytes(header[8..16].try_into().unwrap());
            let all = HEADER_BYTES + metadata + body;
            if self.bytes.len() < all {
                return;
            }
            let body = self.bytes[all - body..all].to_vec();
            on_frame(Frame { kind, flags, id, body, frame_bytes: all as i64 }, &self.bytes[..all]);
            self.bytes.drain(..all);
        }
    }
}

/// The credit of one direction as its sender may know it at most.
struct Credit {
    grant: Grant,
    connection: i64,
    /// What each stream begins with.
    stream: i64,
    streams: BTreeMap<u64, i64>,
}

impl Credit {
    fn new(grant: Grant) -> Credit {
        let (connection, stream) = (i64::from(CONNECTION_WINDOW), i64::from(STREAM_WINDOW));
        Credit { grant, connection, stream, streams: BTreeMap::new() }
    }

    /// A hello was delivered, before any stream.
    fn on_hello(&mut self) {
        self.connection = i64::from(self.grant.connection);
        self.stream = i64::from(self.grant.stream);
    }

    /// A data frame was sent.
    fn on_data(&mut self, frame: &Frame) {
        let stream = self.streams.entry(frame.id).or_insert(self.stream);
        assert!(self.connection > 0, "{} sends beyond the window of the connection", frame.id);
        assert!(*stream > 0, "{} sends beyond the window of its stream", frame.id);
        self.connection -= frame.frame_bytes;
        *stream -= frame.frame_bytes;
    }

    /// A window frame was delivered.
    fn on_window(&mut self, frame: &Frame) {
        let bytes = i64::from(u32::from_le_bytes(frame.body[..].try_into().expect("four bytes")));
        match frame.id {
            0 => self.connection += bytes,
            id => {
                let left = self.streams.entry(id).or_insert(self.stream);
                *left += bytes;
                let window = i64::from(self.grant.stream);
                assert!(*left <= window, "{id} may send {left} bytes, and its window has {window}");
            }
        }
    }
}

/// What the caller has sent for one call.
#[derive(Default)]
struct CallState {
    may_send: bool,
    is_cancelled: bool,
    replies: usize,
}

/// The frames of both directions.
pub struct Observer {
    up: Credit,
    down: Credit,
    calls: BTreeMap<u64, CallState>,
    delivered: BTreeSet<u64>,
    /// The id of a frame that was delivered twice: its call may have two replies.
    twice: Option<u64>,
}

impl Observer {
    fn on_sent_up(&mut self, frame: &Frame) {
        match frame.kind {
            REQUEST => {
                let state = CallState { may_send: frame.flags & 2 != 0, ..CallState::default() };
                assert!(self.calls.insert(frame.id, state).is_none(), "the id {} is used twice", frame.id);
            }
            DATA => {
                assert!(self.calls[&frame.id].may_send, "{} sends no messages", frame.id);
                self.up.on_data(frame);
            }
            END | CANCEL => {
                let call = self.calls.get_mut(&frame.id).expect("a call that was made");
                assert!(!call.is_cancelled, "{} was cancelled before", frame.id);
                assert!(frame.kind == CANCEL || call.may_send, "{} has ended its messages", frame.id);
                call.may_send = false;
                call.is_cancelled = frame.kind == CANCEL;
            }
            WINDOW if frame.id != 0 => {
                assert!(!self.calls[&frame.id].is_cancelled, "{} was cancelled", frame.id);
            }
            _ => {}
        }
    }

    fn on_delivered_up(&mut self, frame: &Frame) {
        match frame.kind {
            REQUEST => drop(self.delivered.insert(frame.id)),
            WINDOW => self.down.on_window(frame),
            HELLO => self.down.on_hello(),
            _ => {}
        }
    }

    fn on_sent_down(&mut self, frame: &Frame) {
        match frame.kind {
            DATA | REPLY => {
                assert!(self.delivered.contains(&frame.id), "{} was never asked", frame.id);
                let call = self.calls.get_mut(&frame.id).expect("a call that was made");
                let is_twice = self.twice == Some(frame.id);
                assert!(call.replies == 0 || is_twice, "{} was answered before", frame.id);
                if frame.kind == DATA {
                    self.down.on_data(frame);
                } else {
                    call.replies += 1;
                }
            }
            WINDOW if frame.id != 0 && self.twice != Some(frame.id) => {
                assert_eq!(self.calls[&frame.id].replies, 0, "credit for {}, which was answered", frame.id);
            }
            _ => {}
        }
    }

    fn on_delivered_down(&mut self, frame: &Frame) {
        match frame.kind {
            WINDOW => self.up.on_window(frame),
            HELLO => self.up.on_hello(),
            _ => {}
        }
    }

    /// Nothing is in flight, and every message was taken or dropped: every call has its reply, and no window has less
    /// than half of its bytes.
    pub fn assert_all_answered(&self) {
        for (id, call) in &self.calls {
            assert_eq!(call.replies, 1, "the replies to {id}");
        }
        for (name, credit) in [("up", &self.up), ("down", &self.down)] {
            let (left, window) = (credit.connection, i64::from(credit.grant.connection));
            assert!(left >= window / 2, "{name}: {left} bytes are left of the connection's window");
            assert!(left <= window, "{name}: {left} bytes were returned more than once");
        }
    }
}

/// One direction.
struct Direction {
    held: VecDeque<u8>,
    sent: Scanner,
    delivered: Scanner,
    /// Said for the source.
    hello: Option<Hello>,
    /// The bytes that were put into `held` and taken from it.
    held_total: u64,
    passed_total: u64,
    /// The source has ended, and its end was passed on.
    has_ended: bool,
    is_passed_on: bool,
}

impl Direction {
    fn new(grant: Grant) -> Direction {
        let hello = grant.is_hello.then(|| Hello { grant, dropped: BTreeSet::new() });
        let held: VecDeque<u8> =
            hello.as_ref().map_or_else(VecDeque::new, |hello| hello.grant.hello().into());
        Direction {
            held_total: held.len() as u64,
            held,
            sent: Scanner::default(),
            delivered: Scanner::default(),
            hello,
            passed_total: 0,
            has_ended: false,
            is_passed_on: false,
        }
    }

    /// Moves at most `read_max` bytes in and `write_max` bytes out; false if the connection is lost.
    fn step(
        &mut self,
        from: &mut BlockingTransport,
        to: &mut BlockingTransport,
        (read_max, write_max): (usize, usize),
        mut fault: Option<&mut FrameFault>,
        mut on_sent: impl FnMut(Frame, bool),
        mut on_delivered: impl FnMut(Frame),
    ) -> bool {
        let mut bytes = vec![0; read_max];
        if !self.has_ended && read_max > 0 {
            match from.read(&mut bytes) {
                Ok(0) => self.has_ended = true,
                Ok(n) if self.hello.is_none() && fault.is_none() => {
                    self.sent.feed(&bytes[..n], |frame, _| on_sent(frame, false));
                    self.held.extend(&bytes[..n]);
                    self.held_total += n as u64;
                }
                Ok(n) => self.sent.feed(&bytes[..n], |frame, bytes| {
                    let mut is_twice = false;
                    if !self.hello.as_mut().is_some_and(|hello| hello.drops(&frame)) {
                        let may_repeat = matches!(frame.kind, REQUEST | REPLY | CANCEL);
                        is_twice = fault
                            .as_mut()
                            .is_some_and(|fault| fault.on_frame(self.held_total, bytes.len(), may_repeat));
                        for _ in 0..1 + usize::from(is_twice) {
                            self.held.extend(bytes);
                            self.held_total += bytes.len() as u64;
                        }
                    }
                    on_sent(frame, is_twice);
                }),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        let (limit, is_lost_there) = fault.map_or((u64::MAX, false), |fault| {
            fault.step();
            fault.limit()
        });
        let (front, _) = self.held.as_slices();
        let until_limit = usize::try_from(limit - self.passed_total).unwrap_or(usize::MAX);
        let front = &front[..front.len().min(write_max).min(until_limit)];
        if !front.is_empty() && !self.is_passed_on {
            match to.write(front) {
                Ok(n) => {
                    self.delivered.feed(&front[..n], |frame, _| on_delivered(frame));
                    self.held.drain(..n);
                    self.passed_total += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        if is_lost_there && self.passed_total == limit {
            return false;
        }
        if self.has_ended && self.held.is_empty() && !self.is_passed_on {
            self.is_passed_on = true;
            to.shutdown_write();
        }
        true
    }
}

/// The bytes between a client and a server.
pub struct Relay {
    /// Absent once the connection is lost.
    ends: Option<(BlockingTransport, BlockingTransport)>,
    up: Direction,
    down: Direction,
    /// What the relay keeps of each direction before it reads no more.
    held_max: usize,
    /// Nothing passes any more, and the connection does not end.
    is_silent: bool,
    /// What happens to one of the frames.
    fault: Option<FrameFault>,
    pub observer: Observer,
    /// Bytes that have passed, and their checksum: the same in each run of a seed.
    pub passed: u64,
}

impl Relay {
    /// Carries the bytes between these ends, with what the client and the server grant to each other.
    pub fn new(
        client: BlockingTransport,
        server: BlockingTransport,
        held_max: usize,
        [client_grant, server_grant]: [Grant; 2],
    ) -> Relay {
        Relay {
            ends: Some((client, server)),
            up: Direction::new(client_grant),
            down: Direction::new(server_grant),
            held_max,
            is_silent: false,
            fault: None,
            observer: Observer {
                up: Credit::new(server_grant),
                down: Credit::new(client_grant),
                calls: BTreeMap::new(),
                delivered: BTreeSet::new(),
                twice: None,
            },
            passed: 0,
        }
    }

    /// Has a fault happen to a frame that is sent from now on.
    pub fn set_fault(&mut self, fault: FrameFault) {
        let is_whole = |direction: &Direction| direction.sent.bytes.is_empty();
        assert!(is_whole(&self.up) && is_whole(&self.down), "a fault begins between two frames");
        self.fault = Some(fault);
    }

    pub fn is_lost(&self) -> bool {
        self.ends.is_none()
    }

    /// Loses the connection: what was not delivered is gone.
    pub fn lose(&mut self) {
        self.ends = None;
    }

    /// Carries nothing from now on. The ends see an open connection.
    pub fn fall_silent(&mut self) {
        self.is_silent = true;
    }

    /// Returns whether nothing passes any more.
    pub fn is_cut(&self) -> bool {
        self.is_lost() || self.is_silent
    }

    /// Ends the client's direction for the server, after what was delivered.
    pub fn close_half(&mut self) {
        if let Some((_, server)) = &mut self.ends {
            server.shutdown_write();
            (self.up.has_ended, self.up.is_passed_on) = (true, true);
            self.up.held.clear();
        }
    }

    /// Delivers a random part of what there is, or everything.
    pub fn step(&mut self, rng: Option<&mut Rng>) {
        let Some((client, server)) = &mut self.ends else { return };
        if self.is_silent {
            return;
        }
        let mut portions = [(64 << 10, usize::MAX); 2];
        if let Some(rng) = rng {
            for (portion, held) in portions.iter_mut().zip([self.up.held.len(), self.down.held.len()]) {
                let most = [40, 2_000, 100_000][rng.below(3)];
                let read_max = if held < self.held_max { 1 + rng.below(most) } else { 0 };
                *portion = (read_max, rng.below(most));
            }
        }
        let observer = &mut self.observer;
        let passed = &mut self.passed;
        let mut note = |frame: &Frame| {
            *passed = passed
                .wrapping_mul(31)
                .wrapping_add(frame.id ^ frame.frame_bytes as u64 ^ u64::from(frame.kind));
        };
        // The two closures of a step share the observer, one after the other.
        let mut frames = Vec::new();
        let mut delivered = Vec::new();
        let mut twice = None;
        let mut on_sent = |frame: Frame, is_twice: bool| {
            twice = twice.or(is_twice.then_some(frame.id));
            frames.push(frame);
        };
        let mut fault = self.fault.as_mut();
        let of_up = fault.as_deref_mut().filter(|fault| fault.is_up);
        let up = self.up.step(client, server, portions[0], of_up, &mut on_sent, |f| delivered.push(f));
        observer.twice = observer.twice.or(twice);
        frames.iter().for_each(|frame| observer.on_sent_up(frame));
        delivered.iter().for_each(|frame| observer.on_delivered_up(frame));
        frames.iter().for_each(&mut note);
        frames.clear();
        delivered.clear();
        let of_down = fault.filter(|fault| !fault.is_up);
        let mut on_sent = |frame: Frame, is_twice: bool| {
            observer.twice = observer.twice.or(is_twice.then_some(frame.id));
            frames.push(frame);
        };
        let down = self.down.step(server, client, portions[1], of_down, &mut on_sent, |f| delivered.push(f));
        frames.iter().for_each(|frame| observer.on_sent_down(frame));
        delivered.iter().for_each(|frame| observer.on_delivered_down(frame));
        frames.iter().for_each(&mut note);
        if !up || !down {
            self.ends = None;
        }
    }

    /// Returns the bytes that are on their way up and down, and whether each direction has ended.
    pub fn held(&self) -> [(usize, bool); 2] {
        [&self.up, &self.down].map(|direction| (direction.held.len(), direction.has_ended))
    }

    /// Returns whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.is_cut() || self.up.held.is_empty() && self.down.held.is_empty()
    }
}
