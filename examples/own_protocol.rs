//! A protocol of the program's own beside the others on one port: `own_protocol [ADDR]`. It serves until SIGTERM or
//! Ctrl-C.
//!
//! Each line is a call, and each answer a line with the caller's number:
//!
//! ```text
//! $ nc 127.0.0.1 PORT
//! call 1 Math.Double 21
//! 1 ok 42
//! call 2 Math.Double "x"
//! 2 invalid_argument argument of Math.Double: malformed json body: …
//! ```
//!
//! Answers come in the order in which the calls end. Native frames, HTTP and the other protocols are served on the same
//! port.

use std::error::Error;
use std::sync::Arc;

use coreloop::codec::Codec;
use coreloop::protocol::{
    AddedProtocol, Broken, DrainNotice, Message, Out, Outgoing, Protocol, Received, Refusal, Request,
    SendBody, ServerContext, Span, method_hash,
};
use coreloop::signals;
use coreloop::{Code, Context, Server, Status};

struct Math;

#[coreloop::service]
impl Math {
    #[rpc(inline)]
    fn double(&self, _cx: &Context, number: i64) -> Result<i64, Status> {
        Ok(number.wrapping_mul(2))
    }
}

/// The server's end of one connection. It has no state: a line is a call.
struct Lines {
    context: Arc<ServerContext>,
}

/// Reads `call ID Service.Method JSON`; `None` if the line has another form.
fn read(line: &[u8]) -> Option<Request> {
    let text = std::str::from_utf8(line).ok()?;
    let (id, rest) = text.strip_prefix("call ")?.split_once(' ')?;
    let (method, argument) = rest.split_once(' ')?;
    // Spans count from the start of the input.
    let body = Span::new((line.len() - argument.len()) as u32, argument.len() as u32);
    Some(Request {
        id: id.parse().ok()?,
        method: method_hash(method),
        name: None,
        codec: Codec::Json.number(),
        compressed: false,
        one_way: false,
        schema: 0,
        time_left_us: 0,
        metadata: Span::default(),
        body,
    })
}

impl Protocol for Lines {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<Message> {
        let bytes_max = self.context.limits.frame_bytes_max;
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
            if input.len() > bytes_max {
                return Received::Broken(Broken::TooLarge {
                    bytes: input.len() as u64,
                    bytes_max: bytes_max as u64,
                });
            }
            return Received::NeedMore { bytes_min: input.len() + 1 };
        };
        let message = match read(&input[..end]) {
            Some(request) => Message::Request(request),
            None => Message::Refused(Refusal {
                id: 0,
                codec: Codec::Json.number(),
                one_way: false,
                code: Code::InvalidArgument,
                message: "expected `call ID Service.Method JSON`".to_owned(),
            }),
        };
        Received::Message { message, consumed: end + 1 }
    }

    fn send(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        // The others are for streams and for pings, which these lines do not have.
        let Outgoing::Reply(reply) = outgoing else { return };
        let body = match &reply.body {
            SendBody::Bytes(bytes) => bytes,
            SendBody::Chunk(chunk) => &chunk[..],
        };
        out.put(format!("{} {} ", reply.id, reply.code.name()).as_bytes());
        // JSON has no line break outside of its white space; the text of an error may have one.
        let line: Vec<u8> = body.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
        out.put(&line);
        out.put(b"\n");
    }

    fn drain_notice(&self) -> DrainNotice {
        DrainNotice::None
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let lines = AddedProtocol::new("lines", &[b"call "], |context| Lines { context: context.clone() });
    let server = Server::builder().service(Math).protocol(lines).listen(&address).start()?;
    let stopper = server.stopper();
    let _signals = signals::on_stop(move |_signal| stopper.stop())?;
    println!("listening on {}", server.addresses()[0]);
    server.wait()?;
    Ok(())
}
