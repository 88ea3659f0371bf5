//! Async methods: in contracts and in impl blocks, of all four shapes, on an executor of the program's.

use std::future::Future;
use std::time::Duration;

use coreloop::client::{Client, ClientConfig};
use coreloop::{Bytes, Code, Context, OwnedContext, Server, Sink, Status, Stream};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quote {
    pub symbol: String,
    pub cents: u64,
}

pub struct NoQuote;

impl From<NoQuote> for Status {
    fn from(_error: NoQuote) -> Status {
        Status::not_found("no quote")
    }
}

#[coreloop::service(package = "market.v1")]
pub trait Market {
    /// The last quote.
    #[rpc(idempotent)]
    async fn quote(&self, cx: OwnedContext, symbol: String) -> Result<Quote, NoQuote>;

    async fn scaled(&self, cx: OwnedContext, symbol: String, factor: u64) -> Result<Quote, NoQuote>;

    async fn watch(&self, cx: OwnedContext, symbol: String, quotes: Sink<Quote>) -> Result<(), Status>;

    async fn sum(&self, cx: OwnedContext, numbers: Stream<u64>) -> Result<u64, Status>;

    async fn echo(
        &self,
        cx: OwnedContext,
        texts: Stream<String>,
        answers: Sink<String>,
    ) -> Result<(), Status>;

    /// A default method.
    async fn method_name(&self, cx: OwnedContext) -> Result<String, Status> {
        tokio::task::yield_now().await;
        Ok(cx.method().to_owned())
    }

    async fn length(&self, _cx: OwnedContext, bytes: Bytes) -> Result<u64, Status> {
        Ok(bytes.len() as u64)
    }

    /// One that is not async, beside them.
    fn plain(&self, _cx: &Context, number: u64) -> Result<u64, Status> {
        Ok(number)
    }
}

struct Exchange;

impl Market for Exchange {
    async fn quote(&self, _cx: OwnedContext, symbol: String) -> Result<Quote, NoQuote> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        match &*symbol {
            "A" => Ok(Quote { symbol, cents: 100 }),
            _ => Err(NoQuote),
        }
    }

    // As the compiler sees the contract: without `async`.
    #[allow(clippy::manual_async_fn)]
    fn scaled(
        &self,
        cx: OwnedContext,
        symbol: String,
        factor: u64,
    ) -> impl Future<Output = Result<Quote, NoQuote>> + Send {
        async move {
            let quote = self.quote(cx, symbol).await?;
            Ok(Quote { cents: quote.cents * factor, ..quote })
        }
    }

    async fn watch(&self, _cx: OwnedContext, symbol: String, quotes: Sink<Quote>) -> Result<(), Status> {
        for cents in 1..=3 {
            quotes.ready().await;
            quotes.try_send(&Quote { symbol: symbol.clone(), cents })?;
        }
        Ok(())
    }

    async fn sum(&self, _cx: OwnedContext, mut numbers: Stream<u64>) -> Result<u64, Status> {
        let mut sum = 0;
        while let Some(number) = numbers.next_message().await {
            sum += number?;
        }
        Ok(sum)
    }

    async fn echo(
        &self,
        _cx: OwnedContext,
        mut texts: Stream<String>,
        answers: Sink<String>,
    ) -> Result<(), Status> {
        while let Some(text) = texts.next_message().await {
            answers.ready().await;
            answers.try_send(&text?)?;
        }
        Ok(())
    }
}

struct Short;

#[coreloop::service]
impl Short {
    async fn double(&self, _cx: OwnedContext, number: i64) -> Result<i64, Status> {
        tokio::task::yield_now().await;
        Ok(number * 2)
    }

    async fn difference(&self, _cx: OwnedContext, a: i64, b: i64) -> Result<i64, Status> {
        Ok(a - b)
    }
}

#[test]
fn async_methods_of_every_shape_are_called() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let handle = runtime.handle().clone();
    let server = Server::builder()
        .executor(move |future| drop(handle.spawn(future)))
        .service(MarketServer::new(Exchange))
        .service(Short)
        .cores(1)
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let client = Client::builder(server.addresses()[0].to_string()).config(ClientConfig::default());
    let client = client.connect().unwrap();
    let market = MarketClient::new(client.clone());
    let a = "A".to_owned();
    assert_eq!(market.quote(&a).unwrap().cents, 100);
    assert_eq!(market.scaled(&a, &3).unwrap().cents, 300);
    let error = market.quote(&"B".to_owned()).unwrap_err();
    assert_eq!((error.code(), error.to_string().contains("no quote")), (Code::NotFound, true));
    let watched: Vec<u64> = market.watch(&a).unwrap().map(|quote| quote.unwrap().cents).collect();
    assert_eq!(watched, [1, 2, 3]);
    let upload = market.sum().unwrap();
    for number in [1, 2, 39] {
        upload.send(&number).unwrap();
    }
    assert_eq!(upload.finish().unwrap(), 42);
    let (send, mut receive) = market.echo().unwrap().split();
    send.send(&"hello".to_owned()).unwrap();
    assert_eq!(receive.next().unwrap().unwrap(), "hello");
    send.finish(Ok(()));
    assert!(receive.next().is_none());
    assert_eq!(market.method_name().unwrap(), "market.v1.Market.MethodName");
    assert_eq!(market.length(b"abc").unwrap(), 3);
    assert_eq!(market.plain(&7).unwrap(), 7);
    // The caller awaits too.
    let short = ShortClient::new(client);
    assert_eq!(runtime.block_on(short.double_start(&21)).unwrap(), 42);
    assert_eq!(short.difference(&50, &8).unwrap(), 42);
    drop(server);
}
