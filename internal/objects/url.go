package objects

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// place is a parsed URL: a folder, or a bucket with what leads to it.
type place struct {
	folder string

	bucket   string
	prefix   string // of every key; without slashes at its ends
	endpoint string // empty: AWS
	region   string // empty: as the AWS SDK finds it, else us-east-1
}

// CheckURL tells what is wrong with a store's URL: file:///absolute/folder, file:folder or a bare path; or
// s3://bucket/prefix?endpoint=http://host:port&region=name, of which prefix, endpoint and region can be left out. With
// an endpoint, the bucket is named in the path, as servers other than AWS expect it.
func CheckURL(url string) error {
	_, err := parse(url)
	return err
}

func parse(text string) (place, error) {
	scheme, rest, found := strings.Cut(text, ":")
	switch {
	case found && scheme == "s3":
		return parseS3(text)
	case found && scheme == "file":
		return parseFolder(strings.TrimPrefix(rest, "//"), strings.HasPrefix(rest, "//"))
	case strings.Contains(text, "://"):
		return place{}, fmt.Errorf("object store of kind %q: use file:folder or s3://bucket/prefix", scheme)
	}
	return parseFolder(text, false)
}

func parseFolder(path string, absolute bool) (place, error) {
	switch {
	case path == "":
		return place{}, errors.New("object store has no folder: use file:folder or s3://bucket/prefix")
	case absolute && !strings.HasPrefix(path, "/"):
		return place{}, fmt.Errorf("object store file://%s: use file:///%s, or file:%s below the working directory", path, path, path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return place{}, fmt.Errorf("object store: %w", err)
	}
	return place{folder: path}, nil
}

// bucketName is what S3 allows, and what compatible servers allow besides.
var bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$`)

func parseS3(text string) (place, error) {
	u, err := url.Parse(text)
	if err != nil {
		return place{}, errors.New("object store is no URL: use s3://bucket/prefix?endpoint=http://host:port")
	}
	p := place{bucket: u.Host, prefix: strings.Trim(u.Path, "/")}
	switch {
	case u.User != nil:
		return place{}, errors.New("object store: no keys in the URL, which ends up in logs: " +
			"use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role of AWS")
	case !bucketName.MatchString(p.bucket):
		return place{}, fmt.Errorf("object store: %q is no name of a bucket: use s3://bucket/prefix", p.bucket)
	}
	if p.prefix != "" {
		if err := CheckKey(p.prefix); err != nil {
			return place{}, fmt.Errorf("object store: prefix: %w", err)
		}
	}
	for name, values := range u.Query() {
		switch name {
		case "endpoint":
			p.endpoint = values[0]
		case "region":
			p.region = values[0]
		default:
			return place{}, fmt.Errorf("object store: unknown parameter %q: there are endpoint and region", name)
		}
	}
	return p, checkEndpoint(p.endpoint)
}

func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err == nil && u.User != nil {
		return errors.New("object store: no keys in the endpoint, which ends up in logs: use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" {
		return errors.New("object store: endpoint is no URL such as https://host:port")
	}
	return nil
}
