//! Calls without types, checked against the server's own description.

use coreloop::client::{CallError, Client};
use coreloop::{Code, Context, Server, Sink, Status};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Serialize, Deserialize)]
struct Line {
    item: String,
    count: u64,
}

#[derive(Serialize, Deserialize)]
struct Order {
    lines: Vec<Line>,
    note: Option<String>,
}

struct Shop;

#[coreloop::service]
impl Shop {
    fn price(&self, _cx: &Context, order: Order) -> Result<u64, Status> {
        Ok(order.lines.iter().map(|line| 40 * line.count).sum())
    }

    fn nothing(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    fn watch(&self, _cx: &Context, _count: u64, sink: Sink<u64>) -> Result<(), Status> {
        sink.finish(Ok(()));
        Ok(())
    }
}

#[test]
fn values_are_checked_before_they_are_sent() {
    let server = Server::builder().service(Shop).listen("127.0.0.1:0").start().unwrap();
    let address = server.addresses()[0].to_string();
    #[cfg(all(feature = "http", feature = "jsonrpc"))]
    let addresses = [address.clone(), format!("http:{address}"), format!("jsonrpc:{address}")];
    #[cfg(not(all(feature = "http", feature = "jsonrpc")))]
    let addresses = [address.clone()];
    let mut asked = 0;
    for address in addresses {
        let client = Client::connect(&address).unwrap();
        let order =
            json!({"lines": [{"item": "tea", "count": 2}, {"item": "cup", "count": 1}], "note": null});
        let price: Value = client.call_value("Shop.Price", &order).unwrap();
        assert_eq!(price, json!(120), "{address}");
        // The unit has two forms in JSON.
        let unit = if address.starts_with("http:") { "{}" } else { "null" };
        assert_eq!(client.call_json("Shop.Nothing", "null").unwrap(), unit, "{address}");
        let price: u64 = client.call_value("Shop.Price", &Order { lines: Vec::new(), note: None }).unwrap();
        assert_eq!(price, 0);
        let calls = server.stats().method("Shop.Price").unwrap().calls;
        for (method, argument, code, text) in [
            (
                "Shop.Prize",
                "1",
                Code::Unimplemented,
                "unimplemented: the server has no method Shop.Prize; did you mean Shop.Price?",
            ),
            (
                "Bank.Transfer",
                "1",
                Code::Unimplemented,
                "unimplemented: the server has no method Bank.Transfer",
            ),
            (
                "Shop.Price",
                r#"{"lines": [{"item": "tea", "count": 2}, {"itm": "cup"}]}"#,
                Code::InvalidArgument,
                "invalid_argument: argument of Shop.Price: expected the fields item, count in lines[1]; found \"itm\"; \
                 did you mean item?",
            ),
            (
                "Shop.Price",
                r#"{"customer": 7}"#,
                Code::InvalidArgument,
                "invalid_argument: argument of Shop.Price: expected the fields lines, note; found \"customer\"",
            ),
            (
                "Shop.Watch",
                "1",
                Code::Unimplemented,
                "unimplemented: Shop.Watch has a stream, which has no form as one JSON value",
            ),
        ] {
            let error = client.call_json(method, argument).unwrap_err();
            assert!(matches!(error, CallError::NotDescribed(_)), "{address}: {error:?}");
            assert_eq!((error.code(), error.may_have_run()), (code, false));
            assert_eq!(error.to_string(), text, "{address}");
        }
        assert_eq!(server.stats().method("Shop.Price").unwrap().calls, calls, "nothing was sent");
        // A wrong type is the server's to find, and text that is no JSON is not sent.
        let error = client.call_json("Shop.Price", r#"{"lines": 1}"#).unwrap_err();
        assert!(matches!(error, CallError::Status(_)), "{address}: {error:?}");
        assert!(matches!(client.call_json("Shop.Price", "{"), Err(CallError::Argument(_))));
        // The description is asked for once, and again for each method that is not in it.
        asked += 3;
        assert_eq!(server.stats().method("Meta.Methods").unwrap().calls, asked, "{address}");
    }
}

#[cfg(feature = "netrpc")]
#[test]
fn a_protocol_without_json_is_refused() {
    let client = Client::builder("gob:127.0.0.1:1").build().unwrap();
    let error = client.call_json("Shop.Price", "1").unwrap_err();
    assert!(matches!(error, CallError::Argument(_)), "{error:?}");
}
