//! Codecs that only some services have: the user's own, and protobuf for types with a message.

use coreloop::client::{CallError, Client, Direct};
use coreloop::codec::protobuf::{Lists, Protobuf};
use coreloop::codec::{Codec, Plain, UserCodec, UserCodecNumber};
use coreloop::demo::{Args, ArithClient, EchoClient, Pair, Quotient, User, UserMessage, UsersClient};
use coreloop::service::{Method, finish, refuse_argument};
use coreloop::{Code, Context, Reply, Server, Status};
use prost::Message;
use serde::{Deserialize, Serialize};

/// postcard's format after a byte that says so.
pub struct Marked;

impl UserCodec for Marked {
    const NUMBER: UserCodecNumber = UserCodecNumber::N64;
    const NAME: &'static str = "marked";
    type Error = String;

    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), String> {
        out.push(b'M');
        out.extend(postcard::to_allocvec(value).map_err(|error| error.to_string())?);
        Ok(())
    }

    fn decode<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, String> {
        match body {
            [b'M', rest @ ..] => postcard::from_bytes(rest).map_err(|error| error.to_string()),
            [b'!', ..] => panic!("a format with a fault"),
            _ => Err("expected M".to_owned()),
        }
    }
}

/// JSON with line breaks.
struct Pretty;

impl UserCodec for Pretty {
    const NUMBER: UserCodecNumber = UserCodecNumber::N127;
    const NAME: &'static str = "pretty";
    const IS_SELF_DESCRIBING: bool = true;
    type Error = serde_json::Error;

    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Self::Error> {
        serde_json::to_writer_pretty(out, value)
    }

    fn decode<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Self::Error> {
        serde_json::from_slice(body)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nested {
    inner: Option<Box<Nested>>,
}

/// A type that serde can only describe while it reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Number(i64),
    Text(String),
}

struct Both;

#[coreloop::service(codecs(Marked, Pretty))]
impl Both {
    fn add(&self, _cx: &Context, terms: Vec<i64>) -> Result<i64, Status> {
        Ok(terms.iter().sum())
    }

