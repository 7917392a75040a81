package objects

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestURLsOfStores(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]place{
		"file:///srv/objects": {folder: "/srv/objects"},
		"file:/srv/objects":   {folder: "/srv/objects"},
		"file:objects":        {folder: filepath.Join(here, "objects")},
		"objects":             {folder: filepath.Join(here, "objects")},
		"./a/../objects":      {folder: filepath.Join(here, "objects")},
		"/srv/objects/":       {folder: "/srv/objects"},
		"s3://bucket":         {bucket: "bucket"},
		"s3://bucket/":        {bucket: "bucket"},
		"s3://bucket/a/b/":    {bucket: "bucket", prefix: "a/b"},
		"s3://bucket/a?region=eu-central-1&endpoint=https://s3.example:9000": {
			bucket: "bucket", prefix: "a", region: "eu-central-1", endpoint: "https://s3.example:9000"},
	} {
		got, err := parse(url)
		if err != nil || got != want {
			t.Errorf("%s is %+v, %v; want %+v", url, got, err, want)
		}
	}
}

func TestBadURLsOfStoresNameTheFix(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"":                         "file:folder",
		"file:":                    "file:folder",
		"file://host/objects":      "file:///host/objects",
		"gs://bucket":              "s3://bucket/prefix",
		"s3://":                    "s3://bucket/prefix",
		"s3://b":                   "s3://bucket/prefix",
		"s3://bucket/../x":         "prefix",
		"s3://bucket?endpiont=x":   `"endpiont"`,
		"s3://bucket?endpoint=x:1": "https://host:port",
		"s3://key:hush@bucket/p":   "AWS_ACCESS_KEY_ID",
		"s3://bucket?endpoint=http://key:hush@host": "AWS_ACCESS_KEY_ID",
		"s3://bucket\x7f:hush":                      "s3://bucket/prefix",
	} {
		err := CheckURL(url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not name %s", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: error %v tells a secret", url, err)
		}
	}
}
