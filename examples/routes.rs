//! Plain HTTP beside methods, on one port: `routes FOLDER [ADDR]`.
//!
//! A payment provider reports payments to a webhook, which accepts them only with the right signature; `Shop.Paid` counts
//! them, in any protocol; and a folder of files is served to browsers.
//!
//! ```text
//! curl -d 'order=7' -H 'X-Signature: f3924d17' http://ADDR/hooks/payments
//! curl -d '' http://ADDR/Shop/Paid
//! curl http://ADDR/static/index.html
//! ```

use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coreloop::route::{HttpMethod, RouteRequest, RouteResponse};
use coreloop::service::Kind;
use coreloop::{Context, Server, Status, signals};

#[derive(Default)]
struct Shop {
    paid: AtomicU64,
}

/// Counts the payments.
struct Payments(Arc<Shop>);

#[coreloop::service(name = "Shop")]
impl Payments {
    /// How many payments were reported.
    #[rpc(inline, idempotent)]
    fn paid(&self, _cx: &Context) -> Result<u64, Status> {
        Ok(self.0.paid.load(Ordering::Relaxed))
    }
}

/// Returns the signature of a body. Real providers use HMAC-SHA256 with a shared secret, and a comparison in constant
/// time.
fn signature(body: &[u8]) -> String {
    let mut hash = 0x811c_9dc5_u32;
    for byte in b"secret".iter().chain(body) {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    format!("{hash:08x}")
}

fn on_payment(shop: &Shop, request: &RouteRequest<'_>) -> Result<RouteResponse, Status> {
    if request.header("X-Signature") != Some(signature(request.body()).as_bytes()) {
        return Err(Status::unauthenticated("the field X-Signature does not fit the body"));
    }
    shop.paid.fetch_add(1, Ordering::Relaxed);
    Ok(RouteResponse::no_content())
}

/// Returns a file of the folder.
fn file(folder: &Path, request: &RouteRequest<'_>) -> Result<RouteResponse, Status> {
    // What a route captures has no `..`: the path stays within the folder.
    let name = match request.capture("path").unwrap_or_default() {
        "" => "index.html",
        name => name,
    };
    let bytes = match fs::read(folder.join(name)) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            return Ok(RouteResponse::text(format!("there is no file {name}\n")).status(404)?);
        }
        Err(error) => return Err(Status::internal(format!("{name}: {error}"))),
    };
    let content_type = match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let response = RouteResponse::new(200)?
        .header("Content-Type", content_type)?
        .header("X-Content-Type-Options", "nosniff")?
        .header("Cache-Control", "max-age=60")?;
    Ok(response.body(bytes))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let Some(folder) = args.next().map(PathBuf::from) else {
        return Err("usage: routes FOLDER [ADDR]".into());
    };
    let address = args.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let shop = Arc::new(Shop::default());
    let payments = Payments(shop.clone());
    let server = Server::builder()
        .service(payments)
        .route(HttpMethod::Post, "/hooks/payments", move |_cx, request| on_payment(&shop, &request))
        // Reading a file may block.
        .route_of_kind(HttpMethod::Get, "/static/{path..}", Kind::Blocking, move |_cx, request| {
            file(&folder, &request)
        })
        .listen(&address)
        .start()?;
    let stopper = server.stopper();
    let _signals = signals::on_stop(move |_signal| stopper.stop())?;
    println!("listening on {}", server.addresses()[0]);
    server.wait()?;
    Ok(())
}
