// Interop tests coreloop against net/rpc of Go's standard library, as client and as server.
//
//	interop check PROTOCOL ADDR    calls every demo service and compares each answer
//	interop serve PROTOCOL [ADDR]  serves the same services with net/rpc; prints `listening on ADDR`
//	interop capture TYPES          prints both directions of a net/rpc connection in gob, as hex, after TYPES other types were registered
//	interop nothing ADDR           calls methods of JSON-RPC without a result
//	interop drain PROTOCOL ADDR    calls until the server ends the connections; prints how many calls were answered
//	interop load PROTOCOL ADDR CONNECTIONS DEPTH SECONDS [METHOD]
//
// PROTOCOL is gob, dialhttp or jsonrpc, and for serve also web: HTTP without net/rpc. ADDR may be unix:PATH. The calls do
// not depend on the other side being coreloop.
package main

import (
	"fmt"
	"net"
	"net/http"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"strings"
)

// split separates an address into network and address.
func split(address string) (string, string) {
	if path, isUnix := strings.CutPrefix(address, "unix:"); isUnix {
		return "unix", path
	}
	return "tcp", address
}

func dial(protocol, address string) (*rpc.Client, error) {
	network, address := split(address)
	switch protocol {
	case "gob":
		return rpc.Dial(network, address)
	case "dialhttp":
		return rpc.DialHTTP(network, address)
	case "jsonrpc":
		return jsonrpc.Dial(network, address)
	}
	return nil, fmt.Errorf("no protocol %q", protocol)
}

func serve(protocol, address string) error {
	for _, service := range []any{new(Arith), new(Echo), new(Users), new(Shapes)} {
		if err := rpc.Register(service); err != nil {
			return err
		}
	}
	listener, err := net.Listen(split(address))
	if err != nil {
		return err
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	if protocol == "web" {
		return http.Serve(listener, nil)
	}
	if protocol == "dialhttp" {
		rpc.HandleHTTP()
		return http.Serve(listener, nil)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		if protocol == "jsonrpc" {
			go jsonrpc.ServeConn(connection)
		} else {
			go rpc.ServeConn(connection)
		}
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 3 && arguments[0] == "check":
		return check(arguments[1], arguments[2])
	case len(arguments) == 2 && arguments[0] == "serve":
		return serve(arguments[1], "127.0.0.1:0")
	case len(arguments) == 3 && arguments[0] == "serve":
		return serve(arguments[1], arguments[2])
	case len(arguments) == 2 && arguments[0] == "capture":
		return capture(arguments[1])
	case len(arguments) == 2 && arguments[0] == "nothing":
		return nothing(arguments[1])
	case len(arguments) == 3 && arguments[0] == "drain":
		return drain(arguments[1], arguments[2])
	case len(arguments) >= 6 && arguments[0] == "load":
		return load(arguments[1], arguments[2], arguments[3:])
	}
	return fmt.Errorf("see the head of main.go for how to call it")
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "interop: %v\n", err)
		os.Exit(1)
	}
}
