//! The service attribute, end to end: each form of method on a real server, called by the generated client; and, in
//! `tests/ui`, the attribute's error messages.

use std::sync::Mutex;
use std::thread;

use coreloop::bufpool::Chunk;
use coreloop::client::{CallError, Caller, Direct};
use coreloop::codec::{self, Codec, Description, Shape};
use coreloop::service::Service;
use coreloop::{Bytes, Code, Context, Reply, Server, Status};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zerocopy::little_endian::{I64, U32};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub x: i64,
    pub y: i64,
}

#[derive(
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    Clone,
    Copy,
    Debug,
    PartialEq,
    zerocopy::Unaligned,
)]
#[repr(C)]
pub struct Cell {
    pub value: I64,
    pub weight: U32,
}

/// A pair in the other codecs.
impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.value.get(), self.weight.get()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cell, D::Error> {
        let (value, weight) = <(i64, u32)>::deserialize(deserializer)?;
        Ok(Cell { value: I64::new(value), weight: U32::new(weight) })
    }
}

/// A number that serde alone cannot describe: its deserializer accepts even numbers only.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Even(pub u64);

impl<'de> Deserialize<'de> for Even {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Even, D::Error> {
        struct EvenText;
        impl serde::de::Visitor<'_> for EvenText {
            type Value = Even;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an even number")
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Even, E> {
                match number {
                    0 => Err(E::custom("not this one")),
                    even if even % 2 == 0 => Ok(Even(even)),
                    _ => Err(E::custom("odd")),
                }
            }
        }
        deserializer.deserialize_u64(EvenText)
    }
}

#[derive(Default)]
struct Forms {
    seen: Mutex<Vec<String>>,
}

#[coreloop::service]
impl Forms {
    /// How many things there are.
    const COUNT: u64 = 3;

    fn build() -> Forms {
        Forms::default()
    }

    /// Mirrored at the diagonal.
    ///
    ///     x, y -> y, x
    fn swap_axes(&self, _cx: &Context, Point { x, y }: Point) -> Result<Point, Status> {
        Ok(Point { x: y, y: x })
    }

    #[rpc(inline, idempotent)]
    pub fn count(&self, _: &Context<'_>) -> Result<u64, Status> {
        Ok(Self::COUNT)
    }

    #[rpc(inline)]
    fn weigh(&self, _cx: &Context, cell: &Cell) -> Result<i64, Status> {
        Ok(cell.value.get() * i64::from(cell.weight.get()))
    }

    fn reversed(&self, _cx: &Context, bytes: &[u8]) -> Result<Vec<u8>, Status> {
        Ok(bytes.iter().rev().copied().collect())
    }

    fn borrowed_to_shared(&self, _cx: &Context, bytes: &[u8]) -> Result<Bytes, Status> {
        Ok(Bytes::from(bytes))
    }

    fn shared(&self, _cx: &Context, bytes: Bytes) -> Result<coreloop::Bytes, Status> {
        Ok(bytes)
    }

    fn shared_to_vec(&self, _cx: &Context, bytes: Bytes) -> Result<Vec<u8>, Status> {
        Ok(bytes.into_vec())
    }

    fn length(&self, _cx: &Context, bytes: &[u8]) -> Result<u64, Status> {
        Ok(bytes.len() as u64)
    }

    fn repeated(&self, _cx: &Context, len: u32) -> Result<Bytes, Status> {
        Ok(Bytes::from(vec![7; len as usize]))
    }

    #[rpc(name = "Doubled", blocking)]
    fn twice(&self, _cx: &Context, number: i64) -> Result<i64, Status> {
        self.note("twice");
        Ok(number * 2)
    }

    fn later(&self, _cx: &Context, number: i64, reply: Reply<i64>) {
        thread::spawn(move || {
            reply.send(if number < 0 { Err(Status::not_found("gone")) } else { Ok(number + 1) })
        });
    }

    #[rpc(inline)]
    fn later_inline(&self, _cx: &Context, reply: Reply<String>) {
        self.note("later");
        thread::spawn(move || reply.send(Ok("late".to_owned())));
    }

    fn later_bytes(&self, _cx: &Context, bytes: &[u8], reply: Reply<Bytes>) {
        reply.send(Ok(Bytes::from(Chunk::from(bytes.to_vec()))));
    }

    fn refuse(&self, _cx: &Context, text: String) -> Result<(), Status> {
        Err(Status::new(Code::PermissionDenied, text))
    }

    #[rpc(argument = even, reply = Self::describe_even)]
    fn half(&self, _cx: &Context, even: Even) -> Result<Even, Status> {
        Ok(Even(even.0 / 2))
    }

    #[rpc(reply = even)]
    fn even(&self, _cx: &Context, number: u64) -> Result<Even, Status> {
        Ok(Even(number * 2))
    }

