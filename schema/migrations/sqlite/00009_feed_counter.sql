-- One row: the last seq in the feed. Its lock orders all writers of feed and chains.

-- +goose Up
CREATE TABLE IF NOT EXISTS feed_counter (
  id        INTEGER NOT NULL,
  last_seq  INTEGER NOT NULL,
  PRIMARY KEY (id)
) STRICT;
