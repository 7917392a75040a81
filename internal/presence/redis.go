package presence

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Dial returns a client for redis://[user:password@]host:port/db, rediss:// for TLS. Several addresses
// (?addr=host:port, repeated) or ?cluster=true make it a cluster's client. It connects when first used, so an
// unreachable Redis is no error here. Errors never show the password. The caller closes the client.
func Dial(rawURL string) (redis.UniversalClient, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the url.Error itself would print the whole URL, with its password
		}
		return nil, fmt.Errorf("parse Redis URL: %w", err)
	}
	q := u.Query()
	cluster := q.Get("cluster") == "true" || q.Has("addr")
	q.Del("cluster")
	u.RawQuery = q.Encode()
	if cluster {
		return dialCluster(u.String())
	}
	o, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, fmt.Errorf("parse Redis URL: %w", err)
	}
	o.MaintNotificationsConfig = noNotifications()
	o.DisableIdentity = true // CLIENT SETINFO is unknown before Redis 7.2
	o.ContextTimeoutEnabled = true
	o.MaxRetries = cmp.Or(o.MaxRetries, -1) // beats and readings come again by themselves
	o.DialerRetries = cmp.Or(o.DialerRetries, 1)
	return redis.NewClient(o), nil
}

func dialCluster(rawURL string) (redis.UniversalClient, error) {
	o, err := redis.ParseClusterURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("parse Redis cluster URL: %w", err)
	}
	o.MaintNotificationsConfig = noNotifications()
	o.DisableIdentity = true
	o.ContextTimeoutEnabled = true
	o.DialerRetries = cmp.Or(o.DialerRetries, 1)
	return redis.NewClusterClient(o), nil
}

// noNotifications keeps the client from sending a command that only some managed engines know.
func noNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// Redis is a board on a Redis server or cluster: one key per server, {namespace}:presence:<server>, with a TTL, and
// one set of the servers' names, {namespace}:presence. The braces keep all of them in one cluster slot, so that a
// transaction and MGET can span them.
type Redis struct {
	client redis.UniversalClient
	index  string
}

// NewRedis returns a board that uses client and leaves closing it to the caller. Deployments that share a Redis need
// a namespace each; the default is "firstseen".
func NewRedis(client redis.UniversalClient, namespace string) *Redis {
	return &Redis{client: client, index: "{" + cmp.Or(namespace, "firstseen") + "}:presence"}
}

func (r *Redis) key(server string) string { return r.index + ":" + server }

// pruneEvery is how many beats of one server lie between its looks for names whose key is gone.
const pruneEvery = 60

func (r *Redis) post(ctx context.Context, b Beat, ttl time.Duration) error {
	value, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("encode beat: %w", err)
	}
	_, err = r.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, r.key(b.Server), value, ttl)
		if b.Left {
			p.SRem(ctx, r.index, b.Server)
		} else {
			p.SAdd(ctx, r.index, b.Server)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("post beat: %w", err)
	}
	if b.Seq%pruneEvery == 1 {
		return r.prune(ctx)
	}
	return nil
}

func (r *Redis) read(ctx context.Context, also []string) (reading, error) {
	epoch, err := r.runID(ctx)
	if err != nil {
		return reading{}, err
	}
	names, err := r.client.SMembers(ctx, r.index).Result()
	if err != nil {
		return reading{}, fmt.Errorf("read names: %w", err)
	}
	out := reading{epoch: epoch}
	names = append(names, also...)
	slices.Sort(names)
	names = slices.Compact(names)
	values, err := r.values(ctx, names)
	for i, v := range values {
		var b Beat
		// A value that is not a beat of that name is somebody else's; it is no reason to stop counting.
		if s, ok := v.(string); ok && json.Unmarshal([]byte(s), &b) == nil && b.Server == names[i] && b.Count >= 0 {
			out.beats = append(out.beats, b)
		}
	}
	return out, err
}

func (r *Redis) values(ctx context.Context, names []string) ([]any, error) {
	if len(names) == 0 {
		return nil, nil
	}
	keys := make([]string, len(names))
	for i, n := range names {
		keys[i] = r.key(n)
	}
	values, err := r.client.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, fmt.Errorf("read beats: %w", err)
	}
	return values, nil
}

// prune forgets names whose key is gone. The watched key makes it give way to a server that beats at this moment.
func (r *Redis) prune(ctx context.Context) error {
	names, err := r.client.SMembers(ctx, r.index).Result()
	if err != nil {
		return fmt.Errorf("read names: %w", err)
	}
	values, err := r.values(ctx, names)
	if err != nil {
		return err
	}
	for i, v := range values {
		if v != nil {
			continue
		}
		if err := r.forget(ctx, names[i]); err != nil {
			return fmt.Errorf("forget %s: %w", names[i], err)
		}
	}
	return nil
}

func (r *Redis) forget(ctx context.Context, name string) error {
	err := r.client.Watch(ctx, func(tx *redis.Tx) error {
		if n, err := tx.Exists(ctx, r.key(name)).Result(); err != nil || n > 0 {
			return err
		}
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.SRem(ctx, r.index, name)
			return nil
		})
		return err
	}, r.key(name))
	if errors.Is(err, redis.TxFailedErr) {
		return nil
	}
	return err
}

// runID identifies the Redis process that holds the keys; another one may have lost some.
func (r *Redis) runID(ctx context.Context) (string, error) {
	var info *redis.StringCmd
	if c, ok := r.client.(*redis.ClusterClient); ok {
		node, err := c.MasterForKey(ctx, r.index)
		if err != nil {
			return "", fmt.Errorf("find cluster node: %w", err)
		}
		info = node.Info(ctx, "server")
	} else {
		info = r.client.Info(ctx, "server")
	}
	text, err := info.Result()
	var refused redis.Error
	if errors.As(err, &refused) {
		return "", nil // some proxies and access lists refuse INFO: then only lost connections tell of a restart
	}
	if err != nil {
		return "", fmt.Errorf("read run id: %w", err)
	}
	_, rest, _ := strings.Cut(text, "run_id:")
	id, _, _ := strings.Cut(rest, "\r\n")
	return id, nil
}
