-- One row: the last seq in the feed. Its lock orders all writers of feed and chains.

-- +goose Up
CREATE TABLE IF NOT EXISTS feed_counter (
  id        TINYINT UNSIGNED NOT NULL,
  last_seq  BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
