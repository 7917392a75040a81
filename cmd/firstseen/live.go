package main

import (
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/internal/health"
	"github.com/firstseen/firstseen/internal/presence"
	"github.com/firstseen/firstseen/internal/store"
)

// dialRedis returns the one client of this process, or nil if none is configured.
func (p *parts) dialRedis() (redis.UniversalClient, error) {
	if p.redis != nil || p.config.Redis == "" {
		return p.redis, nil
	}
	client, err := presence.Dial(p.config.Redis)
	if err != nil {
		return nil, usagef("redis (--redis): %v", err)
	}
	p.opened = append(p.opened, client)
	redis.SetLogger(redisLog{p.component("redis")})
	p.redis = client
	return client, nil
}

// addHints adds what tells the followers of the feed that it has grown. It comes before the store, which tells it.
func (p *parts) addHints(tellOnly bool) error {
	client, err := p.dialRedis()
	if err != nil {
		return err
	}
	p.hints = feed.NewHints(feed.HintsOptions{
		Redis: client, TellOnly: tellOnly, Log: p.component("feed"), Registerer: p.registry,
	})
	p.group.Add("feed hints", 5*time.Second, p.hints.Run)
	return nil
}

// addFeed adds what follows the feed for the stats API.
func (p *parts) addFeed(s *store.Store) (*feed.Feed, error) {
	f, err := feed.New(feed.Options{Source: s, Hints: p.hints, Log: p.component("feed"), Registerer: p.registry})
	if err != nil {
		return nil, err
	}
	p.group.Add("feed", 5*time.Second, f.Run)
	p.checks = append(p.checks, health.Check{Name: "feed", Ready: f.Ready})
	return f, nil
}
