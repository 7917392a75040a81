package main

import (
	"net"
	"net/url"
	"strconv"

	"github.com/spf13/pflag"
)

// The flags of the demo that this product grew out of, so that its command lines keep working. They are hidden from
// --help where a flag of ours says the same.

func demoCommonFlags(flags *pflag.FlagSet) {
	flags.BoolP("verbose", "v", false, "log debugging detail")
	flags.Float64("wait", 0, "seconds between polls (the original demo's flag; see client --poll)")
	_ = flags.MarkHidden("wait")
}

func demoEndpointFlags(flags *pflag.FlagSet) {
	flags.String("host", "localhost", "host of the server (the original demo's flag)")
	flags.Int("port", 9999, "port of the server (the original demo's flag)")
	_ = flags.MarkHidden("host")
	_ = flags.MarkHidden("port")
}

func demoServerFlags(flags *pflag.FlagSet) {
	demoEndpointFlags(flags)
	flags.Bool("use-redis", false, "use the Redis that --redis-* names")
	flags.String("redis-host", "", "Redis host")
	flags.Int("redis-port", 0, "Redis port")
	flags.Int("redis-db", 0, "Redis database number")
	flags.Bool("use-mysql", false, "use the MySQL that --mysql-* names")
	flags.String("mysql-host", "", "MySQL host")
	flags.String("mysql-user", "", "MySQL user")
	flags.String("mysql-pass", "", "MySQL password (visible to other users of the machine; better FIRSTSEEN_DB_FILE)")
	flags.String("mysql-db", "", "MySQL database")
	for _, name := range []string{"use-redis", "redis-host", "redis-port", "redis-db",
		"use-mysql", "mysql-host", "mysql-user", "mysql-pass", "mysql-db"} {
		_ = flags.MarkHidden(name)
	}
}

// demoValues translates the demo's flags, where they were typed, into configuration keys.
func demoValues(flags *pflag.FlagSet) (map[string]any, error) {
	out := map[string]any{}
	changed := func(name string) bool { f := flags.Lookup(name); return f != nil && f.Changed }
	text := func(name string) string { return flags.Lookup(name).Value.String() }
	if changed("verbose") && text("verbose") == "true" {
		out["log.level"] = "debug"
	}
	if changed("wait") {
		out["client.poll"] = text("wait") + "s"
	}
	if changed("host") || changed("port") {
		address := net.JoinHostPort(text("host"), text("port"))
		out["server.listen"], out["client.server"] = address, []string{address}
	}
	if changed("use-redis") && text("use-redis") == "true" {
		if err := companions(changed, "use-redis", "redis-host", "redis-port", "redis-db"); err != nil {
			return nil, err
		}
		out["redis"] = "redis://" + net.JoinHostPort(text("redis-host"), text("redis-port")) + "/" + text("redis-db")
	}
	if changed("use-mysql") && text("use-mysql") == "true" {
		if err := companions(changed, "use-mysql", "mysql-host", "mysql-user", "mysql-pass", "mysql-db"); err != nil {
			return nil, err
		}
		out["db"] = mysqlURL(text("mysql-host"), text("mysql-user"), text("mysql-pass"), text("mysql-db"))
	}
	return out, nil
}

func companions(changed func(string) bool, flag string, needs ...string) error {
	for _, name := range needs {
		if !changed(name) {
			return usagef("--%s needs --%s", flag, name)
		}
	}
	return nil
}

func mysqlURL(host, user, pass, db string) string {
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(host, strconv.Itoa(3306))
	}
	u := url.URL{Scheme: "mysql", User: url.UserPassword(user, pass), Host: host, Path: "/" + db}
	return u.String()
}
