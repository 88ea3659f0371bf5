package services

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
)

// Listen opens the address and says so on standard output; from then on SIGTERM ends the process.
func Listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		os.Exit(0)
	}()
	fmt.Printf("listening on %s\n", listener.Addr())
	return listener, nil
}

// Fail says what went wrong and ends the process.
func Fail(err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
	os.Exit(1)
}
