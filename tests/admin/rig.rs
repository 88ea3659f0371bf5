//! A server with an admin listener, and requests to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use coreloop::server::ServerBuilder;
use coreloop::service::{Kind, Method};
use coreloop::{Context, Server, Sink, Status};
use serde_json::Value;

/// A gate that handlers wait at.
#[derive(Default)]
pub struct Door {
    is_open: Mutex<bool>,
    changed: Condvar,
}

impl Door {
    pub fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut is_open = self.is_open.lock().unwrap();
        while !*is_open {
            is_open = self.changed.wait(is_open).unwrap();
        }
    }
}

pub struct Rig {
    pub server: Server,
    pub door: Arc<Door>,
}

/// Opens the door when a test ends, also by a panic: handlers that wait at it would hold up the end of the server.
impl Drop for Rig {
    fn drop(&mut self) {
        self.door.open();
    }
}

/// A server with one reactor and one worker: methods that wait at a door, and ones that do not.
pub fn rig(change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Rig {
    let door = Arc::new(Door::default());
    let (inline, pooled, blocking) = (door.clone(), door.clone(), door.clone());
    let stream = Method::server_stream::<coreloop::codec::Plain<i64>, coreloop::codec::Plain<i64>>(
        "Slow.Stream",
        |cx, count, sink: Sink<i64>| {
            (0..count).try_for_each(|number| sink.send(&number))?;
            cx.sleep(Duration::from_secs(600))?;
            Ok(())
        },
    );
    let sum = Method::client_stream::<coreloop::codec::Plain<i64>, coreloop::codec::Plain<i64>>(
        "Many.Sum",
        |_cx, numbers| numbers.sum(),
    );
    let builder = coreloop::demo::services(Server::builder())
        .method_of_kind("Slow.Inline", Kind::Inline, move |_: &Context<'_>, ()| {
            inline.pass();
            Ok::<_, Status>(())
        })
        .method_of_kind("Slow.Pooled", Kind::Pooled, move |_: &Context<'_>, ()| {
            pooled.pass();
            Ok::<_, Status>(())
        })
        .method_of_kind("Slow.Blocking", Kind::Blocking, move |_: &Context<'_>, ()| {
            blocking.pass();
            Ok::<_, Status>(())
        })
        .method_of_kind("Slow.Sleep", Kind::Blocking, |cx: &Context<'_>, ()| {
            cx.sleep(Duration::from_secs(600))
        })
        .method_of(stream.unwrap().kind(Kind::Blocking))
        .method_of(sum.unwrap().kind(Kind::Blocking))
        .cores(1)
        .workers(1)
        .configure(|config| config.admin.listen = "127.0.0.1:0".to_owned())
        .listen("127.0.0.1:0");
    Rig { server: change(builder).start().unwrap(), door }
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Rig {
    pub fn admin(&self) -> String {
        self.server.admin_address().unwrap().to_string()
    }

    pub fn get(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        request(&self.admin(), "GET", path, fields, "")
    }

    pub fn post(&self, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        request(&self.admin(), "POST", path, fields, body)
    }

    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path, &[("Accept", "application/json")]);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }
}

/// Sends a request, and reads the whole response.
pub fn request(address: &str, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = BufReader::new(open(address, method, path, fields, body));
    let head = head(&mut stream);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: String::new() };
    if answer.header("transfer-encoding") == Some("chunked") {
        while let Some(chunk) = chunk(&mut stream) {
            answer.body += &chunk;
        }
    } else {
        stream.read_to_string(&mut answer.body).unwrap();
    }
    answer
}

/// Sends a request.
pub fn open(address: &str, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut text =
        format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !fields.iter().any(|(name, _)| *name == "Host") {
        text += &format!("Host: {address}\r\n");
    }
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
    stream
}

/// Reads a head.
pub fn head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "the connection closed after {head:?}");
    }
    head
}

/// Reads a chunk; `None` is the end of the body.
pub fn chunk(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut size = String::new();
    assert_ne!(stream.read_line(&mut size).unwrap(), 0, "the body is incomplete");
    let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
    let mut bytes = vec![0; size + 2];
    stream.read_exact(&mut bytes).unwrap();
    bytes.truncate(size);
    (size > 0).then(|| String::from_utf8(bytes).unwrap())
}
