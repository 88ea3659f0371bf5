//! Threads that share one client, deadlines, and the content of an error: `client_threads`.

use std::error::Error;
use std::thread;
use std::time::Duration;

use coreloop::client::{CallError, Client};
use coreloop::{Context, Server, Status};

const THREADS: u32 = 4;
const CALLS: u32 = 250;

struct Shop;

#[coreloop::service]
impl Shop {
    /// Returns the price of this many apples, in cents.
    #[rpc(inline)]
    fn price(&self, _cx: &Context, count: u32) -> Result<u32, Status> {
        count.checked_mul(40).ok_or_else(|| Status::out_of_range("we have not that many"))
    }

    /// Waits for a delivery that takes long.
    #[rpc(blocking)]
    fn restock(&self, cx: &Context) -> Result<u32, Status> {
        cx.sleep(Duration::from_secs(60))?;
        Ok(1)
    }
}

/// Prints the result of a call: for a failure, all that is known about it.
fn report(what: &str, result: Result<u32, CallError>) {
    match result {
        Ok(value) => println!("{what}: {value}"),
        // The error of the service itself.
        Err(CallError::Status(status)) => println!("{what}: the server says {status}"),
        // Every other error has a code too, and tells whether a repeated call could have a second effect.
        Err(error) => println!("{what}: {}, may have run: {}", error.code(), error.may_have_run()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder().cores(1).service(Shop).listen("127.0.0.1:0").start()?;
    let address = server.addresses()[0].to_string();
    println!("listening on {address}");

    // One connection, and one thread that drives it; a clone shares both.
    let client = Client::connect(&address)?;
    let shop = ShopClient::new(client.with_timeout(Duration::from_secs(10)));
    let sum: u64 = thread::scope(|scope| {
        let sum_of_prices =
            || -> Result<u64, CallError> { (0..CALLS).map(|count| Ok(u64::from(shop.price(&count)?))).sum() };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(sum_of_prices)).collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum::<Result<_, _>>()
    })?;
    let stats = client.stats();
    println!("{THREADS} threads: {} answers on {} connection, sum {sum}", stats.answered, stats.connects);

    report("4 apples", shop.price(&4));
    report("too many", shop.price(&u32::MAX));

    // The same connection with a shorter timeout. The server learns of the deadline, and wakes the handler.
    let hurried = ShopClient::new(client.with_timeout(Duration::from_millis(20)));
    match hurried.restock() {
        // From the server or from the client, whichever sees the deadline pass first.
        Err(error) => println!("in a hurry: {}, may have run: {}", error.code(), error.may_have_run()),
        Ok(_) => return Err("a delivery within 20 ms".into()),
    }

    // A client connects at its first call, so the error of a missing server appears there.
    let elsewhere = ShopClient::new(Client::builder("unix:/no/such/folder/socket").build()?);
    report("elsewhere", elsewhere.price(&1));

    server.shutdown();
    report("after closing time", shop.price(&1));
    Ok(())
}
