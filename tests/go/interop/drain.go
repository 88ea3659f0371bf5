package main

import (
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"sync"
	"sync/atomic"
)

// drain keeps calling on several connections until the server ends them, one call after the other and several at once,
// and prints how many calls were answered. It prints a line when many calls are in flight. A call may fail only because
// its connection has ended.
func drain(protocol, address string) error {
	const connections, depth, enough = 4, 3, 2000
	var answered atomic.Int64
	var all sync.WaitGroup
	failures := make(chan error, connections*depth)
	for n := 0; n < connections; n++ {
		client, err := dial(protocol, address)
		if err != nil {
			return err
		}
		defer client.Close()
		for d := 0; d < depth; d++ {
			all.Add(1)
			go func(seed int) {
				defer all.Done()
				for i := seed; ; i++ {
					var product int
					if err := client.Call("Arith.Multiply", &Args{i, 3}, &product); err != nil {
						failures <- err
						return
					}
					if product != 3*i {
						failures <- fmt.Errorf("%d times 3 is not %d", i, product)
						return
					}
					if answered.Add(1) == enough {
						fmt.Println("calls in flight")
					}
				}
			}(d * 1000)
		}
	}
	all.Wait()
	close(failures)
	for err := range failures {
		if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, rpc.ErrShutdown) {
			return err
		}
	}
	fmt.Printf("answered %d\n", answered.Load())
	return nil
}
