package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/rpc"
	"reflect"
	"strings"
	"sync"
	"time"
)

// failures collects the checks that failed.
type failures struct {
	lock sync.Mutex
	all  []string
}

func (f *failures) add(format string, values ...any) {
	f.lock.Lock()
	defer f.lock.Unlock()
	f.all = append(f.all, fmt.Sprintf(format, values...))
}

// same calls a method with a new result of want's type, and compares the result.
func (f *failures) same(client *rpc.Client, method string, argument, want any) {
	reply := reflect.New(reflect.TypeOf(want))
	if err := client.Call(method, argument, reply.Interface()); err != nil {
		f.add("%s(%v): %v", method, argument, err)
		return
	}
	if got := reply.Elem().Interface(); !reflect.DeepEqual(got, want) {
		f.add("%s(%v): got %#v, want %#v", method, argument, got, want)
	}
}

// refused calls a method that must fail with that text.
func (f *failures) refused(client *rpc.Client, method string, argument, reply any, text string) {
	err := client.Call(method, argument, reply)
	var server rpc.ServerError
	if !errors.As(err, &server) || !strings.Contains(err.Error(), text) {
		f.add("%s(%v): got the error %v, want %q", method, argument, err, text)
	}
}

func check(protocol, address string) error {
	client, err := dial(protocol, address)
	if err != nil {
		return err
	}
	defer client.Close()
	var f failures

	f.same(client, "Arith.Add", &Args{6, 7}, 13)
	f.same(client, "Arith.Multiply", Args{6, 7}, 42)
	f.same(client, "Arith.Multiply", &Args{-6, 7}, -42)
	f.same(client, "Arith.Add", &Args{}, 0)
	f.same(client, "Arith.Add", &Args{math.MaxInt64, 0}, math.MaxInt64)
	f.same(client, "Arith.Add", &Args{math.MinInt64, 0}, math.MinInt64)
	f.same(client, "Arith.Divide", &Args{17, 5}, Quotient{3, 2})
	f.refused(client, "Arith.Divide", &Args{1, 0}, new(Quotient), "divide by zero")
	// A caller with more, fewer or reordered fields.
	f.same(client, "Arith.Add", struct {
		Extra map[string][]string
		B, A  int
	}{map[string][]string{"x": {"y"}}, 7, 6}, 13)
	if protocol != "jsonrpc" {
		f.same(client, "Arith.Add", struct{ A int }{6}, 6)
		f.same(client, "Arith.Add", struct{}{}, 0)
		// None of the fields that were sent could be read.
		f.refused(client, "Arith.Add", struct{ X, Y int }{6, 7}, new(int),
			"type mismatch: no fields matched compiling decoder for Args")
	}
	f.same(client, "Arith.Divide", &Args{17, 5}, struct{ Rem int }{2})

	for _, text := range []string{"", "hello", "é世\x00\"\\", strings.Repeat("x", 100000)} {
		f.same(client, "Echo.Echo", text, text)
	}
	f.same(client, "Echo.Bytes", []byte{0, 1, 254, 255}, []byte{0, 1, 254, 255})
	large := bytes.Repeat([]byte("coreloop"), 1<<17)
	f.same(client, "Echo.Bytes", large, large)
	f.same(client, "Echo.Sleep", 1, 1)

	for _, id := range []uint64{0, 1, 2, 3, 11, 99, 100, 1 << 40} {
		want := newUser(id)
		if protocol == "jsonrpc" {
			// JSON distinguishes empty lists and maps from null; the services send them empty.
			if want.Tags == nil {
				want.Tags = []string{}
			}
			if want.Scores == nil {
				want.Scores = map[string]float64{}
			}
		}
		f.sameUser(client, id, want)
	}
	var users []User
	if err := client.Call("Users.List", 100, &users); err != nil || len(users) != 100 || users[99].ID != 100 {
		f.add("Users.List(100): %d users, %v", len(users), err)
	}
	f.refused(client, "Users.List", -1, &users, "n out of range")
	f.refused(client, "Users.List", 100001, &users, "n out of range")

	f.refused(client, "Nobody.Add", &Args{}, new(int), "rpc: can't find service Nobody.Add")
	f.refused(client, "Arith.Nothing", &Args{}, new(int), "rpc: can't find method Arith.Nothing")
	f.refused(client, "NoDot", &Args{}, new(int), "rpc: service/method request ill-formed: NoDot")
	// The connection still works after an error.
	f.same(client, "Arith.Add", &Args{1, 2}, 3)

	f.outOfOrder(client)
	f.manyInFlight(client)
	f.manyGoroutines(client)
	f.closeInMidCall(protocol, address)
	f.same(client, "Arith.Add", &Args{20, 22}, 42)

	if len(f.all) > 0 {
		return fmt.Errorf("%d answers are not as they must be:\n%s", len(f.all), strings.Join(f.all, "\n"))
	}
	fmt.Println("every answer is as it must be")
	return nil
}