    /// What `match` would be called.
    fn r#match(&self, _cx: &Context) -> Result<String, Status> {
        Ok("match".into())
    }

    #[cfg(any())]
    fn never(&self, _cx: &Context, nothing: NoSuchType) -> Result<(), Status> {
        Ok(())
    }

    #[rpc(skip)]
    fn note(&self, what: &str) {
        self.seen.lock().unwrap().push(what.to_owned());
    }

    fn describe_even() -> Description {
        even()
    }
}

pub fn even() -> Description {
    Description::new(Shape::uint(64))
}

/// A service with a parameter; its types do not name the parameter, so it has a client.
struct Store<S>(S);

#[coreloop::service(name = "Kept", client_vis = "pub(crate)")]
impl<S: AsRef<str> + Send + Sync + 'static> Store<S> {
    fn text(&self, _cx: &Context) -> Result<String, Status> {
        Ok(self.0.as_ref().to_owned())
    }
}

/// A service whose types name its parameter.
struct Last<T>(Mutex<T>);

#[coreloop::service(client = false)]
impl<T> Last<T>
where
    T: Serialize + for<'de> Deserialize<'de> + Clone + Send,
{
    fn replace(&self, _cx: &Context, value: T) -> Result<T, Status> {
        Ok(std::mem::replace(&mut *self.0.lock().unwrap(), value))
    }

    #[rpc(reply = Self::describe_even)]
    fn twice(&self, _cx: &Context, number: u64) -> Result<Even, Status> {
        Ok(Even(number * 2))
    }

    #[rpc(skip)]
    fn describe_even() -> Description {
        even()
    }
}

/// A service without a client: its types need only one of serializing and deserializing.
struct OneWay;

#[derive(Deserialize)]
struct In {
    n: i64,
}

#[derive(Serialize)]
struct Out {
    n: i64,
}

#[coreloop::service(client = false)]
impl OneWay {
    #[rpc(reply = describe_out)]
    fn through(&self, _cx: &Context, value: In) -> Result<Out, Status> {
        Ok(Out { n: value.n })
    }
}

/// What the callers of `OneWay` know.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Counted {
    n: i64,
}

fn describe_out() -> Description {
    Description::new(Shape::structure("Out", [("n", Shape::int(64))]))
}

mod renamed {
    //! The crate by another name, the prelude's names taken, and a type named as the client's parameter.
    #![allow(dead_code)]

    use ::coreloop as loops;

    struct Ok;
    struct Err;
    struct Vec;
    struct Box;
    struct Arc;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub struct C {
        pub value: u8,
    }

    pub enum Odd {
        Only,
    }

    #[loops::service(crate = loops, name = "Strange")]
    impl Odd {
        fn same(&self, cx: &loops::Context, value: C) -> ::std::result::Result<C, loops::Status> {
            let _ = cx;
            ::std::result::Result::Ok(value)
        }
    }
}

fn serve() -> (Server, String) {
    let server = Server::builder()
        .service(Forms::build())
        .service(Store("kept"))
        .service(Last(Mutex::new(1u32)))
        .service(OneWay)
        .service(renamed::Odd::Only)
        .cores(1)
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let address = server.addresses()[0].to_string();
    (server, address)
}

