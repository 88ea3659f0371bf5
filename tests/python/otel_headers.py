"""The propagators of OpenTelemetry's Python SDK, as an oracle for tests/otlp/propagation.rs.

Reads a line of JSON for each case, and writes one with the answer; tests/go/otel has the same for Go:

    {"extract": "w3c" | "b3" | "both", "headers": [[NAME, VALUE], …]}  →  {"context": "TRACE SPAN SAMPLED STATE" | null}
    {"extract": "baggage", "headers": …}                               →  {"baggage": {KEY: VALUE, …}}
    {"inject": "w3c" | "b3" | "b3multi", "context": "TRACE SPAN SAMPLED STATE"}  →  {"headers": [[NAME, VALUE], …]}
"""

import json
import logging
import sys

from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

logging.disable()
PROPAGATORS = {
    "w3c": TraceContextTextMapPropagator(),
    "b3": B3SingleFormat(),
    "b3multi": B3MultiFormat(),
    "baggage": W3CBaggagePropagator(),
    # The last that finds a context decides.
    "both": CompositePropagator([B3SingleFormat(), TraceContextTextMapPropagator()]),
}


class Headers(Getter):
    """Headers as a server has them: names in any case, values without the spaces around them."""

    def get(self, carrier, key):
        values = [value.strip(" \t") for name, value in carrier if name.lower() == key.lower()]
        return values or None

    def keys(self, carrier):
        return [name for name, _ in carrier]


def extracted(case):
    context = PROPAGATORS[case["extract"]].extract(case["headers"], Context(), Headers())
    if case["extract"] == "baggage":
        return {"baggage": dict(baggage.get_all(context))}
    found = trace.get_current_span(context).get_span_context()
    if not found.is_valid:
        return {"context": None}
    state = found.trace_state.to_header()
    return {"context": f"{found.trace_id:032x} {found.span_id:016x} {int(found.trace_flags.sampled)} {state}"}


def injected(case):
    ids = case["context"].split(" ", 3)
    context = trace.SpanContext(
        int(ids[0], 16), int(ids[1], 16), False, trace.TraceFlags(int(ids[2])), trace.TraceState.from_header([ids[3]])
    )
    headers = {}
    span = trace.set_span_in_context(trace.NonRecordingSpan(context), Context())
    PROPAGATORS[case["inject"]].inject(headers, span)
    return {"headers": sorted(headers.items())}


for line in sys.stdin:
    case = json.loads(line)
    print(json.dumps(extracted(case) if "extract" in case else injected(case)))
