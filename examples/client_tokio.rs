//! Calls that are awaited, here on tokio: `client_tokio`.
//!
//! A handle is a plain future. It needs nothing of the executor: the client's own thread brings the answer and wakes.

use std::error::Error;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use coreloop::client::{CallError, Client};
use coreloop::{Context, Server, Status};

struct Library {
    told: Sender<&'static str>,
}

#[coreloop::service]
impl Library {
    /// How many pages a book has.
    fn pages(&self, _cx: &Context, book: u32) -> Result<u32, Status> {
        if book < 100 { Ok(book * 10) } else { Err(Status::not_found(format!("no book {book}"))) }
    }

    /// Waits until somebody brings it back, or nobody waits any more.
    #[rpc(blocking)]
    fn reserve(&self, cx: &Context, book: u32) -> Result<u32, Status> {
        let _ = self.told.send("reserved");
        let result = cx.sleep(Duration::from_secs(60));
        let _ = self.told.send("the reservation was given up");
        result.map(|()| book)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (told, hears) = mpsc::channel();
    let server = Server::builder().cores(1).service(Library { told }).listen("127.0.0.1:0").start()?;
    let address = server.addresses()[0].to_string();
    println!("listening on {address}");

    // `connect` would wait on this thread; `build` does not, and `ready` says when there is a connection.
    let client = Client::builder(&address).build()?;
    client.ready().await?;
    let library = LibraryClient::new(client.clone());
    println!("one: {} pages", library.pages_start(&7).await?);

    // A call is on its way when it is started, not when it is awaited.
    let calls: Vec<_> = (0..100).map(|book| library.pages_start(&book)).collect();
    let mut sum = 0;
    for call in calls {
        sum += call.await?;
    }
    println!("a hundred: {sum} pages");

    let (one, other) = tokio::join!(library.pages_start(&1), library.pages_start(&1000));
    println!("two: {} pages, and {}", one?, other.expect_err("there is no such book"));

    // In a task: what it needs is a clone, which shares the connection.
    let library = LibraryClient::new(client.clone());
    let task = tokio::spawn(async move {
        let pages = library.pages_start(&3).await?;
        Ok::<_, CallError>((pages, library))
    });
    let (pages, library) = task.await??;
    println!("in a task: {pages} pages");

    // Any timeout will do: it drops the handle, and that cancels the call at the server.
    let reserved = library.reserve_start(&5);
    let hears = tokio::task::spawn_blocking(move || hears.recv().map(|_| hears)).await??;
    match tokio::time::timeout(Duration::from_millis(20), reserved).await {
        Err(_elapsed) => println!("nobody brought it back"),
        Ok(result) => return Err(format!("not what was expected: {result:?}").into()),
    }
    let said = tokio::task::spawn_blocking(move || hears.recv()).await??;
    println!("the server: {said}");

    // The server's end waits for its threads; that is not for a thread of the executor.
    drop((library, client));
    tokio::task::spawn_blocking(move || server.shutdown()).await?;
    Ok(())
}
