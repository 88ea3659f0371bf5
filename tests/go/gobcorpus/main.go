// Gobcorpus writes and checks gob values with Go itself: the oracle of tests/codecs/gob_go.rs.
//
//	gobcorpus write SEED COUNT   writes COUNT records to standard output
//	gobcorpus json SEED COUNT    writes the same values in encoding/json; empty records for those that it cannot represent
//	gobcorpus check SEED COUNT   reads COUNT records in the same order, and compares each with what write produces
//
// A record is the number of its type (one byte), the length of a gob stream (four bytes, big-endian) and the stream.
// The generator is seeded, so both runs produce the same values.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand"
	"os"
	"reflect"
	"strconv"
	"time"
)

type Numbers struct {
	A int8
	B int16
	C int32
	D int64
	E uint8
	F uint16
	G uint32
	H uint64
	I float32
	J float64
	K bool
	L rune
	M string
	N []byte
}

type Inner struct {
	X, Y int64
	Name string
}

type Lists struct {
	Ints    []int64
	Strings []string
	Bytes   [][]byte
	Inners  []Inner
	Array   [3]int32
	Grid    [2][2]uint16
	Floats  []float64
	Bools   []bool
	Narrow  []int16
}

type Maps struct {
	Plain  map[string]int64
	ByInt  map[int32]string
	Inners map[string]Inner
	Nested map[string][]map[uint8]bool
}

type Pointers struct {
	Maybe  *string
	Number *int64
	Inner  *Inner
	List   *[]int64
	Last   int64
}

type Tree struct {
	Value  int64
	Kids   []Tree
	Left   *Tree
	ByName map[string]Tree
}

type Circle struct{ Radius float64 }

type Shape struct {
	Nothing *bool
	Circle  *Circle
	Side    *int64
	Corners *[2]float64
	Named   *struct {
		Name string
		Size uint32
	}
}

type Pair struct {
	F0 int64
	F1 string
}

type Kinds struct {
	Colour string
	Shapes []Shape
	Pair   Pair
	Unit   struct{}
	When   time.Time
	Big    string
	Last   bool
}

// Sent has more fields than the receiver, lacks some, and has another order.
type Sent struct {
	Extra map[string][]Inner
	C     string
	More  *Tree
	A     int64
	Cplx  complex128
	When  time.Time
	Shape Shape
	B     float64
}

// Tagged is one of several variants by its Kind, which has only some of the fields.
type Tagged struct {
	Kind   string
	Radius float64
	Size   uint32
	Text   string
}

type Generator struct{ *rand.Rand }

func (g Generator) int(bits uint) int64 {
	switch g.Intn(5) {
	case 0:
		return 0
	case 1:
		return int64(g.Intn(128)) - 64
	case 2:
		return math.MaxInt64 >> (64 - bits)
	case 3:
		return math.MinInt64 >> (64 - bits)
	}
	return int64(g.Uint64()) >> (64 - bits) >> uint(g.Intn(int(bits)))
}

func (g Generator) uint(bits uint) uint64 {
	if g.Intn(4) == 0 {
		return 0
	}
	return g.Uint64() >> (64 - bits) >> uint(g.Intn(int(bits)))
}

func (g Generator) float() float64 {
	values := []float64{0, 1, -1.5, 17, 1e300, 5e-324, math.Inf(1), math.Inf(-1), math.MaxFloat64, math.Pi}
	if i := g.Intn(2 * len(values)); i < len(values) {
		return values[i]
	}
	return g.NormFloat64() * 1e6
}

func (g Generator) string() string {
	letters := []rune("aZ0 é世🦀\"\n\x00")
	text := make([]rune, g.Intn(12)*g.Intn(3))
	for i := range text {
		text[i] = letters[g.Intn(len(letters))]
	}
	return string(text)
}

// full never returns a pointer to a zero, which Go itself turns into nil.
func (g Generator) full() string { return "." + g.string() }

func list[T any](g Generator, most int, make func() T) []T {
	var values []T
	for n := g.Intn(most + 1); n > 0; n-- {
		values = append(values, make())
	}
	return values
}

