-- Up to which record, by id, each kind of pruning has been done.

-- +goose Up
CREATE TABLE IF NOT EXISTS retention (
  name   VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  up_to  BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
