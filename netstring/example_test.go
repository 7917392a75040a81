package netstring_test

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/firstseen/firstseen/netstring"
)

func ExampleAppend() {
	stream := netstring.Append(nil, []byte("hello world!"))
	stream = netstring.Append(stream, nil)
	fmt.Printf("%s\n", stream)
	// Output: 12:hello world!,0:,
}

func ExampleDecoder() {
	d := netstring.NewDecoder(strings.NewReader("5:first,4:seen,03:abc,"), 4<<20)
	for {
		content, err := d.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			var syntax *netstring.SyntaxError
			fmt.Println(errors.As(err, &syntax), err)
			return
		}
		fmt.Printf("%s\n", content)
	}
	// Output:
	// first
	// seen
	// true netstring: byte 16: length has a leading zero
}

// A server bounds the time of a begun frame, not the silence between frames.
func ExampleDecoder_Wait() {
	d := netstring.NewDecoder(strings.NewReader("2:ok,"), 4<<20)
	for d.Wait() == nil {
		// conn.SetReadDeadline(now().Add(frameTimeout)) would go here.
		content, err := d.Next()
		fmt.Println(string(content), err)
	}
	// Output: ok <nil>
}
