//! Notes in an SQLite database, with sqlx: async methods on a tokio runtime.
//!
//! A call that waits for the database holds no thread. A call that is cancelled drops its query, and the connection returns
//! to the pool.

use std::error::Error;
use std::time::Duration;

use coreloop::client::{Client, MethodId, Starter, StreamCaller};
use coreloop::codec::Plain;
use coreloop::service::Method;
use coreloop::{Code, OwnedContext, Server, Sink, Status};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    id: i64,
    text: String,
}

impl From<(i64, String)> for Note {
    fn from((id, text): (i64, String)) -> Note {
        Note { id, text }
    }
}

/// Converts an error of the database: its text is not for callers.
fn failed(error: sqlx::Error) -> Status {
    match error {
        sqlx::Error::RowNotFound => Status::not_found("there is no such note"),
        error => {
            eprintln!("database: {error}");
            Status::unavailable("the database does not answer")
        }
    }
}

async fn add(pool: SqlitePool, text: String) -> Result<i64, Status> {
    let done = sqlx::query("INSERT INTO notes (text) VALUES (?)").bind(text).execute(&pool).await;
    Ok(done.map_err(failed)?.last_insert_rowid())
}

async fn get(pool: SqlitePool, id: i64) -> Result<Note, Status> {
    let found = sqlx::query_as("SELECT id, text FROM notes WHERE id = ?").bind(id).fetch_one(&pool).await;
    found.map(<(i64, String)>::into).map_err(failed)
}

/// Sends the notes that contain the text as the database finds them: no faster than the caller takes them.
async fn find(pool: SqlitePool, text: String, notes: Sink<Note>) -> Result<(), Status> {
    let found =
        sqlx::query_as::<_, (i64, String)>("SELECT id, text FROM notes WHERE instr(text, ?) ORDER BY id");
    let found = found.bind(text);
    let mut found = found.fetch(&pool);
    while let Some(note) = found.next().await {
        notes.send_message(&note.map_err(failed)?.into()).await?;
    }
    Ok(())
}

/// A query that takes longer than its caller waits.
async fn count_slowly(pool: SqlitePool) -> Result<i64, Status> {
    const COUNT: &str = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) \
                         SELECT n FROM numbers";
    let mut rows = sqlx::query_scalar::<_, i64>(COUNT).fetch(&pool);
    let mut last = 0;
    while let Some(row) = rows.next().await {
        last = row.map_err(failed)?;
    }
    Ok(last)
}

fn server(runtime: &tokio::runtime::Runtime, pool: &SqlitePool) -> Result<Server, coreloop::Error> {
    let handle = runtime.handle().clone();
    let (for_add, for_get, for_find, for_count) = (pool.clone(), pool.clone(), pool.clone(), pool.clone());
    let find = Method::async_server_stream::<Plain<String>, Plain<Note>, _, _>(
        "Notes.Find",
        move |_cx: OwnedContext, text, sink| find(for_find.clone(), text, sink),
    )?;
    Server::builder()
        .executor(move |future| drop(handle.spawn(future)))
        .async_method("Notes.Add", move |_cx, text: String| add(for_add.clone(), text))
        .async_method("Notes.Get", move |_cx, id: i64| get(for_get.clone(), id))
        .async_method("Notes.CountSlowly", move |_cx, (): ()| count_slowly(for_count.clone()))
        .method_of(find)
        .listen("127.0.0.1:0")
        .start()
}

static ADD: MethodId = MethodId::new("Notes.Add");
static GET: MethodId = MethodId::new("Notes.Get");
static FIND: MethodId = MethodId::new("Notes.Find");
static COUNT_SLOWLY: MethodId = MethodId::new("Notes.CountSlowly");

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // One connection: a call that kept it would stop all others.
    let pool = runtime.block_on(async {
        let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
        sqlx::query("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)").execute(&pool).await?;
        Ok::<_, sqlx::Error>(pool)
    })?;
    let server = server(&runtime, &pool)?;
    let client = Client::connect(&server.addresses()[0].to_string())?;

    runtime.block_on(async {
        // A thousand calls at once, for one connection to the database.
        let texts: Vec<String> = (0..1_000).map(|n| format!("note {n}")).collect();
        let calls: Vec<_> =
            texts.iter().map(|text| client.start::<Plain<String>, Plain<i64>>(&ADD, text)).collect();
        let mut first = i64::MAX;
        for call in calls {
            first = first.min(call.await?);
        }
        let note = client.start::<Plain<i64>, Plain<Note>>(&GET, &first).await?;
        println!("the first of 1000 notes: {} {:?}", note.id, note.text);
        let missing = client.start::<Plain<i64>, Plain<Note>>(&GET, &0).await.unwrap_err();
        println!("note 0: {missing}");
        let mut found = client.server_stream::<Plain<String>, Plain<Note>>(&FIND, &"99".to_owned())?;
        let mut count = 0;
        while let Some(note) = found.next_message().await {
            assert!(note?.text.contains("99"));
            count += 1;
        }
        println!("notes with 99: {count}");
        // The query is dropped at the deadline, and its connection serves the next call.
        let hurried = client.with_timeout(Duration::from_millis(100));
        let late = hurried.start::<Plain<()>, Plain<i64>>(&COUNT_SLOWLY, &()).await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        let again = client.start::<Plain<i64>, Plain<Note>>(&GET, &first).await?;
        println!("after a query that took too long: {} {:?}", again.id, again.text);
        Ok::<_, Box<dyn Error>>(())
    })?;
    assert_eq!(server.shutdown().async_in_flight, 0);
    Ok(())
}
