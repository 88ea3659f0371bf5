//! The demo services over HTTP and JSON, on axum: `peer-axum ADDRESS --threads N`.
//!
//! As its documentation has it: a router, extractors, `axum::serve`. One thread is a current_thread runtime.

use std::io;

use axum::extract::{DefaultBodyLimit, Json};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{Router, post};
use kit::demo::{self, Base64};
use kit::server::{Arguments, announce};
use kit::{Args, User};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

fn main() -> io::Result<()> {
    let arguments = Arguments::read(&["axum", "hyper", "tokio"]);
    kit::raise_files_limit()?;
    let mut builder = match arguments.threads() {
        1 => Builder::new_current_thread(),
        threads => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    builder.enable_all().build()?.block_on(serve(&arguments))
}

async fn serve(arguments: &Arguments) -> io::Result<()> {
    let router = Router::new()
        .route("/Arith/Add", post(add))
        .route("/Echo/Bytes", post(echo))
        .route("/Users/List", post(list))
        .layer(DefaultBodyLimit::max(demo::BODY_BYTES_MAX));
    let (listener, address) = arguments.listen()?;
    let listener = TcpListener::from_std(listener)?;
    announce(address)?;
    axum::serve(listener, router).await
}

async fn add(Json(args): Json<Args>) -> Json<i64> {
    Json(args.sum())
}

async fn echo(Json(bytes): Json<Base64>) -> Json<Base64> {
    Json(bytes)
}

async fn list(Json(n): Json<i64>) -> Result<Json<Vec<User>>, Response> {
    let users = demo::users(n).map(Json);
    users.ok_or_else(|| (StatusCode::BAD_REQUEST, Json(demo::OUT_OF_RANGE)).into_response())
}
