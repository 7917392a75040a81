package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/firstseen/firstseen/client"
	"github.com/firstseen/firstseen/statsapi"
)

// Config is everything that can be configured, by file (YAML), environment (FIRSTSEEN_SECTION__KEY) or flag.
type Config struct {
	DB         string          `koanf:"db"`
	Retention  RetentionConfig `koanf:"db_retention"`
	Redis      string          `koanf:"redis"`
	Log        LogConfig       `koanf:"log"`
	Admin      string          `koanf:"admin"`
	AdminToken string          `koanf:"admin_token"` // secret
	Client     ClientConfig    `koanf:"client"`
	Server     ServerConfig    `koanf:"server"`
	Stats      StatsConfig     `koanf:"stats"`
	Gateway    GatewayConfig   `koanf:"gateway"`
	Import     ImportConfig    `koanf:"import"`
	Objects    string          `koanf:"objects"` // URL of the object store that replicas live from
	Env        string          `koanf:"env"`     // first part of the keys in it
	Kafka      KafkaConfig     `koanf:"kafka"`
	Follow     FollowConfig    `koanf:"follow"`
	Ship       ShipConfig      `koanf:"ship"`
	Mock       bool            `koanf:"mock"`    // of up: a made-up chain instead of nodes
	API        string          `koanf:"api"`     // URL of the stats API, for commands that ask it
	APIKey     string          `koanf:"api_key"` // secret: what they show it

	Chains map[string]ChainConfig `koanf:"chains"` // by chain id
}

// RetentionConfig says what the database forgets; 0 keeps everything. See store.Retention.
type RetentionConfig struct {
	ObservationsFor time.Duration `koanf:"observations_for"`
	ObservationsOf  int           `koanf:"observations_of"` // newest records
	PayloadsFor     time.Duration `koanf:"payloads_for"`
	PayloadsOf      int           `koanf:"payloads_of"` // newest records
}

// LogConfig says how to log.
type LogConfig struct {
	Level  string `koanf:"level"`  // trace, debug, info, warn, error
	Format string `koanf:"format"` // auto (text on a terminal, else JSON), text, json
}

// ClientConfig configures an observer.
type ClientConfig struct {
	Name     string        `koanf:"name"`
	Node     []string      `koanf:"node"`
	Server   []string      `koanf:"server"`
	Bare     bool          `koanf:"bare"`
	Poll     time.Duration `koanf:"poll"`
	Template string        `koanf:"template"`
	Receipts string        `koanf:"receipts"` // auto, off
	Raw      bool          `koanf:"raw"`      // send the node's own JSON as well
	Backfill uint64        `koanf:"backfill"` // blocks
	Drain    time.Duration `koanf:"drain"`

	Spool      string `koanf:"spool"`       // path; empty: what is not delivered is kept in memory
	SpoolBytes int64  `koanf:"spool_bytes"` // most bytes of frames in it
	Start      string `koanf:"start"`       // tip, earliest, or a height
	StartOver  bool   `koanf:"start_over"`

	ResumeHalted bool `koanf:"resume_halted"`

	TLS     bool   `koanf:"tls"`
	TLSCA   string `koanf:"tls_ca"` // paths of PEM files
	TLSCert string `koanf:"tls_cert"`
	TLSKey  string `koanf:"tls_key"`
	TLSName string `koanf:"tls_name"`
	Token   string `koanf:"token"` // secret

	Reference string       `koanf:"reference"` // URL, may hold a key
	NodeName  string       `koanf:"node_name"`
	Pool      PoolConfig   `koanf:"pool"`
	Repair    RepairConfig `koanf:"repair"`
}

// ServerConfig configures the TCP ingest.
type ServerConfig struct {
	Name        string        `koanf:"name"`
	Console     string        `koanf:"console"` // host:port; empty: none
	Ask         string        `koanf:"ask"`     // host:port where others reach the admin port; empty: as it listens
	Listen      string        `koanf:"listen"`
	Print       bool          `koanf:"print"`
	Connections int           `koanf:"connections"`
	Beat        time.Duration `koanf:"beat"` // of presence; every process that shares a Redis needs the same
	Drain       time.Duration `koanf:"drain"`

	TLSCert     string   `koanf:"tls_cert"` // paths of PEM files
	TLSKey      string   `koanf:"tls_key"`
	TLSClientCA string   `koanf:"tls_client_ca"`
	PlainListen string   `koanf:"plain_listen"`
	RequireAuth bool     `koanf:"require_auth"`
	Bare        string   `koanf:"bare"`        // auto, on, off, or networks with commas between them
	ProxyFrom   []string `koanf:"proxy_from"`  // networks
	AcceptRate  float64  `koanf:"accept_rate"` // connections a second; 0: no limit
}

