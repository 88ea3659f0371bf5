package main

import (
	"encoding/gob"
	"errors"
	"fmt"
	"time"
)

// Args are the arguments of Arith. The types are written in Go for coreloop's demo services.
type Args struct {
	A, B int
}

// Quotient is the result of Arith.Divide.
type Quotient struct {
	Quo, Rem int
}

// User is a record of Users.
type User struct {
	ID     uint64
	Name   string
	Age    uint8
	Email  string
	Tags   []string
	Scores map[string]float64
}

func newUser(id uint64) User {
	user := User{ID: id, Name: fmt.Sprintf("user-%d é世", id), Age: uint8(id % 100), Email: fmt.Sprintf("u%d@example.com", id)}
	for k := uint64(0); k < id%4; k++ {
		user.Tags = append(user.Tags, fmt.Sprintf("tag%d", k))
	}
	for k := uint64(0); k < id%3; k++ {
		if user.Scores == nil {
			user.Scores = map[string]float64{}
		}
		user.Scores[fmt.Sprintf("s%d", k)] = float64(id)*0.5 + float64(k)/3
	}
	return user
}

// Arith is the demo service of that name, written for net/rpc.
type Arith struct{}

// Add returns the sum.
func (*Arith) Add(args *Args, reply *int) error {
	*reply = args.A + args.B
	return nil
}

// Multiply returns the product.
func (*Arith) Multiply(args *Args, reply *int) error {
	*reply = args.A * args.B
	return nil
}

// Divide returns quotient and remainder.
func (*Arith) Divide(args *Args, reply *Quotient) error {
	if args.B == 0 {
		return errors.New("divide by zero")
	}
	reply.Quo, reply.Rem = args.A/args.B, args.A%args.B
	return nil
}

// Echo is the demo service of that name.
type Echo struct{}

// Echo returns its argument.
func (*Echo) Echo(text string, reply *string) error {
	*reply = text
	return nil
}

// Bytes returns its argument.
func (*Echo) Bytes(bytes []byte, reply *[]byte) error {
	*reply = bytes
	return nil
}

// Sleep waits for that many milliseconds.
func (*Echo) Sleep(ms int, reply *int) error {
	time.Sleep(time.Duration(ms) * time.Millisecond)
	*reply = ms
	return nil
}

// Users is the demo service of that name.
type Users struct{}

// Get returns the user with that number.
func (*Users) Get(id uint64, reply *User) error {
	*reply = newUser(id)
	return nil
}

// List returns the first n users.
func (*Users) List(n int, reply *[]User) error {
	if n < 0 || n > 100000 {
		return errors.New("n out of range")
	}
	*reply = make([]User, 0, n)
	for id := uint64(1); id <= uint64(n); id++ {
		*reply = append(*reply, newUser(id))
	}
	return nil
}

// Square and Circle are the results of Shapes.Any.
type Square struct {
	Side int
}

// Circle is round.
type Circle struct {
	Radius  float64
	Caption string
}

// Holder has an interface value, whose type gob defines in the middle of the value.
type Holder struct {
	First, Second any
}

// Shapes is a service of interfaces.
type Shapes struct{}

// Any returns two shapes.
func (*Shapes) Any(n int, reply *Holder) error {
	*reply = Holder{First: Square{Side: n}, Second: Circle{Radius: 0.5, Caption: "é"}}
	return nil
}

func init() {
	gob.Register(Square{})
	gob.Register(Circle{})
}
