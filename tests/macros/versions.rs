//! Callers and servers with different versions of one contract: each difference is an error that names it.

use coreloop::client::{CallError, Client, Direct};
use coreloop::codec::Codec;
use coreloop::{Code, Context, Server, Status};
use serde::{Deserialize, Serialize};

/// The first version.
mod first {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    pub struct Order {
        pub item: String,
        pub count: u32,
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub struct Receipt {
        pub number: u64,
        pub cents: u64,
    }

    #[coreloop::service(package = "shop")]
    pub trait Orders {
        fn place(&self, cx: &Context, order: Order) -> Result<Receipt, Status>;

        fn rate(&self, cx: &Context, number: u64, stars: u8) -> Result<(), Status>;

        fn cancel(&self, cx: &Context, number: u64) -> Result<(), Status>;
    }

    pub struct Shop;

    impl Orders for Shop {
        fn place(&self, _cx: &Context, order: Order) -> Result<Receipt, Status> {
            Ok(Receipt { number: 1, cents: u64::from(order.count) * order.item.len() as u64 })
        }

        fn rate(&self, _cx: &Context, _number: u64, _stars: u8) -> Result<(), Status> {
            Ok(())
        }

        fn cancel(&self, _cx: &Context, _number: u64) -> Result<(), Status> {
            Ok(())
        }
    }
}

/// The second version: an order has one more field and a receipt one less, a rating has a text, and orders are not
/// cancelled.
mod second {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    pub struct Order {
        pub item: String,
        pub count: u32,
        pub currency: String,
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub struct Receipt {
        pub number: u64,
    }

    #[coreloop::service(package = "shop")]
    pub trait Orders {
        fn place(&self, cx: &Context, order: Order) -> Result<Receipt, Status>;

        fn rate(&self, cx: &Context, number: u64, stars: u8, text: String) -> Result<(), Status>;
    }

    pub struct Shop;

    impl Orders for Shop {
        fn place(&self, _cx: &Context, _order: Order) -> Result<Receipt, Status> {
            Ok(Receipt { number: 2 })
        }

