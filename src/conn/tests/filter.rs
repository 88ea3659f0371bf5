//! A filter between socket and protocol.

use super::*;

/// Records of a length and inverted bytes; sends a greeting once; a record of length 255 cannot be opened.
#[derive(Default)]
struct Turned {
    has_greeted: bool,
}

const TURN: u8 = 0x5a;

fn sealed(plain: &[u8]) -> Vec<u8> {
    plain
        .chunks(100)
        .flat_map(|part| [part.len() as u8].into_iter().chain(part.iter().map(|b| b ^ TURN)))
        .collect()
}

fn opened(mut sealed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while let [len, rest @ ..] = sealed {
        plain.extend(rest[..*len as usize].iter().map(|byte| byte ^ TURN));
        sealed = &rest[*len as usize..];
    }
    plain
}

impl Filter for Turned {
    fn open(&mut self, input: &[u8], plain: &mut Vec<u8>, answer: &mut Out<'_>) -> Result<usize, Broken> {
        if !std::mem::replace(&mut self.has_greeted, true) {
            answer.put(&sealed(b"hi"));
        }
        match input {
            [255, ..] => Err(Broken::Other("no such record".into())),
            [len, rest @ ..] if rest.len() >= *len as usize => {
                plain.extend(rest[..*len as usize].iter().map(|byte| byte ^ TURN));
                Ok(1 + *len as usize)
            }
            _ => Ok(0),
        }
    }

    fn seal(&mut self, plain: &[u8], out: &mut Out<'_>) {
        out.put(&sealed(plain));
    }
}

fn filtered() -> ConnBench<LineProtocol> {
    let mut bench = ConnBench::lines();
    let conn = Conn::new(LineProtocol::default(), bench.now).with_filter(Box::new(Turned::default()));
    bench.conn = conn;
    bench.at(1);
    bench
}

proptest! {
    #[test]
    fn a_filter_works_however_the_bytes_are_split(
        // No line begins with "skip", which the test protocol interprets.
        lines in proptest::collection::vec("[a-r]{0,150}", 1..10),
        steps in proptest::collection::vec(1..200usize, 1..10),
    ) {
        let mut bench = filtered();
        bench.limits.write_queue_high_bytes = 10_000;
        let stream = sealed((lines.join("\n") + "\n").as_bytes());
        let (mut received, mut sent, mut rest) = (Vec::new(), Vec::new(), &stream[..]);
        let mut steps = steps.iter().cycle();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*steps.next().unwrap()));
            for line in bench.hear_lines(piece) {
                bench.say(line.trim_end().as_bytes());
                received.push(line.trim_end().to_owned());
            }
            sent.extend(bench.write(*steps.next().unwrap()));
            rest = after;
        }
        sent.extend(bench.write(usize::MAX));
        prop_assert_eq!(&received, &lines);
        prop_assert_eq!(String::from_utf8(opened(&sent)).unwrap(), format!("hi{}\n", lines.join("\n")));
        bench.eof();
        bench.assert_closed(CloseReason::PeerClosed);
    }
}

#[test]
fn unwritten_sealed_bytes_count_against_the_limits() {
    let mut bench = filtered();
    bench.hear(&sealed(b"x\n"));
    bench.write(1000);
    for _ in 0..12 {
        bench.say(b"123456789");
        bench.write(0);
        bench.conn.to_write(&mut bench.pool);
        bench.conn.check(&bench.limits);
    }
    assert!(bench.conn.out_len() >= 100);
    assert!(!bench.conn.wants_read(), "sealed or not, it waits");
    bench.at(200);
    bench.say(b"");
    assert_eq!(bench.due_ms(), Some(301), "what is sent meanwhile is no progress");
}

#[test]
fn bytes_that_do_not_open_end_the_connection() {
    let mut bench = filtered();
    bench.hear(&sealed(b"one\n"));
    bench.hear(&[255]);
    bench.write(1000);
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    bench.limits.linger_bytes_max = usize::MAX;
    bench.conn.on_shutdown(bench.now, &bench.limits);
    for _ in 0..100 {
        bench.hear(&[255; 10_000]);
    }
    assert_eq!(bench.pool.stats().outstanding_bytes, 0);
    bench.eof();
    bench.assert_closed(CloseReason::Broken(Broken::Other("no such record".into())));
}
