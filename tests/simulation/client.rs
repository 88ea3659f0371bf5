//! The client's end of the simulation: it sends requests, cancellations, pings and invalid frames, and tracks the
//! answers that are outstanding.

use std::collections::{HashMap, HashSet};

use coreloop::bufpool::{Pool, PoolConfig, RecvBuf, WriteQueue};
use coreloop::message::{Message, MetadataBuf, Outgoing, OutgoingCall, SendBody};
use coreloop::status::Code;
use coreloop::wire::native::request_header;
use coreloop::wire::{NativeClient, Out, Protocol, Received};

use crate::pipe::{Pipe, Read};
use crate::rng::Rng;
use crate::server::{LATER, NEVER, NOW};

/// A request, and where in the stream it ends.
struct SentRequest {
    ends_at: usize,
    one_way: bool,
    body_len: usize,
    /// The answer must have a code other than ok.
    is_refused: bool,
}

pub struct Client {
    protocol: NativeClient,
    pub pool: Pool,
    recv: RecvBuf,
    out: WriteQueue,
    requests: HashMap<u64, SentRequest>,
    pub answered: HashSet<u64>,
    next_id: u64,
    pings: Vec<usize>,
    pub pongs: usize,
    /// All readable bytes have been read.
    pub is_at_end: bool,
    pub has_drain_notice: bool,
    pub is_hung_up: bool,
    /// The client has sent something after which the stream cannot be trusted.
    pub is_at_fault: bool,
}

impl Client {
    pub fn new(frame_bytes_max: usize) -> Client {
        Client {
            protocol: NativeClient::new(frame_bytes_max),
            pool: Pool::new(PoolConfig::default()),
            recv: RecvBuf::new(),
            out: WriteQueue::new(),
            requests: HashMap::new(),
            answered: HashSet::new(),
            next_id: 0,
            pings: Vec::new(),
            pongs: 0,
            is_at_end: false,
            has_drain_notice: false,
            is_hung_up: false,
            is_at_fault: false,
        }
    }

    fn send(&mut self, outgoing: Outgoing<'_>) {
        self.protocol.send(outgoing, &mut Out { queue: &mut self.out, pool: &mut self.pool });
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out.put(&mut self.pool, bytes);
    }

    fn new_id(&mut self, rng: &mut Rng) -> u64 {
        self.next_id += 1 + rng.below(3) as u64;
        self.next_id
    }

    fn end_of_queue(&self, written: usize) -> usize {
        written + self.out.len()
    }

    pub fn send_request(&mut self, rng: &mut Rng, frame_bytes_max: usize, up: &Pipe) {
        let id = self.new_id(rng);
        let method = match rng.below(10) {
            0..4 => NOW,
            4..8 => LATER,
            8 => NEVER,
            _ => 77,
        };
        let body_len = match rng.below(30) {
            0 => frame_bytes_max,
            1..4 => rng.below(20_000.min(frame_bytes_max)),
            _ => rng.below(200),
        };
        let mut metadata = MetadataBuf::new();
        if rng.one_in(4) {
            metadata.push("b3", b"1").unwrap();
        }
        let body = vec![id as u8; body_len];
        let one_way = rng.one_in(10);
        let time_left_us = if rng.one_in(6) { 1 + rng.below(50_000) as u32 } else { 0 };
        let call = OutgoingCall {
            name: "",
            id,
            method,
            codec: 0,
            compressed: false,
            one_way,
            schema: 0,
            time_left_us,
            metadata: metadata.as_bytes(),
            body: SendBody::Bytes(&body),
        };
        self.send(Outgoing::Request(call));
        let is_refused = method == 77;
        self.track(id, one_way, body_len, is_refused, up);
    }

    fn track(&mut self, id: u64, one_way: bool, body_len: usize, is_refused: bool, up: &Pipe) {
        let ends_at = self.end_of_queue(up.total);
        self.requests.insert(id, SentRequest { ends_at, one_way, body_len, is_refused });
    }

    /// Sends a request that is refused but whose end is known: the connection stays open.
    pub fn send_refused(&mut self, rng: &mut Rng, frame_bytes_max: usize, up: &Pipe) {
        let id = self.new_id(rng);
        let mut frame = request(id);
        match rng.below(4) {
            0 => frame[3] = 13,
            1 => frame[5] = 0x80,
            2 => frame[6] = 3,
            _ => frame[28..32]
                .copy_from_slice(&(frame_bytes_max as u32 + 1 + rng.below(300) as u32).to_le_bytes()),
        }
        let metadata_len = usize::from(frame[6]);
        let body_len = u32::from_le_bytes([frame[28], frame[29], frame[30], frame[31]]) as usize;
        self.put(&frame);
        self.put(&vec![0x19; metadata_len + body_len]);
        // The server answers as soon as the header has arrived.
        self.track(id, false, 0, true, up);
    }

