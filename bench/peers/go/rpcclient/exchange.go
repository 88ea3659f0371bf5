package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"coreloop.example/peers/services"
)

// exchange is an argument and a reply, used again for each call of a slot.
type exchange interface {
	// arm makes it ready for call number n.
	arm(n uint64) (args, reply any)
	// check says what is wrong with the reply.
	check() error
}

// exchangeOf is the method of a call, and what makes its exchanges.
func exchangeOf(call string) (string, func() exchange, error) {
	switch call {
	case "add":
		return "Arith.Add", func() exchange { return new(add) }, nil
	case "echo-1k":
		return "Echo.Bytes", func() exchange { return &echo{args: make([]byte, 1<<10)} }, nil
	case "echo-256k":
		return "Echo.Bytes", func() exchange { return &echo{args: make([]byte, 256<<10)} }, nil
	case "sleep":
		return "Echo.Sleep", func() exchange { return &sleep{args: 20} }, nil
	case "users-100":
		return "Users.List", func() exchange { return &users{args: 100} }, nil
	}
	return "", nil, fmt.Errorf("no call %q", call)
}

type add struct {
	args  services.Args
	reply int
}

func (x *add) arm(n uint64) (any, any) {
	x.args = services.Args{A: int(n), B: 7}
	x.reply = 0
	return &x.args, &x.reply
}

func (x *add) check() error {
	if x.reply != x.args.A+x.args.B {
		return fmt.Errorf("%d + %d is %d?", x.args.A, x.args.B, x.reply)
	}
	return nil
}

type echo struct {
	args, reply []byte
}

func (x *echo) arm(n uint64) (any, any) {
	binary.LittleEndian.PutUint64(x.args, n)
	x.reply = x.reply[:0]
	return &x.args, &x.reply
}

func (x *echo) check() error {
	if !bytes.Equal(x.args, x.reply) {
		return fmt.Errorf("an echo of %d other bytes", len(x.reply))
	}
	return nil
}

type sleep struct {
	args, reply int
}

func (x *sleep) arm(uint64) (any, any) {
	x.reply = 0
	return &x.args, &x.reply
}

func (x *sleep) check() error {
	if x.reply != x.args {
		return fmt.Errorf("slept %d ms in place of %d", x.reply, x.args)
	}
	return nil
}

// looksEvery is how often a list is compared in whole: of the others only the numbers are looked at.
const looksEvery = 256

type users struct {
	args  int
	reply []services.User
	n     uint64
}

func (x *users) arm(n uint64) (any, any) {
	x.n = n
	x.reply = nil
	return &x.args, &x.reply
}

func (x *users) check() error {
	if len(x.reply) != x.args {
		return fmt.Errorf("%d users in place of %d", len(x.reply), x.args)
	}
	for at, user := range x.reply {
		id := uint64(at) + 1
		if user.ID != id || x.n%looksEvery == 1 && !isSame(user, services.NewUser(id)) {
			return fmt.Errorf("%+v in place of user %d", user, id)
		}
	}
	return nil
}

func isSame(a, b services.User) bool {
	return a.ID == b.ID && a.Name == b.Name && a.Age == b.Age && a.Email == b.Email &&
		slices.Equal(a.Tags, b.Tags) && maps.Equal(a.Scores, b.Scores)
}
