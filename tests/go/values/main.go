// Values tests fields that Go's clients omit or write as null against a coreloop server: values jsonrpc ADDRESS.
package main

import (
	"fmt"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"reflect"
)

// Line is a part of an order.
type Line struct {
	Sku   string  `json:"sku,omitempty"`
	Price float64 `json:"price,omitempty"`
}

// Order omits zero fields, or writes them as null.
type Order struct {
	Item  string           `json:"item,omitempty"`
	Count *int64           `json:"count"`
	Lines []*Line          `json:"lines"`
	Stock map[string]int64 `json:"stock"`
	Main  *Line            `json:"main"`
	Gift  bool             `json:"gift,omitempty"`
	Stars uint8            `json:"stars,omitempty"`
}

// Answer is what the server decoded.
type Answer struct {
	Text string `json:"text"`
}

func ask(client *rpc.Client, method string, argument any, expected string) {
	var answer Answer
	if err := client.Call(method, argument, &answer); err != nil {
		fmt.Println(method, argument, err)
		os.Exit(1)
	}
	if !reflect.DeepEqual(answer.Text, expected) {
		fmt.Printf("%s: expected %q, got %q\n", method, expected, answer.Text)
		os.Exit(1)
	}
}

func main() {
	client, err := jsonrpc.Dial("tcp", os.Args[2])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	zero := `"" 0 [] {} "":0 false 3`
	ask(client, "Orders.Tell", &Order{}, zero)
	seven := int64(7)
	some := Order{Item: "a", Count: &seven, Lines: []*Line{{}, {Price: 1.5}}, Gift: true, Stars: 5}
	ask(client, "Orders.Tell", &some, `"a" 7 ["":0, "":1.5] {} "":0 true 5`)
	ask(client, "Orders.Tell", &Order{Lines: []*Line{nil}}, `"" 0 ["":0] {} "":0 false 3`)
	ask(client, "Orders.Tell", (*Order)(nil), zero)
	// A number that JSON cannot represent fails its call; the connection still works.
	var mean float64
	if err := client.Call("Orders.Mean", []float64{}, &mean); err == nil {
		fmt.Println("the mean of nothing is", mean)
		os.Exit(1)
	}
	ask(client, "Orders.Tell", &Order{}, zero)
	fmt.Println("every value is as it must be")
}
