// The OpenTelemetry SDK of Go, for tests/otlp.
//
//	otel call URL      the first program of a chain: two calls, of which the second is sampled; prints both answers.
//	                   The environment says where spans go (OTEL_EXPORTER_OTLP_ENDPOINT), and which headers are sent
//	                   (OTEL_PROPAGATORS: tracecontext or b3)
//	otel headers       the propagators as an oracle: tests/python/otel_headers.py says what is read and written
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sort"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/contrib/propagators/b3"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

var propagators = map[string]propagation.TextMapPropagator{
	"w3c":     propagation.TraceContext{},
	"b3":      b3.New(),
	"b3multi": b3.New(b3.WithInjectEncoding(b3.B3MultipleHeader)),
	"baggage": propagation.Baggage{},
	// The last that finds a context decides.
	"both": propagation.NewCompositeTextMapPropagator(b3.New(), propagation.TraceContext{}),
}

func main() {
	log.SetFlags(0)
	// What an oracle refuses is an answer, not an error.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	switch {
	case len(os.Args) == 3 && os.Args[1] == "call":
		call(os.Args[2])
	case len(os.Args) == 2 && os.Args[1] == "headers":
		headers()
	default:
		log.Fatal("usage: otel call URL | otel headers")
	}
}

// Samples what the context of the call says, and begins a tracestate.
type sampler struct{}

type sampledKey struct{}

func (sampler) Description() string { return "of the chain" }

func (sampler) ShouldSample(parameters sdktrace.SamplingParameters) sdktrace.SamplingResult {
	state, err := trace.ParseTraceState("chain=1,other=a b")
	check(err)
	decision := sdktrace.Drop
	if parameters.ParentContext.Value(sampledKey{}) == true {
		decision = sdktrace.RecordAndSample
	}
	return sdktrace.SamplingResult{Decision: decision, Tracestate: state}
}

func call(url string) {
	background := context.Background()
	exporter, err := otlptracehttp.New(background)
	check(err)
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithSampler(sampler{}))
	format := propagators["w3c"]
	if os.Getenv("OTEL_PROPAGATORS") == "b3" {
		format = propagators["b3"]
	}
	client := http.Client{Transport: otelhttp.NewTransport(http.DefaultTransport,
		otelhttp.WithTracerProvider(provider),
		otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator(format, propagation.Baggage{})))}
	bag, err := baggage.Parse("tenant=7,user=J%C3%BCrgen")
	check(err)
	for _, isSampled := range []bool{false, true} {
		called := context.WithValue(baggage.ContextWithBaggage(background, bag), sampledKey{}, isSampled)
		request, err := http.NewRequestWithContext(called, "POST", url, strings.NewReader("40"))
		check(err)
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		check(err)
		body, err := io.ReadAll(response.Body)
		check(err)
		// The span ends with the body.
		check(response.Body.Close())
		if response.StatusCode != 200 {
			log.Fatalf("%s: %s", response.Status, body)
		}
		fmt.Printf("%s\n", body)
	}
	check(provider.Shutdown(background))
}

type question struct {
	Extract, Inject, Context string
	Headers                  [][2]string
}

func headers() {
	input, output := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	defer output.Flush()
	for {
		line, err := input.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		check(err)
		var asked question
		check(json.Unmarshal(line, &asked))
		answer := injected
		if asked.Extract != "" {
			answer = extracted
		}
		text, err := json.Marshal(answer(asked))
		check(err)
		fmt.Fprintf(output, "%s\n", text)
	}
}

func extracted(asked question) map[string]any {
	// As a server has them: names in any case, values without the spaces around them.
	fields := http.Header{}
	for _, header := range asked.Headers {
		fields.Add(header[0], strings.Trim(header[1], " \t"))
	}
	found := propagators[asked.Extract].Extract(context.Background(), propagation.HeaderCarrier(fields))
	if asked.Extract == "baggage" {
		members := map[string]string{}
		for _, member := range baggage.FromContext(found).Members() {
			members[member.Key()] = member.Value()
		}
		return map[string]any{"baggage": members}
	}
	span := trace.SpanContextFromContext(found)
	if !span.IsValid() {
		return map[string]any{"context": nil}
	}
	sampled := 0
	if span.IsSampled() {
		sampled = 1
	}
	return map[string]any{"context": fmt.Sprintf("%s %s %d %s", span.TraceID(), span.SpanID(), sampled, span.TraceState())}
}

func injected(asked question) map[string]any {
	parts := strings.SplitN(asked.Context, " ", 4)
	var config trace.SpanContextConfig
	_, err := hex.Decode(config.TraceID[:], []byte(parts[0]))
	check(err)
	_, err = hex.Decode(config.SpanID[:], []byte(parts[1]))
	check(err)
	config.TraceFlags = config.TraceFlags.WithSampled(parts[2] == "1")
	config.TraceState, err = trace.ParseTraceState(parts[3])
	check(err)
	fields := propagation.MapCarrier{}
	span := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(config))
	propagators[asked.Inject].Inject(span, fields)
	written := [][2]string{}
	for name, value := range fields {
		written = append(written, [2]string{name, value})
	}
	sort.Slice(written, func(a, b int) bool { return written[a][0] < written[b][0] })
	return map[string]any{"headers": written}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
