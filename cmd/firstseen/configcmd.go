package main

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
)

func configCommand(environ []string) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Show or check the configuration"}
	dump := &cobra.Command{
		Use:   "dump",
		Short: "Print what is in force as YAML, secrets hidden",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd.Flags(), environ)
			if err != nil {
				return err
			}
			text, err := dumpYAML(c)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	validate := &cobra.Command{
		Use:   "validate",
		Short: "Check the configuration without starting anything",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd.Flags(), environ)
			if err != nil {
				return err
			}
			if all := c.problems(); len(all) > 0 {
				for _, problem := range all[1:] {
					fmt.Fprintln(cmd.ErrOrStderr(), "firstseen:", oneLine(problem))
				}
				return all[0]
			}
			for _, warning := range c.warnings(cmd.Flags(), environ) {
				fmt.Fprintln(cmd.ErrOrStderr(), "firstseen: warning:", warning)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "configuration is valid")
			return err
		},
	}
	cmd.AddCommand(dump, validate)
	return cmd
}

// dumpYAML renders c with durations in words and secrets hidden.
func dumpYAML(c Config) ([]byte, error) {
	k := koanf.New(".")
	c.DB, c.Redis, c.Objects = redact(c.DB), redact(c.Redis), redactObjects(c.Objects)
	c.Import.From, c.Import.FromRedis = redact(c.Import.From), redact(c.Import.FromRedis)
	for _, secret := range []*string{&c.AdminToken, &c.APIKey, &c.Kafka.Password} {
		if *secret != "" {
			*secret = hidden
		}
	}
	if c.Client.Token != "" {
		c.Client.Token = hidden
	}
	nodes := make([]string, len(c.Client.Node))
	for i, node := range c.Client.Node {
		nodes[i] = redactNode(node)
	}
	c.Client.Node = nodes
	if c.Client.Reference != "" {
		c.Client.Reference = redactNode(c.Client.Reference)
	}
	if c.Stats.RPCUpstream != "" {
		c.Stats.RPCUpstream = redactNode(c.Stats.RPCUpstream)
	}
	if err := k.Load(structs.Provider(c, "koanf"), nil); err != nil {
		return nil, fmt.Errorf("load configuration: %w", err)
	}
	for _, key := range k.Keys() {
		if d, ok := k.Get(key).(time.Duration); ok {
			if err := k.Set(key, d.String()); err != nil {
				return nil, fmt.Errorf("set %s: %w", key, err)
			}
		}
	}
	text, err := k.Marshal(yaml.Parser())
	if err != nil {
		return nil, fmt.Errorf("print configuration: %w", err)
	}
	return text, nil
}

const hidden = "xxxxx"

var nativePassword = regexp.MustCompile(`^([^:@/]*):.*@`)

// redact hides the password of a URL or of a native MySQL data source name.
func redact(dsn string) string {
	if strings.Contains(dsn, "://") {
		u, err := url.Parse(dsn)
		if err != nil {
			return hidden
		}
		return u.Redacted()
	}
	return nativePassword.ReplaceAllString(dsn, "$1:"+hidden+"@")
}

// redactNode hides what providers use as a key: user, path and query of the node's URL. A name before the URL stays.
func redactNode(node string) string {
	name, address, named := strings.Cut(node, "=")
	if !named || !strings.Contains(address, "://") {
		name, address = "", node
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return hidden
	}
	shown := u.Scheme + "://" + u.Host
	if u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		shown += "/" + hidden
	}
	if name != "" {
		return name + "=" + shown
	}
	return shown
}
