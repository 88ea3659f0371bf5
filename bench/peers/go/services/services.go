// Package services holds the services of the comparison, as coreloop serves them, and how a server of them begins and ends.
//
// It imports the standard library alone: Gin's peer, which is built without modules, imports it by its path.
package services

import (
	"errors"
	"fmt"
	"time"
)

// ListMax is how many users are listed at most, SleepMax how many milliseconds are slept at most.
const (
	ListMax  = 100_000
	SleepMax = 60_000
)

// Args are what Arith takes.
type Args struct {
	A, B int
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

// NewUser is the user of that number. Its slice and its map are never nil: JSON would say null.
func NewUser(id uint64) User {
	user := User{
		ID:     id,
		Name:   fmt.Sprintf("user-%d é世", id),
		Age:    uint8(id % 100),
		Email:  fmt.Sprintf("u%d@example.com", id),
		Tags:   make([]string, id%4),
		Scores: make(map[string]float64, id%3),
	}
	for k := range user.Tags {
		user.Tags[k] = fmt.Sprintf("tag%d", k)
	}
	for k := uint64(0); k < id%3; k++ {
		user.Scores[fmt.Sprintf("s%d", k)] = float64(id)*0.5 + float64(k)/3
	}
	return user
}

// ListUsers gives the first n users.
func ListUsers(n int) ([]User, error) {
	if n < 0 || n > ListMax {
		return nil, errors.New("n out of range")
	}
	users := make([]User, n)
	for at := range users {
		users[at] = NewUser(uint64(at) + 1)
	}
	return users, nil
}

// Arith is the service of that name, written for net/rpc.
type Arith struct{}

// Add gives the sum.
func (*Arith) Add(args *Args, reply *int) error {
	*reply = args.A + args.B
	return nil
}

// Echo is the service of that name.
type Echo struct{}

// Bytes gives its argument back.
func (*Echo) Bytes(bytes []byte, reply *[]byte) error {
	*reply = bytes
	return nil
}

// Sleep waits so many milliseconds.
func (*Echo) Sleep(ms int, reply *int) error {
	slept, err := SleepFor(ms)
	*reply = slept
	return err
}

// SleepFor waits so many milliseconds, and says how many.
func SleepFor(ms int) (int, error) {
	if ms < 0 || ms > SleepMax {
		return 0, errors.New("ms out of range")
	}
	time.Sleep(time.Duration(ms) * time.Millisecond)
	return ms, nil
}

// Users is the service of that name.
type Users struct{}

// List gives the first n users.
func (*Users) List(n int, reply *[]User) error {
	users, err := ListUsers(n)
	*reply = users
	return err
}
