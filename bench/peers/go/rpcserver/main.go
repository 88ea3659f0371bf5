// Rpcserver serves with the standard library's net/rpc.
//
//	rpcserver gob|jsonrpc ADDRESS
//	rpcserver --version
package main

import (
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"runtime"

	"coreloop.example/peers/services"
)

func serve(protocol, address string) error {
	serveConn := rpc.ServeConn
	if protocol == "jsonrpc" {
		serveConn = func(connection io.ReadWriteCloser) { jsonrpc.ServeConn(connection) }
	} else if protocol != "gob" {
		return fmt.Errorf("no protocol %q", protocol)
	}
	for _, service := range []any{new(services.Arith), new(services.Echo), new(services.Users)} {
		if err := rpc.Register(service); err != nil {
			return err
		}
	}
	listener, err := services.Listen(address)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go serveConn(connection)
	}
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println(runtime.Version())
		return
	}
	if len(os.Args) != 3 {
		services.Fail(errors.New("wants a protocol and an address"))
	}
	services.Fail(serve(os.Args[1], os.Args[2]))
}