    #[rpc(inline)]
    fn ping(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    fn later(&self, _cx: &Context, text: String, reply: Reply<String>) {
        std::thread::spawn(move || reply.send(Ok(text + "!")));
    }

    fn depth(&self, _cx: &Context, nested: Nested) -> Result<u32, Status> {
        Ok(nested.inner.map_or(0, |_| 1))
    }

    fn either(&self, _cx: &Context, either: Either) -> Result<Either, Status> {
        Ok(either)
    }
}

struct Neither;

#[coreloop::service]
impl Neither {
    fn echo(&self, _cx: &Context, nested: Nested) -> Result<Nested, Status> {
        Ok(nested)
    }
}

fn serve() -> (Server, String) {
    let builder = Server::builder().service(Both).service(Neither);
    let server = builder.listen("127.0.0.1:0").start().unwrap();
    let address = server.addresses()[0].to_string();
    (server, address)
}

fn status_of(outcome: Result<Vec<u8>, CallError>) -> (Code, String) {
    match outcome {
        Err(CallError::Status(status)) => (status.code, status.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_clients_call_every_form_in_the_codecs_of_the_user() {
    let (_server, address) = serve();
    for codec in [Marked::CODEC, Pretty::CODEC] {
        let mut direct = Direct::connect(&address).unwrap();
        direct.set_codec(codec);
        let both = BothClient::new(direct);
        assert_eq!(both.add(&vec![1, 2, 39]).unwrap(), 42);
        both.ping().unwrap();
        assert_eq!(both.later(&"late".to_owned()).unwrap(), "late!");

        let client = Client::connect(&address).unwrap().with_codec(codec);
        let batch = client.batch();
        let in_batch = BothClient::new(&batch).add_start(&vec![5, 6]);
        batch.send();
        let both = BothClient::new(client);
        let (send, receive) = std::sync::mpsc::channel();
        both.add_then(&vec![3, 4], move |sum| send.send(sum.unwrap()).unwrap());
        assert_eq!(both.add_start(&vec![1, 2]).wait().unwrap(), 3);
        assert_eq!((receive.recv().unwrap(), in_batch.wait().unwrap()), (7, 11));
        both.add_one_way(&vec![1]).unwrap();
    }
}

#[test]
fn the_bytes_are_those_of_the_codec_and_the_list_of_methods_names_it() {
    let (_server, address) = serve();
    let direct = Direct::connect(&address).unwrap();
    assert_eq!(direct.call_bytes("Both.Add", Marked::CODEC, b"M\x02\x02\x04").unwrap(), b"M\x06");
    assert_eq!(direct.call_bytes("Both.Either", Pretty::CODEC, b"\n7").unwrap(), b"7");
    let list = direct.call_bytes("Meta.Methods", Codec::Json, b"\"Both\"").unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    let codecs = |name: &str| {
        let method = list.as_array().unwrap().iter().find(|method| method["Name"] == name).unwrap();
        serde_json::from_value::<Vec<String>>(method["Codecs"].clone()).unwrap()
    };
    let all = ["json", "gob", "compact", "messagepack", "protobuf", "marked", "pretty"];
    assert_eq!(codecs("Both.Add"), all);
    assert_eq!(codecs("Both.Either"), ["json", "messagepack", "pretty"]);
}

#[test]
fn bad_bodies_and_unknown_codecs_are_answered_and_the_connection_lives() {
    let (_server, address) = serve();
    let direct = Direct::connect(&address).unwrap();
    let call = |method: &str, codec: Codec, body: &[u8]| status_of(direct.call_bytes(method, codec, body));
    let (code, text) = call("Both.Add", Marked::CODEC, b"?");
    assert_eq!(
        (code, &*text),
        (Code::InvalidArgument, "argument of Both.Add: malformed user-64 body: expected M")
    );
    let (code, text) = call("Both.Add", Codec::User(UserCodecNumber::N65), b"M");
    assert_eq!(code, Code::Unimplemented);
    assert!(text.ends_with("protobuf, marked, pretty, not user-65"), "{text}");
    assert_eq!(call("Neither.Echo", Marked::CODEC, b"M\0").0, Code::Unimplemented);
    assert_eq!(call("Neither.Echo", Codec::Protobuf, b"").0, Code::Unimplemented);
    assert_eq!(call("Both.Either", Marked::CODEC, b"M\0").0, Code::Unimplemented);
    let (code, text) = call("Both.Add", Marked::CODEC, b"!");
    assert_eq!(code, Code::Internal, "{text}");
    // The format itself has no limit: a million levels would overflow the stack.
    let deep = [b"M", &[1; 1_000_000][..]].concat();
    let (code, text) = call("Both.Depth", Marked::CODEC, &deep);
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.contains("too deep: expected fewer than 128 levels"), "{text}");
    // 2^63 numbers are declared.
    let many = b"M\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
    assert_eq!(call("Both.Add", Marked::CODEC, many).0, Code::InvalidArgument);
    assert_eq!(direct.call_bytes("Both.Add", Marked::CODEC, b"M\x01\x02").unwrap(), b"M\x02");
}

/// The same service with another type for one method, as an older caller has it. Only its client is used.
#[allow(dead_code)]
mod older {
    use super::*;

    pub struct Both;

    #[coreloop::service(codecs(Marked, Pretty))]
    impl Both {
        fn add(&self, _cx: &Context, term: i64) -> Result<i64, Status> {
            Ok(term)
        }
    }
}

#[test]
fn another_type_is_found_out_by_the_fingerprint_or_by_the_codec() {
    let (_server, address) = serve();
    let code_of = |codec: Codec| {
        let client = Client::connect(&address).unwrap().with_codec(codec);
        older::BothClient::new(client).add(&7).unwrap_err().code()
    };
    assert_eq!(code_of(Marked::CODEC), Code::FailedPrecondition);
    assert_eq!(code_of(Pretty::CODEC), Code::InvalidArgument);
}

#[test]
fn the_demo_is_called_in_protobuf() {
    let server = coreloop::demo::services(Server::builder()).listen("127.0.0.1:0").start().unwrap();
    let address = server.addresses()[0].to_string();
    let direct = Direct::connect(&address).unwrap();
    let call = |method: &str, body: &[u8]| direct.call_bytes(method, Codec::Protobuf, body).unwrap();
    // Golden bytes: {A: 6, B: 7}, and 13, 42, {Quo: 3, Rem: 1} as a generated client reads them.
    let args = b"\x08\x06\x10\x07";
    assert_eq!(call("Arith.Add", args), b"\x08\x0d");
    assert_eq!(call("Arith.AddFixed", args), b"\x08\x0d");
    assert_eq!(call("Arith.Multiply", args), b"\x08\x2a");
    assert_eq!(call("Arith.Divide", b"\x08\x07\x10\x02"), b"\x08\x03\x10\x01");
    assert_eq!(call("Arith.Add", b""), b"", "zeros");
    assert_eq!(call("Echo.Echo", b"\x0a\x03h\xc3\xa9"), b"\x0a\x03h\xc3\xa9");
    assert_eq!(call("Echo.Bytes", b"\x0a\x02\0\xff"), b"\x0a\x02\0\xff");
    let user = UserMessage::decode(&*call("Users.Get", b"\x08\x6b")).unwrap();
    assert_eq!((user.id, user.age, &*user.name, user.scores.len()), (107, 7, "user-107 é世", 2));

    let client = Client::connect(&address).unwrap().with_codec(Codec::Protobuf);
    let arith = ArithClient::new(&client);
    let pair = Pair::from(Args { a: -1, b: 3 });
    assert_eq!((arith.add(&Args { a: -1, b: 3 }).unwrap(), arith.add_fixed(&pair).unwrap()), (2, 2));
    assert_eq!(arith.divide(&Args { a: -7, b: 2 }).unwrap(), Quotient { quo: -3, rem: -1 });
    assert_eq!(arith.divide(&Args { a: 1, b: 0 }).unwrap_err().code(), Code::InvalidArgument);
    let echo = EchoClient::new(&client);
    assert_eq!(echo.echo(&"é世".to_owned()).unwrap(), "é世");
    assert_eq!(&*echo.bytes(&[7; 100_000]).unwrap(), [7; 100_000]);
    let users = UsersClient::new(&client);
    assert_eq!(users.get(&11).unwrap(), User::new(11));
    assert_eq!(users.list(&100).unwrap(), (1..=100).map(User::new).collect::<Vec<_>>());
    assert_eq!(status_of(direct.call_bytes("Arith.Add", Codec::Protobuf, b"\x0a")).0, Code::InvalidArgument);
}

#[test]
fn a_method_without_the_attribute_names_its_codecs() {
    type Argument = Plain<Vec<User>, (Marked, ())>;
    type Sums = Plain<Vec<u64>, (Marked, ())>;
    let sums = Method::new::<Argument, Sums>(
        "Hand.Sums",
        Box::new(|cx, codec, body, out| match <Argument as coreloop::codec::Argument>::decode(codec, body) {
            Ok(users) => finish::<Sums>(cx, codec, Ok(users.iter().map(|user| user.id).collect()), out),
            Err(error) => refuse_argument(cx, error),
        }),
    );
    let sums = sums.unwrap();
    assert!(sums.accepts_codec(Marked::CODEC) && !sums.accepts_codec(Codec::Protobuf));
    let list = Method::new::<Plain<Args, Protobuf>, Plain<Vec<Args>, (Protobuf<Lists>, Marked)>>(
        "Hand.List",
        Box::new(|_, _, _, _| coreloop::context::Outcome::Deferred),
    );
    let list = list.unwrap();
    assert!(list.accepts_codec(Codec::Protobuf) && !list.accepts_codec(Marked::CODEC));
}
