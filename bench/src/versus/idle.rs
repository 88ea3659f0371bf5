//! Measures the server's memory per idle connection: opens many, uses each once, and leaves them idle.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::Bench;
use super::subjects::{ADD_FIXED, Subject};
use crate::frame::{self, Next};
use crate::process;
use crate::request::Request;
use crate::table::Table;

const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Lets the server end its turn (release buffers) before its memory is read.
const SETTLE: Duration = Duration::from_millis(300);

pub fn run(bench: &Bench<'_>, subjects: &[&Subject], connections: u32) -> Result<(), String> {
    let heading = format!("{connections} idle connections");
    let mut table = Table::new(&[
        &heading,
        "bytes each, once open",
        "after a call on each",
        "of which own",
        "resident KiB",
    ]);
    // The pooled and the inline server are the same process here: without calls there is no difference.
    for subject in subjects.iter().filter(|subject| subject.call == ADD_FIXED) {
        let server = bench.start(subject)?;
        let request = Request::new("Arith.AddFixed", "fixed", None, None)?;
        let memory = || {
            thread::sleep(SETTLE);
            process::resident_kib(server.pid()).map_err(|error| error.to_string())
        };
        let open = || TcpStream::connect(server.address).map_err(|error| format!("connecting: {error}"));
        // The first connection includes what the server sets up once.
        let mut first = open()?;
        call(&mut first, &request)?;
        let before = memory()?;
        let mut streams = Vec::with_capacity(connections as usize);
        for _ in 0..connections {
            streams.push(open()?);
        }
        // An answer to this call means that the server has accepted all connections before it.
        call(&mut first, &request)?;
        let opened = memory()?;
        for stream in &mut streams {
            call(stream, &request)?;
        }
        let used = memory()?;
        let each = |now: u64, before: u64| {
            format!("{:.0}", now.saturating_sub(before) as f64 * 1024.0 / f64::from(connections))
        };
        table.row(vec![
            subject.name.into(),
            each(opened.0, before.0),
            each(used.0, before.0),
            each(used.1, before.1),
            used.0.to_string(),
        ]);
    }
    print!("{}", table.render());
    Ok(())
}

fn call(stream: &mut TcpStream, request: &Request) -> Result<(), String> {
    let error_text = |error: std::io::Error| format!("a call on an idle connection: {error}");
    stream.set_read_timeout(Some(ANSWER_WAIT)).map_err(error_text)?;
    let mut bytes = Vec::new();
    request.append(1, &mut bytes);
    stream.write_all(&bytes).map_err(error_text)?;
    bytes.clear();
    loop {
        if let Next::Frame { header, body, .. } = frame::next(&bytes) {
            return request.verdict(&header, body);
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).map_err(error_text)? {
            0 => return Err("the server closed an idle connection".into()),
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}
