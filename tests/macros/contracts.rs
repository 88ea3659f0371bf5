//! Contracts: a trait, any implementation of it as a service, and the client.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coreloop::client::{CallError, CallOptions, Client, Direct};
use coreloop::codec::Codec;
use coreloop::{Code, Context, Reply, Server, Sink, Status, Stream};
use serde::{Deserialize, Serialize};

/// What a crate that both sides depend on has.
pub mod api {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Order {
        pub item: String,
        pub count: u32,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Fill {
        pub count: u32,
    }

    #[derive(Debug)]
    pub enum ShopError {
        UnknownItem(String),
        Closed,
    }

    impl From<ShopError> for Status {
        fn from(error: ShopError) -> Status {
            match error {
                ShopError::UnknownItem(item) => Status::not_found(format!("no item {item:?}")),
                ShopError::Closed => Status::new(Code::Unavailable, "the shop is closed"),
            }
        }
    }

    /// Takes orders.
    #[coreloop::service(package = "shop.v1")]
    pub trait Orders {
        /// Price of an order, in cents.
        #[rpc(idempotent)]
        fn price(&self, cx: &Context, order: Order) -> Result<u64, ShopError>;

        /// Price with a discount in percent.
        fn discounted(&self, cx: &Context, order: Order, percent: u8) -> Result<u64, ShopError>;

        /// Fills as they happen.
        #[rpc(blocking)]
        fn fills(&self, cx: &Context, account: u64, fills: Sink<Fill>) -> Result<(), ShopError>;

        #[rpc(blocking)]
        fn upload(&self, cx: &Context, orders: Stream<Order>) -> Result<u64, ShopError>;

        #[rpc(blocking)]
        fn chat(&self, cx: &Context, texts: Stream<String>, answers: Sink<String>) -> Result<(), ShopError>;

        fn later(&self, cx: &Context, number: i64, reply: Reply<i64>);

        #[rpc(name = "Length")]
        fn bytes(&self, _cx: &Context, bytes: &[u8]) -> Result<u64, Status> {
            Ok(bytes.len() as u64)
        }

        fn tenant(&self, cx: &Context) -> Result<String, Status> {
            let tenant = cx.metadata().find("tenant").unwrap_or(b"none");
            Ok(String::from_utf8_lossy(tenant).into_owned())
        }

        /// The currency of prices.
        #[rpc(inline)]
        fn currency(&self, _cx: &Context) -> Result<String, Status> {
            Ok(Self::default_currency())
        }

        #[rpc(skip)]
        fn default_currency() -> String {
            "EUR".to_owned()
        }
    }
}

use api::{Fill, Order, Orders, OrdersClient, OrdersServer, ShopError};

#[derive(Debug, Default)]
struct Books {
    sold: AtomicU64,
}

impl Orders for Books {
    fn price(&self, _cx: &Context, order: Order) -> Result<u64, ShopError> {
        match &*order.item {
            "book" => Ok(2_000 * u64::from(order.count)),
            other => Err(ShopError::UnknownItem(other.to_owned())),
        }
    }

    fn discounted(&self, cx: &Context, order: Order, percent: u8) -> Result<u64, ShopError> {
        Ok(self.price(cx, order)? * (100 - u64::from(percent)) / 100)
    }

    fn fills(&self, _cx: &Context, account: u64, fills: Sink<Fill>) -> Result<(), ShopError> {
        if account == 0 {
            return Err(ShopError::Closed);
        }
        for count in 1..=3 {
            // The caller of these tests never gives up.
            fills.send(&Fill { count }).expect("the caller receives");
        }
        Ok(())
    }

    fn upload(&self, cx: &Context, orders: Stream<Order>) -> Result<u64, ShopError> {
        let mut sum = 0;
        for order in orders {
            sum += self.price(cx, order.map_err(|_| ShopError::Closed)?)?;
        }
        self.sold.fetch_add(sum, Ordering::Relaxed);
        Ok(sum)
    }

    fn chat(&self, _cx: &Context, texts: Stream<String>, answers: Sink<String>) -> Result<(), ShopError> {
        for text in texts {
            let text = text.map_err(|_| ShopError::Closed)?;
            answers.send(&text.to_uppercase()).expect("the caller receives");
        }
        Ok(())
    }

    fn later(&self, _cx: &Context, number: i64, reply: Reply<i64>) {
        std::thread::spawn(move || reply.send(Ok(number + 1)));
    }
}

/// Another implementation, with a default method of its own.
struct Closed;

impl Orders for Closed {
    fn price(&self, _cx: &Context, _order: Order) -> Result<u64, ShopError> {
        Err(ShopError::Closed)
    }

