package main

import (
	"fmt"
	"net/rpc"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// load keeps DEPTH calls in flight on each of CONNECTIONS connections, and prints how many completed in SECONDS.
func load(protocol, address string, arguments []string) error {
	connections, err := strconv.Atoi(arguments[0])
	if err != nil {
		return err
	}
	depth, err := strconv.Atoi(arguments[1])
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseFloat(arguments[2], 64)
	if err != nil {
		return err
	}
	method := "Arith.Add"
	if len(arguments) > 3 {
		method = arguments[3]
	}
	var calls, failed atomic.Int64
	var all sync.WaitGroup
	stop := make(chan struct{})
	for n := 0; n < connections; n++ {
		client, err := dial(protocol, address)
		if err != nil {
			return err
		}
		defer client.Close()
		for d := 0; d < depth; d++ {
			all.Add(1)
			go func() {
				defer all.Done()
				drive(client, method, stop, &calls, &failed)
			}()
		}
	}
	began := time.Now()
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	count, took := calls.Load(), time.Since(began)
	close(stop)
	all.Wait()
	fmt.Printf("{\"calls\": %d, \"failed\": %d, \"seconds\": %.3f, \"calls_per_s\": %.0f}\n",
		count, failed.Load(), took.Seconds(), float64(count)/took.Seconds())
	return nil
}

func drive(client *rpc.Client, method string, stop chan struct{}, calls, failed *atomic.Int64) {
	args := &Args{6, 7}
	for {
		select {
		case <-stop:
			return
		default:
		}
		var reply int
		if err := client.Call(method, args, &reply); err != nil || reply == 0 {
			failed.Add(1)
			return
		}
		calls.Add(1)
	}
}
