// Gin's peer, in release mode and without its logger.
//
//	peer-gin ADDRESS
//	peer-gin --version
//
// It is built without modules, from Debian's package; the directive gives it the defaults that the module's peers have.

//go:debug default=go1.23
package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"

	"github.com/gin-gonic/gin"

	"../go/services"
)

// handle makes a handler of a function: its argument is the request's body, its result the answer's.
func handle[A, R any](function func(A) (R, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		var argument A
		if err := c.ShouldBindJSON(&argument); err != nil {
			c.String(http.StatusBadRequest, "%v", err)
			return
		}
		result, err := function(argument)
		if err != nil {
			c.String(http.StatusBadRequest, "%v", err)
			return
		}
		c.JSON(http.StatusOK, result)
	}
}

func serve(address string) error {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.POST("/Arith/Add", handle(func(args services.Args) (int, error) { return args.A + args.B, nil }))
	engine.POST("/Echo/Bytes", handle(func(bytes []byte) ([]byte, error) { return bytes, nil }))
	engine.POST("/Echo/Sleep", handle(services.SleepFor))
	engine.POST("/Users/List", handle(services.ListUsers))
	listener, err := services.Listen(address)
	if err != nil {
		return err
	}
	return engine.RunListener(listener)
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("gin", gin.Version+",", runtime.Version())
		return
	}
	if len(os.Args) != 2 {
		services.Fail(errors.New("wants an address"))
	}
	services.Fail(serve(os.Args[1]))
}
