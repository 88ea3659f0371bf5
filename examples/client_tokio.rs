//! Calls that are awaited, here on tokio: `client_tokio`.
//!
//! A handle is a plain future. It works with any executor: the client's own thread receives the answer and wakes the
//! task.

use std::error::Error;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use coreloop::client::{CallError, Client};
use coreloop::{Context, Server, Status};

struct Library {
    events: Sender<&'static str>,
}

#[coreloop::service]
impl Library {
    /// Returns the number of pages of a book.
    fn pages(&self, _cx: &Context, book: u32) -> Result<u32, Status> {
        if book < 100 { Ok(book * 10) } else { Err(Status::not_found(format!("no book {book}"))) }
    }

    /// Waits until the book is returned, or the call is cancelled.
    #[rpc(blocking)]
    fn reserve(&self, cx: &Context, book: u32) -> Result<u32, Status> {
        let _ = self.events.send("reserved");
        let result = cx.sleep(Duration::from_secs(60));
        let _ = self.events.send("the reservation was given up");
        result.map(|()| book)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (events, received) = mpsc::channel();
    let server = Server::builder().cores(1).service(Library { events }).listen("127.0.0.1:0").start()?;
    let address = server.addresses()[0].to_string();
    println!("listening on {address}");

    // `connect` would block this thread; `build` does not, and `ready` completes when the connection is open.
    let client = Client::builder(&address).build()?;
    client.ready().await?;
    let library = LibraryClient::new(client.clone());
    println!("one: {} pages", library.pages_start(&7).await?);

    // A call is sent when it is started, not when it is awaited.
    let calls: Vec<_> = (0..100).map(|book| library.pages_start(&book)).collect();
    let mut sum = 0;
    for call in calls {
        sum += call.await?;
    }
    println!("a hundred: {sum} pages");

    let (one, other) = tokio::join!(library.pages_start(&1), library.pages_start(&1000));
    println!("two: {} pages, and {}", one?, other.expect_err("there is no such book"));

    // A task needs only a clone of the client, which shares the connection.
    let library = LibraryClient::new(client.clone());
    let task = tokio::spawn(async move {
        let pages = library.pages_start(&3).await?;
        Ok::<_, CallError>((pages, library))
    });
    let (pages, library) = task.await??;
    println!("in a task: {pages} pages");

    // Any timeout works: it drops the handle, which cancels the call on the server.
    let reserved = library.reserve_start(&5);
    let received = tokio::task::spawn_blocking(move || received.recv().map(|_| received)).await??;
    match tokio::time::timeout(Duration::from_millis(20), reserved).await {
        Err(_elapsed) => println!("nobody brought it back"),
        Ok(result) => return Err(format!("not what was expected: {result:?}").into()),
    }
    let event = tokio::task::spawn_blocking(move || received.recv()).await??;
    println!("the server: {event}");

    // `shutdown` waits for the server's threads and must not block a thread of the executor.
    drop((library, client));
    tokio::task::spawn_blocking(move || server.shutdown()).await?;
    Ok(())
}
