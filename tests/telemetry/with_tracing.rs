//! Handlers inside spans of the `tracing` crate, as a subscriber of `tracing-subscriber` sees them.

use std::io;
use std::sync::{Arc, Mutex};

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::service::Kind;
use coreloop::trace::Tracer;
use coreloop::{Context, OwnedContext, Server, Status};
use tracing_subscriber::fmt::MakeWriter;

use crate::common::{eventually, serial};

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

struct Waits;

#[coreloop::service]
impl Waits {
    async fn twice(&self, cx: OwnedContext, n: i64) -> Result<i64, Status> {
        tracing::info!("before {}", cx.method());
        smol::future::yield_now().await;
        tracing::info!("after {}", cx.method());
        Ok(n)
    }
}

#[test]
fn what_a_handler_logs_has_the_ids_of_its_trace() {
    // The subscriber is that of the whole process.
    let _alone = serial();
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let mut config = coreloop::config::TraceConfig::default();
    config.sample_one_in = 1;
    let tracer = Tracer::new(&config);
    let log = |cx: &Context<'_>, n: i64| {
        tracing::info!("in {}", cx.method());
        Ok::<i64, Status>(n)
    };
    let server = Server::builder()
        .cores(1)
        .tracer(tracer.clone())
        .executor(|future| {
            std::thread::spawn(move || smol::block_on(future));
        })
        .service(Waits)
        .method_of_kind("Inline.Log", Kind::Inline, log)
        .method_of_kind("Pooled.Log", Kind::Pooled, log)
        .method_of_kind("Blocking.Log", Kind::Blocking, log)
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let client = Client::connect(server.addresses()[0].to_string()).unwrap();
    for method in ["Inline.Log", "Pooled.Log", "Blocking.Log", "Waits.Twice"] {
        client.call_bytes(method, Codec::Json, b"1").unwrap();
    }
    eventually("the spans are made", || tracer.recent().len() == 4);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for span in tracer.recent() {
        let of_method: Vec<&str> = text.lines().filter(|line| line.ends_with(&*span.name)).collect();
        assert_eq!(of_method.len(), if &*span.name == "Waits.Twice" { 2 } else { 1 }, "{text}");
        for line in of_method {
            let fields = format!(
                "call{{method=\"{}\" trace_id={} span_id={}}}",
                span.name,
                span.trace_id(),
                span.context.span_id
            );
            assert!(line.contains(&fields), "{line:?} has no {fields:?}");
        }
    }
}
