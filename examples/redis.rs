//! PING, SET, GET and DEL of the Redis protocol, on the bare reactor: `redis [ADDR]`. Data is never evicted.
use std::collections::HashMap;

use coreloop::Peer;
use coreloop::protocol::{Out, Protocol, Received};
use coreloop::reactor::Key;
use coreloop::reactor::{App, ConnCx, Reactor, ReactorConfig};
use coreloop::signals;

const COMMAND_BYTES_MAX: usize = 16 << 20;
const LINE_BYTES_MAX: usize = 4096;
const WORDS_MAX: usize = 1024;
type Words = Vec<Vec<u8>>;
const WRONG: Received<Words> = Received::Message { message: Vec::new(), consumed: 1 };

struct Resp;
impl Protocol for Resp {
    type Message = Words;
    type Outgoing<'a> = Vec<u8>;
    fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<Words> {
        command(input).unwrap_or_else(|stop| stop)
    }
    fn send(&mut self, answer: Vec<u8>, out: &mut Out<'_>) {
        out.link(answer.into());
    }
}

/// Parses `*2\r
/// $3\r
/// GET\r
/// $1\r
/// k\r
/// `, or words on a line. Words are copied only once all of them are there.
fn command(input: &[u8]) -> Result<Received<Words>, Received<Words>> {
    let (head, mut at) = line(input, 0)?;
    let mut words: Vec<&[u8]> = head.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).collect();
    if head.starts_with(b"*") {
        words.clear();
        for _ in 0..number(head, b"*", WORDS_MAX)? {
            let (head, start) = line(input, at)?;
            let len = number(head, b"$", COMMAND_BYTES_MAX.saturating_sub(start))?;
            at = start + len + 2;
            let word = input.get(start..at).ok_or(Received::NeedMore { bytes_min: at })?;
            words.push(word.strip_suffix(b"\r\n").ok_or(WRONG)?);
        }
    }
    Ok(Received::Message { message: words.into_iter().map(<[u8]>::to_vec).collect(), consumed: at })
}

/// Returns the line at `at`, and the position of the next one.
fn line(input: &[u8], at: usize) -> Result<(&[u8], usize), Received<Words>> {
    match input[at..].iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') {
        Some(len) => Ok((input[at..at + len].trim_ascii_end(), at + len + 1)),
        None if input.len() - at >= LINE_BYTES_MAX => Err(WRONG),
        None => Err(Received::NeedMore { bytes_min: input.len() + 1 }),
    }
}

fn number(line: &[u8], sign: &[u8], max: usize) -> Result<usize, Received<Words>> {
    let digits = line.strip_prefix(sign).and_then(|digits| str::from_utf8(digits).ok());
    digits
        .filter(|digits| !digits.starts_with('+'))
        .and_then(|digits| digits.parse().ok())
        .filter(|number| *number <= max)
        .ok_or(WRONG)
}

struct Redis(HashMap<Vec<u8>, Vec<u8>>);
impl App for Redis {
    type Protocol = Resp;
    type Session = ();
    type Mail = ();
    fn open(&mut self, _key: Key, _peer: Peer, _listener: usize) -> (Resp, ()) {
        (Resp, ())
    }
    fn on_message(&mut self, cx: &mut ConnCx<'_, Self>, mut words: Words) {
        words.iter_mut().take(1).for_each(|name| name.make_ascii_uppercase());
        let bulk = |bytes: &[u8]| [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        let answer = match words.iter().map(Vec::as_slice).collect::<Vec<_>>()[..] {
            [b"PING"] => b"+PONG\r\n".to_vec(),
            [b"PING", text] => bulk(text),
            [b"GET", key] => self.0.get(key).map_or(b"$-1\r\n".to_vec(), |value| bulk(value)),
            [b"SET", key, value] => {
                self.0.insert(key.to_vec(), value.to_vec());
                b"+OK\r\n".to_vec()
            }
            [b"DEL", key] => self.0.remove(key).map_or(b":0\r\n", |_| b":1\r\n").to_vec(),
            [b"CONFIG", b"GET", key] => [b"*2\r\n", &bulk(key)[..], b"$0\r\n\r\n"].concat(),
            [b"COMMAND", ..] => b"*0\r\n".to_vec(),
            [] => b"-ERR Protocol error\r\n".to_vec(),
            _ => b"-ERR unknown command, or a wrong number of arguments\r\n".to_vec(),
        };
        cx.send(answer);
        if words.is_empty() {
            cx.close();
        }
    }
}

fn main() -> std::io::Result<()> {
    let mut reactor = Reactor::new(Redis(HashMap::new()), ReactorConfig::default())?;
    let remote = reactor.remote();
    let _signals = signals::on_stop(move |_| remote.drain())?;
    println!("listening on {}", reactor.listen(&std::env::args().nth(1).unwrap_or("127.0.0.1:6379".into()))?);
    reactor.run()
}
