package main

import (
	"encoding/gob"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"reflect"
	"strconv"
	"sync"
)

// recorder records what is written to a connection.
type recorder struct {
	net.Conn
	lock    sync.Mutex
	written []byte
}

func (r *recorder) Write(bytes []byte) (int, error) {
	r.lock.Lock()
	r.written = append(r.written, bytes...)
	r.lock.Unlock()
	return r.Conn.Write(bytes)
}

// meet makes this process's gob encode count other types first: their ids are taken, as in a program that used gob before
// its first call.
func meet(count int) error {
	for n := 0; n < count; n++ {
		field := reflect.StructField{Name: "F" + strconv.Itoa(n), Type: reflect.TypeOf(0)}
		value := reflect.New(reflect.StructOf([]reflect.StructField{field})).Elem()
		if err := gob.NewEncoder(io.Discard).EncodeValue(value); err != nil {
			return err
		}
	}
	return nil
}

// capture prints what Go's client and server send to each other, one call after the other.
func capture(types string) error {
	count, err := strconv.Atoi(types)
	if err != nil {
		return err
	}
	if err := meet(count); err != nil {
		return err
	}
	server := rpc.NewServer()
	for _, service := range []any{new(Arith), new(Echo), new(Users)} {
		if err := server.Register(service); err != nil {
			return err
		}
	}
	near, far := net.Pipe()
	asked, answered := &recorder{Conn: near}, &recorder{Conn: far}
	go server.ServeConn(answered)
	client := rpc.NewClient(asked)
	type more struct {
		Extra map[string][]string
		B, A  int
	}
	for _, call := range []struct {
		method          string
		argument, reply any
	}{
		{"Arith.Add", &Args{6, 7}, new(int)},
		{"Arith.Add", &Args{}, new(int)},
		{"Arith.Divide", &Args{17, 5}, new(Quotient)},
		{"Arith.Divide", &Args{1, 0}, new(Quotient)},
		{"Arith.Add", more{map[string][]string{"x": {"y"}}, 7, 6}, new(int)},
		{"Echo.Echo", "é世", new(string)},
		{"Echo.Bytes", []byte{0, 1, 254, 255}, new([]byte)},
		// At most one score, since a map with several is written in any order.
		{"Users.Get", uint64(7), new(User)},
		{"Users.List", 1, new([]User)},
		{"Nobody.Add", &Args{1, 2}, new(int)},
		{"Arith.Nothing", "x", new(int)},
		{"NoDot", struct{}{}, new(int)},
		{"Arith.Add", &Args{20, 22}, new(int)},
	} {
		_ = client.Call(call.method, call.argument, call.reply)
	}
	client.Close()
	fmt.Printf("%x\n%x\n", asked.written, answered.written)
	return nil
}
