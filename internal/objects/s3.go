package objects

import (
	"context"
	"errors"
)

func openS3(context.Context, place, Options) (Store, error) {
	return nil, errors.New("not yet")
}