func table[K comparable, V any](g Generator, most int, key func() K, value func() V) map[K]V {
	// Never nil: the receiver has no nil maps.
	values := map[K]V{}
	for n := g.Intn(most + 1); n > 0; n-- {
		values[key()] = value()
	}
	return values
}

func (g Generator) inner() Inner { return Inner{g.int(64), g.int(64), g.string()} }

func (g Generator) time() time.Time {
	if g.Intn(4) == 0 {
		return time.Time{}
	}
	moment := time.Unix(g.int(34), int64(g.Intn(1e9)))
	if g.Intn(2) == 0 {
		return moment.UTC()
	}
	return moment.In(time.FixedZone("", 60*(1+g.Intn(700))))
}

func (g Generator) shape() Shape {
	switch g.Intn(5) {
	case 0:
		yes := true
		return Shape{Nothing: &yes}
	case 1:
		return Shape{Circle: &Circle{g.float()}}
	case 2:
		side := 1 + int64(g.Intn(1000))
		return Shape{Side: &side}
	case 3:
		return Shape{Corners: &[2]float64{g.float(), g.float()}}
	}
	var shape Shape
	shape.Named = &struct {
		Name string
		Size uint32
	}{g.string(), uint32(g.uint(32))}
	return shape
}

func (g Generator) tree(depth int) Tree {
	tree := Tree{Value: g.int(64), ByName: map[string]Tree{}}
	if depth > 0 {
		tree.Kids = list(g, 3, func() Tree { return g.tree(depth - 1) })
		if g.Intn(2) == 0 {
			left := g.tree(depth - 1)
			tree.Left = &left
		}
		if g.Intn(3) == 0 {
			tree.ByName[g.string()] = g.tree(depth - 1)
		}
	}
	return tree
}

const kinds = 17

func (g Generator) value(kind int) any {
	switch kind {
	case 0:
		return Numbers{int8(g.int(8)), int16(g.int(16)), int32(g.int(32)), g.int(64), uint8(g.uint(8)), uint16(g.uint(16)),
			uint32(g.uint(32)), g.uint(64), float32(g.Intn(100)) / 4, g.float(), g.Intn(2) == 0,
			[]rune("a世🦀\x00")[g.Intn(4)], g.string(), []byte(g.string())}
	case 1:
		i64 := func() int64 { return g.int(64) }
		return Lists{list(g, 9, i64), list(g, 4, g.string), list(g, 3, func() []byte { return []byte(g.string()) }),
			list(g, 3, g.inner), [3]int32{int32(g.int(32)), 0, int32(g.int(32))},
			[2][2]uint16{{uint16(g.uint(16)), 0}, {0, uint16(g.uint(16))}}, list(g, 4, g.float),
			list(g, 9, func() bool { return g.Intn(2) == 0 }), list(g, 9, func() int16 { return int16(g.int(16)) })}
	case 2:
		return Maps{table(g, 4, g.string, func() int64 { return g.int(64) }),
			table(g, 3, func() int32 { return int32(g.int(32)) }, g.string), table(g, 2, g.string, g.inner),
			table(g, 2, g.string, func() []map[uint8]bool {
				return list(g, 2, func() map[uint8]bool {
					return table(g, 2, func() uint8 { return uint8(g.uint(8)) }, func() bool { return g.Intn(2) == 0 })
				})
			})}
	case 3:
		var p Pointers
		if g.Intn(2) == 0 {
			text := g.full()
			p.Maybe = &text
		}
		if g.Intn(2) == 0 {
			number := 1 + int64(g.Intn(1000))
			p.Number = &number
		}
		if g.Intn(2) == 0 {
			inner := g.inner()
			p.Inner = &inner
		}
		if g.Intn(2) == 0 {
			numbers := []int64{g.int(64)}
			p.List = &numbers
		}
		p.Last = g.int(64)
		return p
	case 4:
		return g.tree(3)
	case 5:
		return Kinds{[]string{"Red", "Green"}[g.Intn(2)], list(g, 3, g.shape), Pair{g.int(64), g.string()}, struct{}{},
			g.time(), strconv.FormatInt(g.int(64), 10), g.Intn(2) == 0}
	case 6:
		tree := g.tree(2)
		return Sent{table(g, 2, g.string, func() []Inner { return list(g, 2, g.inner) }), g.string(), &tree, g.int(64),
			complex(g.float(), g.float()), g.time(), g.shape(), g.float()}
	case 7:
		return g.int(64)
	case 8:
		return g.uint(64)
	case 9:
		return g.float()
	case 10:
		return g.string()
	case 11:
		return []byte(g.string())
	case 12:
		return g.Intn(2) == 0
	case 13:
		return list(g, 5, g.inner)
	case 14:
		return table(g, 4, g.string, func() []string { return list(g, 2, g.string) })
	case 15:
		return [4]uint8{uint8(g.uint(8)), 0, uint8(g.uint(8)), 7}
	default:
		if g.Intn(2) == 0 {
			return Tagged{Kind: "Disc", Radius: g.float()}
		}
		return Tagged{Kind: "Label", Size: uint32(g.uint(32)), Text: g.string()}
	}
}

