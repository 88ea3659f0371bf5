//! The demo services over HTTP and JSON, on ntex: `peer-ntex ADDRESS --threads N`.
//!
//! As its documentation has it: an `App` of resources with typed extractors, a worker per thread.

use std::io;

use kit::Args;
use kit::demo::{self, Base64};
use kit::server::{Arguments, announce};
use ntex::web::types::{Json, JsonConfig};
use ntex::web::{self, App, HttpResponse, HttpServer};

#[ntex::main]
async fn main() -> io::Result<()> {
    let arguments = Arguments::read(&["ntex"]);
    kit::raise_files_limit()?;
    let (listener, address) = arguments.listen()?;
    let server = HttpServer::new(async || {
        App::new()
            .state(JsonConfig::default().limit(demo::BODY_BYTES_MAX))
            .service(web::resource("/Arith/Add").route(web::post().to(add)))
            .service(web::resource("/Echo/Bytes").route(web::post().to(echo)))
            .service(web::resource("/Users/List").route(web::post().to(list)))
    });
    let server = server.workers(arguments.threads()).listen(listener)?.run();
    announce(address)?;
    server.await
}

async fn add(args: Json<Args>) -> HttpResponse {
    HttpResponse::Ok().json(&args.sum())
}

async fn echo(bytes: Json<Base64>) -> HttpResponse {
    HttpResponse::Ok().json(&*bytes)
}

async fn list(n: Json<i64>) -> HttpResponse {
    match demo::users(*n) {
        Some(users) => HttpResponse::Ok().json(&users),
        None => HttpResponse::BadRequest().json(&demo::OUT_OF_RANGE),
    }
}
