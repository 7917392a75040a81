package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

// status is the HTTP status of a refusal, 0 of anything else.
func status(err error) int {
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

func code(err error) string {
	var refusal smithy.APIError
	if errors.As(err, &refusal) {
		return refusal.ErrorCode()
	}
	return ""
}

// isConflict is the answer to a conditional write whose condition does not hold.
func isConflict(err error) bool {
	return status(err) == http.StatusPreconditionFailed || isRace(err)
}

// isRace is the answer to one of two conditional writes at once: neither the condition nor its opposite was found yet.
func isRace(err error) bool { return status(err) == http.StatusConflict }

// isMissing tells a missing object from a missing bucket, for which a reader would wait in vain.
func isMissing(err error) bool {
	c := code(err)
	return status(err) == http.StatusNotFound && (c == "NoSuchKey" || c == "NotFound")
}

// mayPass tells whether another attempt makes sense.
func mayPass(err error) bool {
	return isRace(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary
}

// mostMessage keeps a page of somebody's proxy out of the logs.
const mostMessage = 200

// explain turns an error of the SDK, which lists layers and request ids, into what callers decide on or an operator
// can use. It keeps the server's own words, which hold no secrets: requests carry signatures, never keys.
func (b *bucket) explain(ctx context.Context, err error) error {
	switch {
	case isConflict(err):
		return ErrConflict
	case isMissing(err):
		return ErrNotFound
	case code(err) == "NotImplemented":
		return fmt.Errorf("%w: it answered NotImplemented", ErrUnconditional)
	case errors.Is(err, ErrTooLarge):
		return err
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	case ctx.Err() != nil:
		return ctx.Err()
	case strings.Contains(err.Error(), "get credentials"):
		return errors.New("no credentials for the object store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, " +
			"AWS_PROFILE, or give the machine a role")
	}
	var refusal smithy.APIError
	if errors.As(err, &refusal) {
		return refused(status(err), refusal)
	}
	var request *url.Error
	if errors.As(err, &request) {
		return fmt.Errorf("no answer: %w", request.Err)
	}
	return err
}

func refused(status int, refusal smithy.APIError) error {
	text := strings.Join(strings.Fields(refusal.ErrorMessage()), " ")
	text = text[:min(len(text), mostMessage)]
	hint := ""
	if refusal.ErrorCode() == "AccessDenied" {
		hint = "; AWS answers so for objects that are missing, too, to who lacks s3:ListBucket"
	}
	return fmt.Errorf("it answered %d %s: %s%s", status, refusal.ErrorCode(), text, hint)
}
