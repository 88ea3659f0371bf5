"""A receiver of OTLP over HTTP that decodes requests with the official definitions (the package opentelemetry-proto), and
refuses what breaks a rule of them.

    python3 otlp_receiver.py PORT FILE

Appends each request as a line of JSON to FILE, in the form that a Collector's file exporter has. A request that breaks a
rule is answered with 400 and appended as {"faults": [...]}.
"""

import base64
import gzip
import json
import math
import re
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

KINDS = {
    "/v1/traces": (trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse),
    "/v1/metrics": (metrics_service_pb2.ExportMetricsServiceRequest, metrics_service_pb2.ExportMetricsServiceResponse),
}
# Fields of bytes that are hexadecimal in OTLP's JSON, where protobuf's own JSON has base64.
IDS = {"traceId", "spanId", "parentSpanId"}
METRIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,254}")
SPAN_FLAGS = (
    trace_pb2.SPAN_FLAGS_TRACE_FLAGS_MASK
    | trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
    | trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
)


class Faults(Exception):
    pass


class Checker:
    """Collects what breaks a rule."""

    def __init__(self):
        self.faults = []

    def rule(self, holds, text):
        if not holds and len(self.faults) < 20:
            self.faults.append(text)

    def known(self, message):
        """No field is unknown, at any depth."""
        size = message.ByteSize()
        message.DiscardUnknownFields()
        self.rule(message.ByteSize() == size, f"{size - message.ByteSize()} bytes of unknown fields")

    def one_of(self, value, enum, name):
        """An enumeration has this value, which is not the unspecified one."""
        self.rule(value in enum.values() and value != 0, f"{name}: unknown value {value}")

    def id(self, value, length, name):
        self.rule(len(value) == length and any(value), f"{name}: expected {length} bytes that are not all 0; found {value.hex()}")

    def attributes(self, attributes, where):
        keys = [attribute.key for attribute in attributes]
        self.rule(all(keys), f"{where}: an attribute without a key")
        self.rule(len(set(keys)) == len(keys), f"{where}: a key twice in {keys}")
        for attribute in attributes:
            self.rule(attribute.value.WhichOneof("value") is not None, f"{where}: {attribute.key} has no value")

    def source(self, resource, scope):
        self.attributes(resource.attributes, "resource")
        named = [a.value.string_value for a in resource.attributes if a.key == "service.name"]
        self.rule(named and named[0], "resource: no service.name")
        self.rule(scope.name, "scope: no name")

    def span(self, span):
        where = f"span {span.name!r}"
        self.id(span.trace_id, 16, f"{where}: trace_id")
        self.id(span.span_id, 8, f"{where}: span_id")
        if span.parent_span_id:
            self.id(span.parent_span_id, 8, f"{where}: parent_span_id")
        self.rule(span.parent_span_id != span.span_id, f"{where}: its own parent")
        self.rule(span.name, "a span without a name")
        self.one_of(span.kind, trace_pb2.Span.SpanKind, f"{where}: kind")
        times = (span.start_time_unix_nano, span.end_time_unix_nano)
        self.rule(0 < times[0] <= times[1], f"{where}: from {times[0]} to {times[1]}")
        self.rule(span.flags & ~SPAN_FLAGS == 0, f"{where}: flags {span.flags:#x}")
        if span.HasField("status") and span.status.code != 0:
            self.one_of(span.status.code, trace_pb2.Status.StatusCode, f"{where}: status")
        is_error = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
        self.rule(is_error or not span.status.message, f"{where}: a message without an error")
        self.attributes(span.attributes, where)
        for event in span.events:
            self.rule(event.name, f"{where}: an event without a name")
            self.rule(times[0] <= event.time_unix_nano <= times[1], f"{where}: event at {event.time_unix_nano}, outside {times}")
            self.attributes(event.attributes, where)

    def number(self, point, where):
        self.rule(point.WhichOneof("value") is not None, f"{where}: no value")
        return point.as_int if point.WhichOneof("value") == "as_int" else point.as_double

    def histogram(self, point, where):
        counts, bounds = list(point.bucket_counts), list(point.explicit_bounds)
        self.rule(len(counts) == len(bounds) + 1, f"{where}: {len(counts)} counts, {len(bounds)} bounds")
        self.rule(point.count == sum(counts), f"{where}: count {point.count}, sum of the buckets {sum(counts)}")
        self.rule(all(a < b for a, b in zip(bounds, bounds[1:])), f"{where}: bounds {bounds}")
        self.rule(point.HasField("sum") and (point.sum >= 0) and math.isfinite(point.sum), f"{where}: sum {point.sum}")
        self.rule(point.count > 0 or point.sum == 0, f"{where}: sum {point.sum} of nothing")
        for exemplar in point.exemplars:
            self.id(exemplar.trace_id, 16, f"{where}: trace_id of an exemplar")
            self.id(exemplar.span_id, 8, f"{where}: span_id of an exemplar")
            value = self.number(exemplar, f"{where}: exemplar")
            # A bucket has its upper bound.
            bucket = sum(value > bound for bound in bounds)
            self.rule(counts[bucket] > 0, f"{where}: an exemplar of {value} in an empty bucket")
            self.rule(0 < exemplar.time_unix_nano <= time.time_ns() + 10**9, f"{where}: exemplar at {exemplar.time_unix_nano}")

    def metric(self, metric, kinds, seen):
        where = f"metric {metric.name!r}"
        self.rule(METRIC_NAME.fullmatch(metric.name), f"{where}: not a valid name")
        data = metric.WhichOneof("data")
        self.rule(data is not None, f"{where}: no data")
        if data is None:
            return
        kind = (data, metric.unit, metric.description)
        self.rule(kinds.setdefault(metric.name, kind) == kind, f"{where}: twice, and not the same")
        values = getattr(metric, data)
        self.rule(len(values.data_points) > 0, f"{where}: no points")
        if data in ("sum", "histogram"):
            cumulative = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
            self.rule(values.aggregation_temporality == cumulative, f"{where}: not cumulative")
        for point in values.data_points:
            self.attributes(point.attributes, where)
            key = (metric.name, tuple(sorted((a.key, a.value.SerializeToString()) for a in point.attributes)))
            self.rule(key not in seen, f"{where}: a point twice")
            seen.add(key)
            times = (point.start_time_unix_nano, point.time_unix_nano)
            self.rule(0 < times[0] <= times[1] <= time.time_ns() + 10**9, f"{where}: from {times[0]} to {times[1]}")
            if data == "histogram":
                self.histogram(point, where)
            else:
                value = self.number(point, where)
                self.rule(data != "sum" or not values.is_monotonic or value >= 0, f"{where}: a count of {value}")

    def request(self, request):
        self.known(request)
        for resource in getattr(request, "resource_spans", []):
            for scope in resource.scope_spans:
                self.source(resource.resource, scope.scope)
                self.rule(len(scope.spans) > 0, "no spans")
                for span in scope.spans:
                    self.span(span)
        for resource in getattr(request, "resource_metrics", []):
            for scope in resource.scope_metrics:
                self.source(resource.resource, scope.scope)
                kinds, seen = {}, set()
                for metric in scope.metrics:
                    self.metric(metric, kinds, seen)
        if self.faults:
            raise Faults(self.faults)


