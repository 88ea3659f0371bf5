// Rpcclient makes calls with the standard library's net/rpc client, of gob or of JSON-RPC.
//
//	rpcclient gob|jsonrpc ADDRESS --call add --connections 64 --depth 16 …
package main

import (
	"errors"
	"fmt"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"sync"
	"time"

	"coreloop.example/peers/load"
	"coreloop.example/peers/services"
)

// link has all its calls answered through one channel: a goroutine and a channel for each would cost more.
type link struct {
	client *rpc.Client
	method string
	done   chan *rpc.Call
	fresh  func() exchange
	calls  uint64

	mu       sync.Mutex
	inFlight map[*rpc.Call]*slot
	free     []*slot
}

// slot is one of the calls that may be in flight.
type slot struct {
	exchange
	due time.Time
}

func (l *link) Send(due time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var taken *slot
	if last := len(l.free) - 1; last >= 0 {
		taken, l.free = l.free[last], l.free[:last]
	} else {
		taken = &slot{exchange: l.fresh()}
	}
	l.calls++
	taken.due = due
	args, reply := taken.arm(l.calls)
	l.inFlight[l.client.Go(l.method, args, reply, l.done)] = taken
	return nil
}

// Flush has nothing to do: the client writes every call at once.
func (*link) Flush() error { return nil }

func (l *link) Receive(replies []load.Reply) ([]load.Reply, error) {
	call := <-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		answered := l.inFlight[call]
		if answered == nil {
			return nil, errors.New("an answer to no call")
		}
		delete(l.inFlight, call)
		l.free = append(l.free, answered)
		wrong := call.Error
		if wrong == nil {
			wrong = answered.check()
		} else if _, isAnswer := wrong.(rpc.ServerError); !isAnswer {
			return nil, wrong
		}
		replies = append(replies, load.Reply{Due: answered.due, Wrong: wrong})
		select {
		case call = <-l.done:
		default:
			return replies, nil
		}
	}
}

func main() {
	if len(os.Args) < 3 {
		services.Fail(errors.New("wants a protocol and an address"))
	}
	dial := rpc.Dial
	if os.Args[1] == "jsonrpc" {
		dial = jsonrpc.Dial
	} else if os.Args[1] != "gob" {
		services.Fail(fmt.Errorf("no protocol %q", os.Args[1]))
	}
	options, err := load.Parse(os.Args[3:])
	if err != nil {
		services.Fail(err)
	}
	method, fresh, err := exchangeOf(options.Call)
	if err != nil {
		services.Fail(err)
	}
	load.Main(options, func() (load.Link, error) {
		client, err := dial("tcp", os.Args[2])
		if err != nil {
			return nil, err
		}
		return &link{
			client: client,
			method: method,
			fresh:  fresh,
			// Room for every call in flight: the client drops answers that find none.
			done:     make(chan *rpc.Call, options.Depth),
			inFlight: map[*rpc.Call]*slot{},
		}, nil
	})
}
