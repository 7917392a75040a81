-- +goose Up
INSERT INTO feed_counter (id, last_seq) VALUES (1, 0) ON DUPLICATE KEY UPDATE id = id;
