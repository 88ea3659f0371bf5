//! Calls of the shared client: arguments in, results out, with the reactor's turns in between on the same thread. The
//! server is a Unix socket that answers outside of the counted part. With `x16`, sixteen calls are sent together; the
//! figure is for one call.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use coreloop::Server;
use coreloop::client::{Client, Driver, InFlight};
use coreloop::codec::Codec;
use coreloop::server::DetachedServer;

use super::Case;
use crate::meter::uncounted;

/// A request of the native protocol, as far as this server looks: header and body.
const REQUEST_BYTES: usize = 32 + 16;
const METHOD: &str = "Arith.AddFixed";

pub(super) fn add(cases: &mut Vec<Case>) {
    for depth in [1_usize, 16] {
        let case = Case::new(format!("client/native/x{depth}"), move || {
            let mut rig = ClientRig::new();
            let argument = [6_i64.to_le_bytes(), 7_i64.to_le_bytes()].concat();
            move || {
                let calls: Vec<InFlight<Vec<u8>>> = if depth == 1 {
                    vec![rig.client.start_bytes(METHOD, Codec::Fixed, &argument)]
                } else {
                    let batch = rig.client.batch();
                    let calls =
                        (0..depth).map(|_| batch.start_bytes(METHOD, Codec::Fixed, &argument)).collect();
                    batch.send();
                    calls
                };
                rig.turn();
                uncounted(|| rig.answer(depth));
                rig.turn();
                for mut call in calls {
                    let result = call.try_take().expect("the reply was read").expect("the server succeeds");
                    assert_eq!(result, 13_i64.to_le_bytes());
                }
            }
        });
        cases.push(case.operations(depth as u64));
    }
}

/// A client on a reactor that this thread drives, and the server's end of its connection.
struct ClientRig {
    server: DetachedServer,
    client: Client,
    peer: UnixStream,
    now: Instant,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl ClientRig {
    fn new() -> ClientRig {
        let mut server =
            DetachedServer::without_threads(Server::builder()).expect("a server without methods");
        let path = std::env::temp_dir().join(format!("coreloop-counts-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("the folder for temporary files takes sockets");
        let driver = Driver::on(&server.roles()).expect("the reactor takes a role");
        let address = format!("unix:{}", path.display());
        let client = Client::builder(&address).on(&driver).build().expect("the address is valid");
        let mut ready = client.ready();
        while !ready.is_done() {
            server.turn_at(Instant::now()).expect("the poller works");
        }
        ready.try_take().expect("it is done").expect("the listener takes a connection");
        let (peer, _) = listener.accept().expect("a connection waits");
        let _ = std::fs::remove_file(&path);
        peer.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        ClientRig { server, client, peer, now: Instant::now(), input: Vec::new(), output: Vec::new() }
    }

    /// Runs a turn at a time that does not move, so that no timer is due.
    fn turn(&mut self) {
        self.server.turn_at(self.now).expect("the poller works");
    }

    /// Reads that many requests and answers them: the same id, no metadata, thirteen.
    fn answer(&mut self, requests: usize) {
        self.input.resize(requests * REQUEST_BYTES, 0);
        self.peer.read_exact(&mut self.input).expect("the requests were written");
        self.output.clear();
        for request in self.input.chunks(REQUEST_BYTES) {
            // Magic, version, kind 1 (reply), codec, no flags and metadata; the id; ok, no times; the body's length.
            self.output.extend_from_slice(&request[..3]);
            self.output.extend_from_slice(&[1, request[4], 0, 0, 0]);
            self.output.extend_from_slice(&request[8..16]);
            self.output.extend_from_slice(&[0; 12]);
            self.output.extend_from_slice(&8_u32.to_le_bytes());
            self.output.extend_from_slice(&13_i64.to_le_bytes());
        }
        self.peer.write_all(&self.output).expect("a socket takes so few bytes");
    }
}
