package testenv

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestEachRedisIsItsOwn(t *testing.T) {
	t.Parallel()
	urls := [...]string{Redis(t), Redis(t)}
	if urls[0] == urls[1] {
		t.Fatalf("two tests were given %s", urls[0])
	}
	for _, url := range urls {
		opts, err := redis.ParseURL(url)
		if err != nil {
			t.Fatal(err)
		}
		client := redis.NewClient(opts)
		t.Cleanup(func() { _ = client.Close() })
		if n, err := client.DBSize(t.Context()).Result(); err != nil || n != 0 {
			t.Errorf("%s holds %d keys: %v", url, n, err)
		}
		if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Error(err)
		}
	}
}

func TestEachMySQLIsItsOwn(t *testing.T) {
	t.Parallel()
	if a, b := MySQL(t), MySQL(t); a == b {
		t.Errorf("two tests were given %s", a)
	}
}
