"""The last program of the chain in tests/otlp/chain.rs: an HTTP server with the OpenTelemetry SDK of Python.

    python3 otel_server.py

Prints `listening on PORT`. Answers POST /Back/Go as a Connect server does: with the number of the request plus one, and with
what it has received of the trace. Ends, and exports its last spans, when its input ends. The environment says where spans go
(OTEL_EXPORTER_OTLP_ENDPOINT), and which headers are read (OTEL_PROPAGATORS).
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry import baggage, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
tracer = provider.get_tracer("chain")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        number = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        context = propagate.extract({name.lower(): value for name, value in self.headers.items()})
        name = self.path.lstrip("/").replace("/", ".")
        with tracer.start_as_current_span(name, context, trace.SpanKind.SERVER) as span:
            seen = {
                "number": number + 1,
                "baggage": dict(baggage.get_all(context)),
                "state": span.get_span_context().trace_state.to_header(),
            }
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"listening on {server.server_port}", flush=True)
sys.stdin.read()
server.shutdown()
provider.shutdown()
