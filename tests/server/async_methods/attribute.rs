//! Async functions of a service made by the attribute: what becomes of their futures.

use std::time::Duration;

use coreloop::client::Client;
use coreloop::{Code, OwnedContext, Sink, Status, Stream};

use super::{Alive, executors, scene_with};
use crate::common::{eventually, shared};

struct Waits {
    alive: Alive,
}

#[coreloop::service]
impl Waits {
    /// Waits until it is dropped.
    async fn forever(&self, cx: OwnedContext, number: i64) -> Result<i64, Status> {
        let _life = self.alive.begin();
        assert_eq!(cx.method(), "Waits.Forever");
        std::future::pending::<()>().await;
        Ok(number)
    }

    /// Sends until it is dropped.
    async fn flood(&self, _cx: OwnedContext, bytes: usize, sink: Sink<String>) -> Result<(), Status> {
        let _life = self.alive.begin();
        let text = "x".repeat(bytes);
        loop {
            sink.send_message(&text).await?;
        }
    }

    /// Sends the sums of what it has received.
    async fn sums(&self, _cx: OwnedContext, mut numbers: Stream<i64>, sums: Sink<i64>) -> Result<(), Status> {
        let _life = self.alive.begin();
        let mut sum = 0;
        while let Some(number) = numbers.next_message().await {
            sum += number?;
            sums.send_message(&sum).await?;
        }
        Ok(())
    }

    /// Takes one message, and fails.
    async fn refuses(&self, _cx: OwnedContext, mut numbers: Stream<i64>) -> Result<i64, Status> {
        let _life = self.alive.begin();
        match numbers.next_message().await {
            Some(number) => Err(Status::aborted(number?.to_string())),
            None => Ok(0),
        }
    }
}

#[test]
fn calls_that_are_given_up_drop_their_futures() {
    let _turn = shared();
    for executor in executors() {
        let alive = Alive::default();
        let waits = Waits { alive: alive.clone() };
        let scene = scene_with(executor, |_| {}, |builder| builder.service(waits));
        let client = Client::connect(scene.server().addresses()[0].to_string()).unwrap();
        let waits = WaitsClient::new(client.clone());
        // A handle that is dropped cancels its call.
        let call = waits.forever_start(&1);
        alive.wait_for(1);
        drop(call);
        alive.wait_for(0);
        let late = WaitsClient::new(client.with_timeout(Duration::from_millis(10)));
        assert_eq!(late.forever(&1).unwrap_err().code(), Code::DeadlineExceeded);
        alive.wait_for(0);
        // A stream that is dropped, with messages on their way.
        let mut flood = waits.flood(&10_000).unwrap();
        assert_eq!(flood.next().unwrap().unwrap().len(), 10_000);
        assert_eq!(alive.count(), 1);
        drop(flood);
        alive.wait_for(0);
        // One that is given up, and one that ends.
        let (send, mut sums) = waits.sums().unwrap().split();
        for (number, sum) in [(1, 1), (2, 3), (3, 6)] {
            send.send(&number).unwrap();
            assert_eq!(sums.next().unwrap().unwrap(), sum);
        }
        drop(sums);
        alive.wait_for(0);
        let (send, sums) = waits.sums().unwrap().split();
        send.send(&5).unwrap();
        send.finish(Ok(()));
        assert_eq!(sums.map(Result::unwrap).collect::<Vec<_>>(), [5]);
        // One whose handler ends before its caller does.
        let upload = waits.refuses().unwrap();
        upload.send(&7).unwrap();
        let error = upload.finish().unwrap_err();
        assert_eq!((error.code(), error.to_string().contains('7')), (Code::Aborted, true), "{error}");
        alive.wait_for(0);
        // The connection is lost.
        let call = waits.forever_start(&1);
        alive.wait_for(1);
        drop((waits, late, client));
        drop(call);
        alive.wait_for(0);
        eventually("no future is counted", || scene.in_flight() == 0);
    }
}
