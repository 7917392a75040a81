-- +goose Up
INSERT INTO feed_counter (id, last_seq) VALUES (1, 0) ON CONFLICT DO NOTHING;
