// Httpserver serves with the standard library's net/http and encoding/json.
//
//	httpserver ADDRESS
//	httpserver --version
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"

	"coreloop.example/peers/services"
)

// handle makes a handler of a function: its argument is the request's body, its result the answer's.
func handle[A, R any](function func(A) (R, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var argument A
		if err := json.NewDecoder(r.Body).Decode(&argument); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		result, err := function(argument)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		text, err := json.Marshal(result)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		// It fails only where the connection is gone.
		_, _ = w.Write(text)
	}
}

func serve(address string) error {
	mux := http.NewServeMux()
	mux.Handle("POST /Arith/Add", handle(func(args services.Args) (int, error) { return args.A + args.B, nil }))
	mux.Handle("POST /Echo/Bytes", handle(func(bytes []byte) ([]byte, error) { return bytes, nil }))
	mux.Handle("POST /Echo/Sleep", handle(services.SleepFor))
	mux.Handle("POST /Users/List", handle(services.ListUsers))
	listener, err := services.Listen(address)
	if err != nil {
		return err
	}
	return http.Serve(listener, mux)
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println(runtime.Version())
		return
	}
	if len(os.Args) != 2 {
		services.Fail(errors.New("wants an address"))
	}
	services.Fail(serve(os.Args[1]))
}