    /// Sends a frame after which the stream cannot be trusted.
    pub fn send_broken(&mut self, rng: &mut Rng, up: &Pipe) {
        self.is_at_fault = true;
        let id = self.new_id(rng);
        let mut frame = request(id);
        match rng.below(4) {
            0 => frame[0] = 0x47,
            1 => frame[2] = 2,
            2 => frame[3] = 1,
            _ => frame[28..32].fill(0xff),
        }
        self.put(&frame);
        if frame[0] == 0x19 {
            self.track(id, false, 0, true, up);
        }
    }

    pub fn cancel(&mut self, rng: &mut Rng) {
        let waiting: Vec<u64> =
            self.requests.keys().copied().filter(|id| !self.answered.contains(id)).collect();
        // Chosen by order, since the order of a hash map does not depend on the seed.
        if let Some(id) = waiting.iter().max().map(|max| max - (rng.below(4) as u64).min(*max)) {
            self.send(Outgoing::Cancel { id });
        }
    }

    pub fn ping(&mut self, up: &Pipe) {
        self.send(Outgoing::Ping { id: 1 << 60 });
        let ends_at = self.end_of_queue(up.total);
        self.pings.push(ends_at);
    }

    pub fn write(&mut self, rng: &mut Rng, up: &mut Pipe) {
        while let Some(first) = self.out.first() {
            if up.is_reset || up.is_closed {
                self.out.clear(&mut self.pool);
                return;
            }
            let short = 1 + rng.below(first.len());
            let n = up.write(&first[..short]);
            if n == 0 {
                return;
            }
            self.out.written(&mut self.pool, n);
        }
        if self.is_hung_up {
            up.is_closed = true;
        }
    }

    /// Reads a few bytes; every answer must be outstanding.
    pub fn read(&mut self, rng: &mut Rng, down: &mut Pipe) {
        if self.is_at_end {
            return;
        }
        let space = self.recv.space(&mut self.pool, 4096);
        let short = 1 + rng.below(space.len());
        match down.read(&mut space[..short]) {
            Read::Bytes(n) => self.recv.filled(n),
            Read::Nothing => {}
            Read::End | Read::Reset => self.is_at_end = true,
        }
        loop {
            match self
                .protocol
                .receive(self.recv.bytes(), &mut Out { queue: &mut self.out, pool: &mut self.pool })
            {
                Received::Message { message, consumed } => {
                    self.on_message(message);
                    self.recv.consume(consumed);
                }
                Received::Skip { consumed } => self.recv.consume(consumed),
                Received::NeedMore { .. } => break,
                Received::End => unreachable!("the native protocol has no last word"),
                Received::Broken(why) => panic!("the server's bytes are broken: {why}"),
            }
        }
        self.recv.settle(&mut self.pool, 0);
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Reply(reply) => {
                let request =
                    self.requests.get(&reply.id).unwrap_or_else(|| panic!("{} was never asked", reply.id));
                assert!(!request.one_way, "{} wanted no answer", reply.id);
                assert!(self.answered.insert(reply.id), "{} was answered twice", reply.id);
                if reply.status == Code::Ok.number() {
                    let body = &self.recv.bytes()[reply.body.range()];
                    assert!(!request.is_refused, "{} cannot have been run", reply.id);
                    assert_eq!(body.len(), request.body_len, "the answer to {}", reply.id);
                    assert!(body.iter().all(|byte| *byte == reply.id as u8), "the answer to {}", reply.id);
                }
            }
            Message::Pong { id } => {
                assert_eq!(id, 1 << 60);
                self.pongs += 1;
            }
            Message::Drain => self.has_drain_notice = true,
            other => panic!("not for a client: {other:?}"),
        }
    }

    /// Returns the requests that were sent completely and expect an answer.
    pub fn outstanding(&self, written: usize) -> impl Iterator<Item = u64> {
        self.requests
            .iter()
            .filter(move |(_, request)| !request.one_way && request.ends_at <= written)
            .map(|(id, _)| *id)
    }

    /// Returns the number of pings that were sent completely.
    pub fn pings_sent(&self, written: usize) -> usize {
        self.pings.iter().filter(|ends_at| **ends_at <= written).count()
    }

    pub fn has_to_write(&self) -> bool {
        !self.out.is_empty()
    }

    pub fn assert_all_returned(&mut self) {
        self.out.clear(&mut self.pool);
        self.recv.clear(&mut self.pool);
        self.pool.collect();
        assert_eq!(self.pool.stats().outstanding, 0, "a buffer of the client is not home");
    }
}

fn request(id: u64) -> [u8; 32] {
    request_header(&OutgoingCall {
        name: "",
        id,
        method: NOW,
        codec: 0,
        compressed: false,
        one_way: false,
        schema: 0,
        time_left_us: 0,
        metadata: &[],
        body: SendBody::Bytes(&[]),
    })
}
