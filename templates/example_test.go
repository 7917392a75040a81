package templates_test

import (
	"context"
	"fmt"
	"time"

	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/templates"
)

func Example() {
	tmpl, err := templates.Default("block.txt")
	if err != nil {
		fmt.Println(err)
		return
	}
	payload, err := tmpl.Render(context.Background(), schema.Block{
		Chain:     1,
		Header:    schema.Header{Number: 46147, Time: time.Unix(1438918233, 0)},
		GasLimit:  21000,
		ExtraData: schema.Bytes("Geth/v1.0.0"),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(tmpl.ContentType())
	fmt.Println(string(payload))
	// Output:
	// text/plain; charset=utf-8
	// block 46147
	// chain 1
	// hash 0x0000000000000000000000000000000000000000000000000000000000000000
	// parent 0x0000000000000000000000000000000000000000000000000000000000000000
	// time 2015-08-07T03:30:33Z
	// timestamp 1438918233
	// fee_recipient 0x0000000000000000000000000000000000000000
	// gas_used 0
	// gas_limit 21000
	// base_fee -
	// state_root 0x0000000000000000000000000000000000000000000000000000000000000000
	// extra_data 0x476574682f76312e302e30
	// extra_text Geth/v1.0.0
	// transactions 0
}