    fn discounted(&self, _cx: &Context, _order: Order, _percent: u8) -> Result<u64, ShopError> {
        Err(ShopError::Closed)
    }

    fn fills(&self, _cx: &Context, _account: u64, _fills: Sink<Fill>) -> Result<(), ShopError> {
        Err(ShopError::Closed)
    }

    fn upload(&self, _cx: &Context, _orders: Stream<Order>) -> Result<u64, ShopError> {
        Err(ShopError::Closed)
    }

    fn chat(&self, _cx: &Context, _texts: Stream<String>, _answers: Sink<String>) -> Result<(), ShopError> {
        Err(ShopError::Closed)
    }

    fn later(&self, _cx: &Context, _number: i64, reply: Reply<i64>) {
        reply.send(Err(ShopError::Closed.into()));
    }

    fn currency(&self, _cx: &Context) -> Result<String, Status> {
        Ok("none".to_owned())
    }
}

fn serve(service: impl coreloop::Service) -> (Server, String) {
    let server = Server::builder().service(service).cores(1).listen("127.0.0.1:0").start().unwrap();
    let address = server.addresses()[0].to_string();
    (server, address)
}

fn order(item: &str, count: u32) -> Order {
    Order { item: item.to_owned(), count }
}

fn status(error: CallError) -> Status {
    match error {
        CallError::Status(status) => status,
        other => panic!("{other}"),
    }
}

#[test]
fn the_client_of_a_contract_calls_all_four_shapes() {
    let (_server, address) = serve(OrdersServer::new(Books::default()));
    let orders = OrdersClient::connect(&address).unwrap();
    assert_eq!(orders.price(&order("book", 2)).unwrap(), 4_000);
    assert_eq!(orders.price_start(&order("book", 3)).wait().unwrap(), 6_000);
    let (send, receive) = std::sync::mpsc::channel();
    orders.price_then(&order("book", 4), move |price| send.send(price.unwrap()).unwrap());
    assert_eq!(receive.recv().unwrap(), 8_000);
    orders.price_one_way(&order("book", 5)).unwrap();
    assert_eq!(orders.discounted(&order("book", 1), &10).unwrap(), 1_800);
    assert_eq!(orders.later(&41).unwrap(), 42);
    assert_eq!(orders.bytes(b"abc").unwrap(), 3);

    let fills: Vec<u32> = orders.fills(&7).unwrap().map(|fill| fill.unwrap().count).collect();
    assert_eq!(fills, [1, 2, 3]);
    let upload = orders.upload().unwrap();
    upload.messages().send(&order("book", 1)).unwrap();
    upload.messages().send(&order("book", 2)).unwrap();
    assert_eq!(upload.finish().unwrap(), 6_000);
    let (send, mut receive) = orders.chat().unwrap().split();
    send.send(&"hello".to_owned()).unwrap();
    assert_eq!(receive.next().unwrap().unwrap(), "HELLO");
    send.finish(Ok(()));
    assert!(receive.next().is_none());
}

#[test]
fn each_form_of_call_has_settings_of_its_own() {
    let (_server, address) = serve(OrdersServer::new(Books::default()));
    let orders = OrdersClient::connect(&address).unwrap();
    let options = CallOptions::new().timeout(Duration::from_secs(60)).metadata("tenant", "7");
    assert_eq!(orders.tenant().unwrap(), "none");
    assert_eq!(orders.tenant_with(&options).unwrap(), "7");
    assert_eq!(orders.tenant_start_with(&options).wait().unwrap(), "7");
    let (send, receive) = std::sync::mpsc::channel();
    orders.tenant_then_with(&options, move |tenant| send.send(tenant.unwrap()).unwrap());
    assert_eq!(receive.recv().unwrap(), "7");
    assert_eq!(orders.discounted_with(&order("book", 1), &10, options.clone()).unwrap(), 1_800);
    orders.price_one_way_with(&order("book", 1), &options).unwrap();
    assert_eq!(orders.fills_with(&7, &options).unwrap().count(), 3);
    let upload = orders.upload_with(&options).unwrap();
    upload.send(&order("book", 1)).unwrap();
    assert_eq!(upload.finish().unwrap(), 2_000);
    let chat = orders.chat_with(CallOptions::new()).unwrap();
    chat.send(&"a".to_owned()).unwrap();
    let late = orders.tenant_with(CallOptions::new().timeout(Duration::ZERO)).unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert_eq!(orders.tenant().unwrap(), "none", "the client itself is as it was");
}

#[test]
fn the_error_of_a_method_becomes_its_status() {
    let (_server, address) = serve(OrdersServer::new(Books::default()));
    let orders = OrdersClient::new(Direct::connect(&address).unwrap());
    let unknown = Status::not_found("no item \"pen\"");
    assert_eq!(status(orders.price(&order("pen", 1)).unwrap_err()), unknown);
    assert_eq!(status(orders.discounted(&order("pen", 1), &5).unwrap_err()), unknown);
    let orders = OrdersClient::connect(&address).unwrap();
    let closed = Status::new(Code::Unavailable, "the shop is closed");
    let fills: Vec<_> = orders.fills(&0).unwrap().collect();
    assert_eq!(fills, [Err(closed)]);
    let upload = orders.upload().unwrap();
    upload.messages().send(&order("pen", 1)).unwrap();
    assert_eq!(status(upload.finish().unwrap_err()), unknown);
}

#[test]
fn each_implementation_is_a_service_of_its_own() {
    let (_server, address) = serve(OrdersServer::new(Closed));
    let orders = OrdersClient::connect(&address).unwrap();
    assert_eq!(orders.currency().unwrap(), "none", "its own default method");
    assert_eq!(orders.bytes(b"1234").unwrap(), 4, "the default method of the contract");
    for error in [
        orders.price(&order("book", 1)).unwrap_err(),
        orders.discounted(&order("book", 1), &1).unwrap_err(),
        orders.later(&1).unwrap_err(),
        orders.upload().unwrap().finish().unwrap_err(),
    ] {
        assert_eq!(status(error), Status::new(Code::Unavailable, "the shop is closed"));
    }
    let (_server, address) = serve(OrdersServer::new(Books::default()));
    assert_eq!(OrdersClient::connect(&address).unwrap().currency().unwrap(), "EUR");
}

#[test]
fn names_documentation_and_options_of_a_contract_reach_the_server() {
    let (_server, address) = serve(OrdersServer::new(Closed));
    let direct = Direct::connect(&address).unwrap();
    let list = direct.call_bytes("Meta.Methods", Codec::Json, b"\"shop.v1.Orders\"").unwrap();
    let list: Vec<serde_json::Value> = serde_json::from_slice(&list).unwrap();
    let names: Vec<&str> = list.iter().map(|method| method["Name"].as_str().unwrap()).collect();
    let expected =
        ["Price", "Discounted", "Fills", "Upload", "Chat", "Later", "Length", "Tenant", "Currency"];
    let mut expected = expected.map(|name| format!("shop.v1.Orders.{name}"));
    expected.sort();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    let method = |name: &str| &list[names.iter().position(|known| known.ends_with(name)).unwrap()];
    let price = method("Price");
    assert_eq!((&price["Docs"], &price["Kind"]), (&"Price of an order, in cents.".into(), &"pooled".into()));
    assert_eq!(price["FreeOfSideEffects"], true);
    assert_eq!(method("Currency")["Kind"], "inline");
    assert_eq!(method("Currency")["Docs"], "The currency of prices.");
    let signature = &method("Discounted")["Signature"];
    assert_eq!(signature, "{order: {item: string, count: u32}, percent: u8} -> u64");
    // The service is not known by its name alone.
    let error = direct.call_bytes("Orders.Currency", Codec::Json, b"").unwrap_err();
    assert_eq!(status(error).code, Code::Unimplemented);
}

#[test]
fn a_clone_of_the_client_shares_its_connection() {
    let (_server, address) = serve(OrdersServer::new(Books::default()));
    let orders: OrdersClient = OrdersClient::connect(&address).unwrap();
    let clone: OrdersClient<Client> = orders.clone();
    assert_eq!(clone.price(&order("book", 1)).unwrap(), orders.price(&order("book", 1)).unwrap());
}

mod private {
    //! A contract without `pub`, and one whose names are those that the generated code uses.
    #![deny(warnings)]

    use coreloop::{Context, Server, Status};

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub struct T(pub u8);

    #[coreloop::service]
    trait Small: Send {
        const LIMIT: u8;

        fn same(&self, _cx: &Context, value: T) -> Result<T, Status>;
    }

    struct Itself;

    impl Small for Itself {
        const LIMIT: u8 = 7;

        fn same(&self, _cx: &Context, value: T) -> Result<T, Status> {
            Ok(T(value.0.min(Self::LIMIT)))
        }
    }

    #[test]
    fn it_is_served() {
        let server = Server::builder().service(SmallServer::new(Itself)).listen("127.0.0.1:0");
        let server = server.start().unwrap();
        let small = SmallClient::connect(server.addresses()[0].to_string()).unwrap();
        assert_eq!(small.same(&T(9)).unwrap(), T(7));
    }
}