// StatsConfig configures the stats API.
type StatsConfig struct {
	Listen    string   `koanf:"listen"`
	Access    string   `koanf:"access"` // auto, open, keys
	Rate      float64  `koanf:"rate"`   // requests a second of one caller; 0: no limit
	Burst     int      `koanf:"burst"`  // requests at once; 0: twice the rate
	Trusted   []string `koanf:"trusted"`
	Origins   []string `koanf:"origins"` // whose pages may read answers and connect
	AccessLog bool     `koanf:"access_log"`

	RPCUpstream string `koanf:"rpc_upstream"` // URL, maybe with a key in it; empty: nobody is asked
}

// ImportConfig says where to import from. Both may hold a password.
type ImportConfig struct {
	From      string `koanf:"from"`       // the original demo's database
	FromRedis string `koanf:"from_redis"` // the original demo's Redis; empty: none
}

// defaults is the configuration of a process that was told nothing.
func defaults() Config {
	return Config{
		DB:  "sqlite:firstseen.db",
		API: "http://127.0.0.1:8080",
		Log: LogConfig{Level: "info", Format: "auto"},
		Client: ClientConfig{
			Node:     []string{"http://127.0.0.1:8545"},
			Server:   []string{"127.0.0.1:9999"},
			Poll:     time.Second,
			Template: "block.html",
			Receipts: "auto",
			Backfill: 10_000,
			Drain:    5 * time.Second,

			SpoolBytes: 1 << 30,
			Start:      client.StartTip,
			Pool:       defaultPool(),
			Repair:     defaultRepair(),
		},
		Server: ServerConfig{Listen: "127.0.0.1:9999", Connections: 10_000, Beat: 5 * time.Second, Drain: 10 * time.Second,
			Bare: bareAuto, AcceptRate: 2000},
		Stats:   StatsConfig{Listen: "127.0.0.1:8080", Access: string(statsapi.AccessAuto)},
		Gateway: GatewayConfig{Listen: "127.0.0.1:8545"},
		Objects: "file:firstseen-objects",
		Env:     "main",
		Follow:  defaultFollow(),
		Ship:    ShipConfig{Role: "primary", Poll: time.Second, Uploads: 32, Grace: 10 * time.Minute},
	}
}

// usual maps environment names that other software has made customary to our keys. They rank below FIRSTSEEN_*.
var usual = []struct{ env, key string }{
	{"DATABASE_URL", "db"},
	{"REDIS_URL", "redis"},
	{"ETH_RPC_URL", "client.node"},
	{"KAFKA_BROKERS", "kafka.brokers"},
}

const (
	envPrefix  = "FIRSTSEEN_"
	envConfig  = envPrefix + "CONFIG" // names the file, so it is no key itself
	envTesting = envPrefix + "TEST_"  // tells tests where services are
)

// usageError is an error that the user mends by changing what was typed: exit code 2.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// load merges defaults < file < environment < flags into one Config. Unknown keys in file or environment are errors
// that name them.
func load(flags *pflag.FlagSet, environ []string) (Config, error) {
	k := koanf.New(".")
	if err := k.Load(structs.Provider(defaults(), "koanf"), nil); err != nil {
		return Config{}, fmt.Errorf("load defaults: %w", err)
	}
	if path := configFile(flags, environ); path != "" {
		if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
			return Config{}, usagef("read config file: %v", err)
		}
	}
	fromEnv, err := environment(environ)
	if err != nil {
		return Config{}, err
	}
	fromFlags, err := flagValues(flags)
	if err != nil {
		return Config{}, err
	}
	for _, layer := range []map[string]any{fromEnv, fromFlags} {
		if err := k.Load(confmap.Provider(layer, "."), nil); err != nil {
			return Config{}, fmt.Errorf("merge configuration: %w", err)
		}
	}
	return decode(k)
}