        fn rate(&self, _cx: &Context, _number: u64, _stars: u8, _text: String) -> Result<(), Status> {
            Ok(())
        }
    }
}

fn serve(service: impl coreloop::Service) -> (Server, Client) {
    let server = Server::builder().service(service).cores(1).listen("127.0.0.1:0").start().unwrap();
    let client = Client::connect(server.addresses()[0].to_string()).unwrap();
    (server, client)
}

#[track_caller]
fn assert_fails<R: std::fmt::Debug>(outcome: Result<R, CallError>, code: Code, text: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(text), "{error}\ndoes not contain\n{text}");
}

#[test]
fn an_old_caller_learns_what_the_new_server_expects() {
    let (_server, client) = serve(second::OrdersServer::new(second::Shop));
    let order = first::Order { item: "book".to_owned(), count: 2 };
    let json = first::OrdersClient::new(client.with_codec(Codec::Json));
    assert_fails(
        json.place(&order),
        Code::InvalidArgument,
        "argument of shop.Orders.Place: missing field \"currency\" (missing_fields = \"error\")",
    );
    assert_fails(
        json.rate(&1, &5),
        Code::InvalidArgument,
        "argument of shop.Orders.Rate: missing field \"text\" (missing_fields = \"error\")",
    );
    // The codec has no names: the fingerprints of the types differ.
    let compact = first::OrdersClient::new(client.with_codec(Codec::Compact));
    assert_fails(
        compact.place(&order),
        Code::FailedPrecondition,
        "the server expects {item: string, count: u32, currency: string} -> {number: u64}",
    );
    assert_fails(
        compact.place(&order),
        Code::FailedPrecondition,
        "the caller has {item: string, count: u32} -> {number: u64, cents: u64}",
    );
    for text in [
        "the server expects {number: u64, stars: u8, text: string} -> unit",
        "the caller has {number: u64, stars: u8} -> unit",
    ] {
        assert_fails(compact.rate(&1, &5), Code::FailedPrecondition, text);
    }
    for orders in [json, compact] {
        assert_fails(orders.cancel(&1), Code::Unimplemented, "shop.Orders.Cancel");
    }
}

#[test]
fn a_new_caller_learns_what_the_old_server_lacks() {
    let (_server, client) = serve(first::OrdersServer::new(first::Shop));
    let order = second::Order { item: "book".to_owned(), count: 2, currency: "EUR".to_owned() };
    // A codec with names bridges what was added: the server ignores it.
    let json = second::OrdersClient::new(client.with_codec(Codec::Json));
    assert_eq!(json.place(&order).unwrap().number, 1);
    json.rate(&1, &5, &"good".to_owned()).unwrap();
    let compact = second::OrdersClient::new(client.with_codec(Codec::Compact));
    assert_fails(
        compact.place(&order),
        Code::FailedPrecondition,
        "the server expects {item: string, count: u32} -> {number: u64, cents: u64}",
    );
    for text in [
        "the server expects {number: u64, stars: u8} -> unit",
        "the caller has {number: u64, stars: u8, text: string} -> unit",
    ] {
        assert_fails(compact.rate(&1, &5, &"good".to_owned()), Code::FailedPrecondition, text);
    }
}

#[test]
fn every_way_to_call_names_both_types() {
    let (server, client) = serve(first::OrdersServer::new(first::Shop));
    let order = second::Order { item: "book".to_owned(), count: 2, currency: "EUR".to_owned() };
    let is_complete = |error: CallError| {
        let text = error.to_string();
        assert_eq!(error.code(), Code::FailedPrecondition, "{text}");
        for types in [
            "the server expects {item: string, count: u32} -> {number: u64, cents: u64}",
            "the caller has {item: string, count: u32, currency: string} -> {number: u64}",
        ] {
            assert!(text.contains(types), "{text}\ndoes not contain\n{types}");
        }
    };
    let compact = second::OrdersClient::new(client.with_codec(Codec::Compact));
    is_complete(compact.place_start(&order).wait().unwrap_err());
    let (sender, receiver) = std::sync::mpsc::channel();
    compact.place_then(&order, move |outcome| sender.send(outcome).unwrap());
    is_complete(receiver.recv_timeout(std::time::Duration::from_secs(30)).unwrap().unwrap_err());
    let mut direct = Direct::connect(server.addresses()[0].to_string()).unwrap();
    direct.set_codec(Codec::Compact);
    is_complete(second::OrdersClient::new(direct).place(&order).unwrap_err());
}

#[test]
fn long_types_are_cut() {
    macro_rules! wide {
        ($module:ident: $($field:ident)*) => {
            mod $module {
                use super::*;

                #[derive(Debug, Default, Serialize, Deserialize)]
                pub struct Wide { $(pub $field: (String, Option<u64>, Vec<bool>)),* }

                #[coreloop::service(package = "wide")]
                pub trait Rows {
                    fn put(&self, cx: &Context, row: Wide) -> Result<Wide, Status>;
                }

                #[allow(dead_code, reason = "only one of the two is served")]
                pub struct Table;

                impl Rows for Table {
                    fn put(&self, _cx: &Context, row: Wide) -> Result<Wide, Status> {
                        Ok(row)
                    }
                }
            }
        };
    }
    wide!(narrow: first_name last_name street_of_home street_of_work city country telephone_of_home telephone_of_work);
    wide!(broad: first_name last_name street_of_home street_of_work city country telephone_of_home telephone_of_work fax);
    let (_server, client) = serve(narrow::RowsServer::new(narrow::Table));
    let rows = broad::RowsClient::new(client.with_codec(Codec::Compact));
    let text = rows.put(&broad::Wide::default()).unwrap_err().to_string();
    assert!(
        text.contains("the server expects {first_name: ") && text.contains("the caller has {first_name: "),
        "{text}"
    );
    assert!(text.matches('…').count() == 2 && text.len() < 1300, "{} bytes: {text}", text.len());
}

#[test]
fn a_field_that_the_reply_lacks_is_named() {
    /// The second version of the arguments with the first of the reply: an old caller that already sends the field.
    mod between {
        use super::*;

        #[coreloop::service(package = "shop")]
        pub trait Orders {
            fn place(&self, cx: &Context, order: second::Order) -> Result<first::Receipt, Status>;
        }
    }
    let (_server, client) = serve(second::OrdersServer::new(second::Shop));
    let orders = between::OrdersClient::new(client.with_codec(Codec::Json));
    let order = second::Order { item: "book".to_owned(), count: 2, currency: "EUR".to_owned() };
    let error = orders.place(&order).unwrap_err();
    assert!(matches!(error, CallError::Reply(_)), "{error}");
    assert!(error.to_string().contains("missing field \"cents\""), "{error}");
}
