//! Notes in an SQLite database, with sqlx: async methods on a tokio runtime.
//!
//! A call that waits for the database holds no thread. A call that is cancelled drops its query, and the connection returns
//! to the pool.

use std::error::Error;
use std::time::Duration;

use coreloop::client::Client;
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

/// An error of the database: its text is not for callers.
struct DatabaseError(sqlx::Error);

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> DatabaseError {
        DatabaseError(error)
    }
}

impl From<DatabaseError> for Status {
    fn from(DatabaseError(error): DatabaseError) -> Status {
        match error {
            sqlx::Error::RowNotFound => Status::not_found("there is no such note"),
            error => {
                eprintln!("database: {error}");
                Status::unavailable("the database does not answer")
            }
        }
    }
}

struct Notes {
    pool: SqlitePool,
}

#[coreloop::service]
impl Notes {
    async fn add(&self, _cx: OwnedContext, text: String) -> Result<i64, DatabaseError> {
        let done = sqlx::query("INSERT INTO notes (text) VALUES (?)").bind(text).execute(&self.pool).await?;
        Ok(done.last_insert_rowid())
    }

    async fn get(&self, _cx: OwnedContext, id: i64) -> Result<Note, DatabaseError> {
        let found = sqlx::query_as::<_, (i64, String)>("SELECT id, text FROM notes WHERE id = ?").bind(id);
        Ok(found.fetch_one(&self.pool).await?.into())
    }

    /// Sends the notes that contain the text as the database finds them: no faster than the caller takes them.
    async fn find(&self, _cx: OwnedContext, text: String, notes: Sink<Note>) -> Result<(), Status> {
        const FIND: &str = "SELECT id, text FROM notes WHERE instr(text, ?) ORDER BY id";
        let mut found = sqlx::query_as::<_, (i64, String)>(FIND).bind(text).fetch(&self.pool);
        while let Some(note) = found.next().await {
            notes.send_message(&note.map_err(DatabaseError)?.into()).await?;
        }
        Ok(())
    }

    /// A query that takes longer than its caller waits.
    async fn count_slowly(&self, _cx: OwnedContext) -> Result<i64, DatabaseError> {
        const COUNT: &str = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) \
                             SELECT n FROM numbers";
        let mut rows = sqlx::query_scalar::<_, i64>(COUNT).fetch(&self.pool);
        let mut last = 0;
        while let Some(row) = rows.next().await {
            last = row?;
        }
        Ok(last)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // One connection: a call that kept it would stop all others.
    let pool = runtime.block_on(async {
        let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
        sqlx::query("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)").execute(&pool).await?;
        Ok::<_, sqlx::Error>(pool)
    })?;
    let handle = runtime.handle().clone();
    let server = Server::builder()
        .executor(move |future| drop(handle.spawn(future)))
        .service(Notes { pool })
        .listen("127.0.0.1:0")
        .start()?;
    let client = Client::connect(&server.addresses()[0].to_string())?;
    let notes = NotesClient::new(client.clone());

    runtime.block_on(async {
        // A thousand calls at once, for one connection to the database.
        let calls: Vec<_> = (0..1_000).map(|n| notes.add_start(&format!("note {n}"))).collect();
        let mut first = i64::MAX;
        for call in calls {
            first = first.min(call.await?);
        }
        let note = notes.get_start(&first).await?;
        println!("the first of 1000 notes: {} {:?}", note.id, note.text);
        let missing = notes.get_start(&0).await.unwrap_err();
        println!("note 0: {missing}");
        let mut found = notes.find(&"99".to_owned())?;
        let mut count = 0;
        while let Some(note) = found.next_message().await {
            assert!(note?.text.contains("99"));
            count += 1;
        }
        println!("notes with 99: {count}");
        // The query is dropped at the deadline, and its connection serves the next call.
        let hurried = NotesClient::new(client.with_timeout(Duration::from_millis(100)));
        let late = hurried.count_slowly_start().await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        let again = notes.get_start(&first).await?;
        println!("after a query that took too long: {} {:?}", again.id, again.text);
        Ok::<_, Box<dyn Error>>(())
    })?;
    assert_eq!(server.shutdown().async_in_flight, 0);
    Ok(())
}