/// Calls every form, with the current settings of the caller.
fn call_all<C: Caller>(forms: &mut FormsClient<C>) -> Result<(), CallError> {
    assert_eq!(forms.swap_axes(&Point { x: 1, y: 2 })?, Point { x: 2, y: 1 });
    assert_eq!(forms.count()?, 3);
    assert_eq!(forms.weigh(&Cell { value: I64::new(-7), weight: U32::new(6) })?, -42);
    assert_eq!(forms.reversed(b"abc")?, b"cba");
    assert_eq!(&*forms.borrowed_to_shared(b"abc")?, b"abc");
    assert_eq!(&*forms.shared(b"abc")?, b"abc");
    assert_eq!(forms.shared(&[5; 100_000])?, Bytes::from(vec![5; 100_000]));
    assert_eq!(forms.shared_to_vec(b"abc")?, b"abc");
    assert_eq!(forms.repeated(&3)?, Bytes::from(vec![7; 3]));
    assert_eq!(forms.length(b"abcd")?, 4);
    assert_eq!(forms.twice(&21)?, 42);
    assert_eq!(forms.later(&1)?, 2);
    assert_eq!(forms.later_inline()?, "late");
    assert_eq!(&*forms.later_bytes(b"abc")?, b"abc");
    assert_eq!(forms.half(&Even(84))?, Even(42));
    assert_eq!(forms.even(&21)?, Even(42));
    assert_eq!(forms.r#match()?, "match");
    Ok(())
}

#[test]
fn every_form_is_called_by_the_typed_client_in_every_codec() {
    let (server, address) = serve();
    let mut forms = FormsClient::new(Direct::connect(&address).unwrap());
    call_all(&mut forms).unwrap();
    for codec in [Codec::Json, Codec::Compact, Codec::MessagePack, Codec::Gob] {
        forms.caller_mut().set_codec(codec);
        call_all(&mut forms).unwrap_or_else(|error| panic!("{codec}: {error}"));
    }
    forms.into_caller().ping().unwrap();
    server.shutdown();
}

#[test]
fn failures_come_back_as_they_were_returned() {
    let (_server, address) = serve();
    let mut forms = FormsClient::new(Direct::connect(&address).unwrap());
    let refused = forms.refuse(&"no".to_owned()).unwrap_err();
    assert!(
        matches!(&refused, CallError::Status(status) if *status == Status::new(Code::PermissionDenied, "no")),
        "{refused}"
    );
    let gone = forms.later(&-1).unwrap_err();
    assert!(matches!(&gone, CallError::Status(status) if status.code == Code::NotFound), "{gone}");
    let direct = forms.caller_mut();
    let malformed = direct.call_bytes("Forms.SwapAxes", Codec::Json, b"{\"x\": 1}").unwrap_err();
    assert!(
        matches!(&malformed, CallError::Status(status) if status.code == Code::InvalidArgument),
        "{malformed}"
    );
}

#[test]
fn services_with_parameters_and_other_names_are_served() {
    let (_server, address) = serve();
    let mut kept = StoreClient::new(Direct::connect(&address).unwrap());
    assert_eq!(kept.text().unwrap(), "kept");
    let direct = kept.caller_mut();
    assert_eq!(direct.call_bytes("Last.Replace", Codec::Json, b"2").unwrap(), b"1");
    assert_eq!(direct.call_bytes("Last.Replace", Codec::Json, b"3").unwrap(), b"2");
    assert_eq!(direct.call_bytes("OneWay.Through", Codec::Json, b"{\"n\": 5}").unwrap(), b"{\"n\":5}");
    // Types with a description by hand, in gob: an unsigned integer (id 6), and a struct.
    assert_eq!(direct.call_bytes("Last.Twice", Codec::Gob, &[3, 6, 0, 2]).unwrap(), [3, 6, 0, 4]);
    let mut five = Vec::new();
    codec::gob::encode(&Counted { n: 5 }, &mut five).unwrap();
    let through = direct.call_bytes("OneWay.Through", Codec::Gob, &five).unwrap();
    assert_eq!(codec::gob::decode(&through), Ok(Counted { n: 5 }));
    let odd = renamed::OddClient::new(kept.into_caller());
    assert_eq!(odd.same(&renamed::C { value: 4 }).unwrap(), renamed::C { value: 4 });
}

/// The checked part of the answer of `Meta.Methods`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    name: String,
    signature: String,
    kind: String,
    codecs: Vec<String>,
    #[serde(rename = "FreeOfSideEffects")]
    idempotent: bool,
    docs: String,
}

#[test]
fn meta_reports_what_the_attribute_declares() {
    let (_server, address) = serve();
    let direct = Direct::connect(&address).unwrap();
    let text = direct.call_bytes("Meta.Methods", Codec::Json, b"\"Forms\"").unwrap();
    let infos: Vec<Info> = serde_json::from_slice(&text).unwrap();
    let info = |name: &str| {
        let found = infos.iter().find(|info| info.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {infos:#?}"))
    };

    let swap = info("Forms.SwapAxes");
    assert_eq!(swap.docs, "Mirrored at the diagonal.\n\n    x, y -> y, x");
    assert_eq!((&*swap.kind, swap.idempotent), ("pooled", false));
    assert_eq!(swap.signature, "{x: i64, y: i64} -> {x: i64, y: i64}");
    let count = info("Forms.Count");
    assert_eq!((&*count.kind, count.idempotent, &*count.docs), ("inline", true, ""));
    assert_eq!(info("Forms.Doubled").kind, "blocking");
    assert_eq!(info("Forms.Match").docs, "What `match` would be called.");
    assert_eq!(info("Forms.Half").signature, "u64 -> u64");

    let takes = |name: &str, codec: &str| info(name).codecs.iter().any(|taken| taken == codec);
    assert!(takes("Forms.Weigh", "fixed") && !takes("Forms.Weigh", "raw"));
    for raw in ["Reversed", "BorrowedToShared", "Shared", "SharedToVec", "LaterBytes"] {
        assert!(takes(&format!("Forms.{raw}"), "raw"), "{raw}");
    }
    for not_raw in ["Length", "Repeated", "SwapAxes", "Count"] {
        assert!(!takes(&format!("Forms.{not_raw}"), "raw"), "{not_raw}");
    }
    for left_out in ["Note", "Build", "Never", "Twice", "DescribeEven"] {
        assert!(infos.iter().all(|info| info.name != format!("Forms.{left_out}")), "{left_out}");
    }
}

#[test]
fn a_service_knows_its_name() {
    assert_eq!(Forms::default().service_name(), "Forms");
    assert_eq!(Store("").service_name(), "Kept");
    assert_eq!(renamed::Odd::Only.service_name(), "Strange");
}