func decode(k *koanf.Koanf) (Config, error) {
	var c Config
	err := k.UnmarshalWithConf("", &c, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		Result:           &c,
		TagName:          "koanf",
		ErrorUnused:      true,
		WeaklyTypedInput: true,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			refuseBareNumber,
			mapstructure.StringToTimeDurationHookFunc(),
			mapstructure.StringToSliceHookFunc(","),
		),
	}})
	if err == nil {
		return c, nil
	}
	if unknown := unknownKeys(k); len(unknown) > 0 {
		return Config{}, usagef("unknown configuration key %s; `firstseen config dump` lists the keys",
			strings.Join(unknown, ", "))
	}
	return Config{}, usagef("configuration: %s", undecoded(err))
}

// undecoded says which key could not be read and why, without the library's own preamble.
func undecoded(err error) string {
	var key *mapstructure.DecodeError
	switch {
	case !errors.As(err, &key):
		return oneLine(err)
	case strings.Contains(err.Error(), "time: "):
		return key.Name() + ": use a duration, as in 1s or 500ms"
	}
	return key.Name() + ": " + oneLine(key.Unwrap())
}

// refuseBareNumber keeps a duration without a unit from being read as so many nanoseconds.
func refuseBareNumber(from, to reflect.Type, value any) (any, error) {
	duration := reflect.TypeFor[time.Duration]()
	if to != duration || from == duration || from.Kind() == reflect.String {
		return value, nil
	}
	return nil, fmt.Errorf("duration %v lacks its unit, as in 5s", value)
}

// unknownKeys lists the keys that no default has.
func unknownKeys(k *koanf.Koanf) []string {
	known := knownKeys()
	var unknown []string
	for _, key := range k.Keys() {
		if !slices.Contains(known, key) && !chainKey.MatchString(key) {
			unknown = append(unknown, key)
		}
	}
	return unknown
}

// chainKey is what a key of a chain looks like. There is no default for one.
var chainKey = regexp.MustCompile(`^chains\.[^.]+\.verify$`)

func knownKeys() []string {
	k := koanf.New(".")
	_ = k.Load(structs.Provider(defaults(), "koanf"), nil) // a struct of ours always loads
	keys := k.Keys()
	sort.Strings(keys)
	return keys
}

func configFile(flags *pflag.FlagSet, environ []string) string {
	if f := flags.Lookup("config"); f != nil && f.Changed {
		return f.Value.String()
	}
	return lookup(environ, envConfig)
}

func lookup(environ []string, name string) string {
	for _, e := range environ {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}

// environment turns FIRSTSEEN_SECTION__KEY=value into section.key, and FIRSTSEEN_SECTION__KEY_FILE=path into
// section.key with the file's content, so that secrets can stay out of the environment.
func environment(environ []string) (map[string]any, error) {
	out := map[string]any{}
	for _, u := range usual {
		if value := lookup(environ, u.env); value != "" {
			out[u.key] = value
		}
	}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, envPrefix) || name == envConfig || strings.HasPrefix(name, envTesting) {
			continue
		}
		if path, ok := strings.CutSuffix(name, "_FILE"); ok {
			content, err := os.ReadFile(value)
			if err != nil {
				return nil, usagef("%s: %v", name, err)
			}
			if lookup(environ, path) != "" {
				return nil, usagef("%s and %s are both set: use one", path, name)
			}
			name, value = path, strings.TrimSpace(string(content))
		}
		key := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, envPrefix), "__", "."))
		out[key] = value
	}
	return out, nil
}

// configKey is the annotation that ties a flag to the key it sets.
const configKey = "config-key"

// bind ties an already declared flag to a configuration key.
func bind(flags *pflag.FlagSet, name, key string) {
	flags.Lookup(name).Annotations = map[string][]string{configKey: {key}}
}

// flagValues are the values of the flags that were typed, under the keys they are bound to, and what the original
// demo's flags stand for.
func flagValues(flags *pflag.FlagSet) (map[string]any, error) {
	out, err := demoValues(flags)
	if err != nil {
		return nil, err
	}
	flags.Visit(func(f *pflag.Flag) {
		keys := f.Annotations[configKey]
		if len(keys) == 0 {
			return
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			out[keys[0]] = list.GetSlice()
			return
		}
		out[keys[0]] = f.Value.String()
	})
	return out, nil
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