def parsed_json(text, message):
    """Reads OTLP's JSON: that of protobuf, with identifiers in hexadecimal and enumerations as numbers."""

    def unique(pairs):
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys):
            raise Faults([f"a key twice in {keys}"])
        return dict(pairs)

    def no_constant(name):
        raise Faults([f"{name} is not JSON"])

    def converted(value, key=""):
        if isinstance(value, dict):
            for name in value:
                if "_" in name:
                    raise Faults([f"{name}: keys are in lowerCamelCase"])
            return {name: converted(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [converted(each, key) for each in value]
        if key in IDS:
            if not re.fullmatch("([0-9a-f]{2})*", value):
                raise Faults([f"{key}: expected hexadecimal digits in lower case; found {value!r}"])
            return base64.b64encode(bytes.fromhex(value)).decode()
        if key.endswith("UnixNano") or key in ("intValue", "asInt", "count", "bucketCounts"):
            # A number of JSON has 53 bits.
            if not isinstance(value, str):
                raise Faults([f"{key}: expected a string; found {value!r}"])
        if key in ("kind", "code", "aggregationTemporality") and not isinstance(value, int):
            raise Faults([f"{key}: expected a number; found {value!r}"])
        return value

    tree = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant)
    return json_format.ParseDict(converted(tree), message, ignore_unknown_fields=False)


def as_collector(value, key=""):
    """Returns the dictionary of a request with identifiers as a Collector writes them."""
    if isinstance(value, dict):
        return {name: as_collector(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [as_collector(each, key) for each in value]
    return base64.b64decode(value).hex() if key in IDS else value


def main():
    port, path = int(sys.argv[1]), sys.argv[2]
    lock = threading.Lock()
    # Whole lines only, also when the process is killed.
    received = open(path, "ab", buffering=0)

    def keep(line):
        with lock:
            received.write(json.dumps(line).encode() + b"\n")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kind = self.headers["Content-Type"]
            try:
                if self.path not in KINDS:
                    raise Faults([f"unknown path {self.path}"])
                request, response = (message() for message in KINDS[self.path])
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                if kind == "application/json":
                    parsed_json(body, request)
                elif kind == "application/x-protobuf":
                    request.ParseFromString(body)
                else:
                    raise Faults([f"unknown content type {kind}"])
                Checker().request(request)
            except Exception as error:
                faults = error.args[0] if isinstance(error, Faults) else [f"{type(error).__name__}: {error}"]
                keep({"faults": faults})
                return self.answer(400, "text/plain", "\n".join(faults).encode())
            keep(as_collector(json_format.MessageToDict(request, use_integers_for_enums=True)))
            is_json = kind == "application/json"
            self.answer(200, kind, json_format.MessageToJson(response).encode() if is_json else response.SerializeToString())

        def answer(self, status, kind, body):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()


main()