func (f *failures) sameUser(client *rpc.Client, id uint64, want User) {
	var got User
	if err := client.Call("Users.Get", id, &got); err != nil {
		f.add("Users.Get(%d): %v", id, err)
		return
	}
	if len(got.Tags) == 0 && len(want.Tags) == 0 {
		got.Tags = want.Tags
	}
	if len(got.Scores) == 0 && len(want.Scores) == 0 {
		got.Scores = want.Scores
	}
	if !reflect.DeepEqual(got, want) {
		f.add("Users.Get(%d): got %#v, want %#v", id, got, want)
	}
}

// outOfOrder checks that a quick call overtakes a slow one on the same connection.
func (f *failures) outOfOrder(client *rpc.Client) {
	var slow, quick int
	slowCall := client.Go("Echo.Sleep", 2000, &slow, make(chan *rpc.Call, 1))
	quickCall := client.Go("Arith.Multiply", &Args{6, 7}, &quick, make(chan *rpc.Call, 1))
	select {
	case call := <-quickCall.Done:
		if call.Error != nil || quick != 42 {
			f.add("a quick call beside a slow one: %d, %v", quick, call.Error)
		}
	case <-slowCall.Done:
		f.add("a quick call waited for a slow one")
		<-quickCall.Done
	}
	if call := <-slowCall.Done; call.Error != nil || slow != 2000 {
		f.add("the slow call: %d, %v", slow, call.Error)
	}
}

// manyInFlight keeps a thousand calls in flight at once.
func (f *failures) manyInFlight(client *rpc.Client) {
	const count = 1000
	replies := make([]int, count)
	done := make(chan *rpc.Call, count)
	for index := range replies {
		client.Go("Arith.Multiply", &Args{index, 3}, &replies[index], done)
	}
	for range replies {
		if call := <-done; call.Error != nil {
			f.add("one of a thousand: %v", call.Error)
			return
		}
	}
	for index, reply := range replies {
		if reply != index*3 {
			f.add("%d × 3: got %d", index, reply)
		}
	}
}

// manyGoroutines calls from many goroutines that share one client.
func (f *failures) manyGoroutines(client *rpc.Client) {
	var all sync.WaitGroup
	for goroutine := 0; goroutine < 16; goroutine++ {
		all.Add(1)
		go func(goroutine int) {
			defer all.Done()
			for n := 0; n < 200; n++ {
				f.same(client, "Arith.Add", &Args{goroutine, n}, goroutine+n)
				if n%50 == 0 {
					f.sameUser(client, uint64(n+3), newUser(uint64(n+3)))
				}
			}
		}(goroutine)
	}
	all.Wait()
}

// closeInMidCall closes the connection during a call; other connections must not be affected.
func (f *failures) closeInMidCall(protocol, address string) {
	client, err := dial(protocol, address)
	if err != nil {
		f.add("a second connection: %v", err)
		return
	}
	var reply int
	call := client.Go("Echo.Sleep", 60000, &reply, make(chan *rpc.Call, 1))
	f.same(client, "Arith.Add", &Args{1, 1}, 2)
	client.Close()
	select {
	case <-call.Done:
		if call.Error == nil {
			f.add("a call on a closed connection ended well")
		}
	case <-time.After(time.Minute):
		f.add("a call on a closed connection did not end")
	}
}

// nothing calls methods without a result, with every kind of result variable that a caller may use.
func nothing(address string) error {
	client, err := dial("jsonrpc", address)
	if err != nil {
		return err
	}
	defer client.Close()
	var f failures
	for _, method := range []string{"Nothing.Unit", "Nothing.None"} {
		f.same(client, method, 1, struct{}{})
		f.same(client, method, 1, Quotient{})
		f.same(client, method, 1, map[string]int{})
		var any any
		if err := client.Call(method, 1, &any); err != nil {
			f.add("%s: %v", method, err)
		}
	}
	f.same(client, "Nothing.Some", 7, 7)
	f.same(client, "Nothing.Takes", struct{}{}, 1)
	// A result variable of another type gets an error and ends the connection, as with every reply that does not fit.
	if err := client.Call("Nothing.None", 1, new(int)); err == nil || !strings.Contains(err.Error(), "reading body") {
		f.add("Nothing.None into an int: got the error %v", err)
	}
	if len(f.all) > 0 {
		return errors.New(strings.Join(f.all, "\n"))
	}
	fmt.Println("every answer is as it must be")
	return nil
}
