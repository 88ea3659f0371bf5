// Pingclient makes redis's PING and checks each answer; the calls that the answers of one read make due leave in one write.
//
//	pingclient ADDRESS --call ping --connections 64 --depth 16 …
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"coreloop.example/peers/load"
	"coreloop.example/peers/services"
)

const (
	// As clients send it: an array of one string (RESP2).
	ping = "*1\r\n$4\r\nPING\r\n"
	pong = "+PONG\r\n"
)

type link struct {
	conn  net.Conn
	out   []byte
	input [64 << 10]byte
	// kept is the length of the beginning of an answer, in front of input.
	kept int

	mu sync.Mutex
	// due are those of the calls without an answer, in order.
	due []time.Time
}

func (l *link) Send(due time.Time) error {
	l.mu.Lock()
	l.due = append(l.due, due)
	l.mu.Unlock()
	l.out = append(l.out, ping...)
	return nil
}

func (l *link) Flush() error {
	_, err := l.conn.Write(l.out)
	l.out = l.out[:0]
	return err
}

func (l *link) Receive(replies []load.Reply) ([]load.Reply, error) {
	for len(replies) == 0 {
		read, err := l.conn.Read(l.input[l.kept:])
		if err != nil {
			return nil, err
		}
		bytes := l.input[:l.kept+read]
		l.mu.Lock()
		for len(bytes) >= len(pong) {
			// Whoever says something else is lost: nothing tells where its answer ends.
			if string(bytes[:len(pong)]) != pong || len(l.due) == 0 {
				l.mu.Unlock()
				return nil, fmt.Errorf("%q in place of a PONG that was asked for", bytes[:len(pong)])
			}
			bytes = bytes[len(pong):]
			replies = append(replies, load.Reply{Due: l.due[0]})
			l.due = l.due[1:]
		}
		l.mu.Unlock()
		l.kept = copy(l.input[:], bytes)
	}
	return replies, nil
}

func main() {
	if len(os.Args) < 2 {
		services.Fail(errors.New("wants an address"))
	}
	options, err := load.Parse(os.Args[2:])
	if err != nil {
		services.Fail(err)
	}
	if options.Call != "ping" {
		services.Fail(fmt.Errorf("no call %q", options.Call))
	}
	load.Main(options, func() (load.Link, error) {
		conn, err := net.Dial("tcp", os.Args[1])
		if err != nil {
			return nil, err
		}
		return &link{conn: conn}, nil
	})
}