// Got is the type that receives Sent.
type Got struct {
	A int64
	B float64
	C string
	D string
}

func fatal(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}

func write(out io.Writer, kind int, value any) {
	var stream bytes.Buffer
	if err := gob.NewEncoder(&stream).Encode(value); err != nil {
		fatal("encode %T: %v", value, err)
	}
	record(out, kind, stream.Bytes())
}

func record(out io.Writer, kind int, content []byte) {
	out.Write(binary.BigEndian.AppendUint32([]byte{byte(kind)}, uint32(len(content))))
	out.Write(content)
}

func check(in io.Reader, kind int, expected any, index int) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(in, head); err != nil {
		fatal("record %d: %v", index, err)
	}
	stream := make([]byte, binary.BigEndian.Uint32(head[1:]))
	if _, err := io.ReadFull(in, stream); err != nil {
		fatal("record %d: %v", index, err)
	}
	if int(head[0]) != kind {
		fatal("record %d: kind %d, expected %d", index, head[0], kind)
	}
	if sent, ok := expected.(Sent); ok {
		expected = Got{sent.A, sent.B, sent.C, ""}
	}
	got := reflect.New(reflect.TypeOf(expected))
	if err := gob.NewDecoder(bytes.NewReader(stream)).Decode(got.Interface()); err != nil {
		fatal("record %d, %T: %v\n% x", index, expected, err, stream)
	}
	// Encode and decode once, to drop differences that gob does not keep (nil and empty, names of time zones).
	var through bytes.Buffer
	if err := gob.NewEncoder(&through).Encode(expected); err != nil {
		fatal("encode %T: %v", expected, err)
	}
	known := reflect.New(reflect.TypeOf(expected))
	if err := gob.NewDecoder(&through).Decode(known.Interface()); err != nil {
		fatal("decode %T: %v", expected, err)
	}
	if !reflect.DeepEqual(got.Interface(), known.Interface()) {
		fatal("record %d, %T:\ngot      %+v\nexpected %+v\n% x", index, expected, got.Elem(), known.Elem(), stream)
	}
}

func main() {
	if len(os.Args) != 4 {
		fatal("usage: gobcorpus write|json|check SEED COUNT")
	}
	seed, err1 := strconv.ParseInt(os.Args[2], 10, 64)
	count, err2 := strconv.Atoi(os.Args[3])
	if err1 != nil || err2 != nil {
		fatal("SEED and COUNT are numbers")
	}
	g := Generator{rand.New(rand.NewSource(seed))}
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for i := 0; i < count; i++ {
		value := g.value(i % kinds)
		switch os.Args[1] {
		case "write":
			write(out, i%kinds, value)
		case "json":
			// json.Marshal fails for infinities and complex numbers.
			text, err := json.Marshal(value)
			if err != nil {
				text = nil
			}
			record(out, i%kinds, text)
		case "check":
			check(in, i%kinds, value, i)
		}
	}
	out.Flush()
}
