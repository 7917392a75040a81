-- Blocks whose status nobody has decided yet: a writer that leaves that to the judge adds them in the transaction that
-- stores them, as non_canonical; the judge takes them away.

-- +goose Up
CREATE TABLE IF NOT EXISTS unplaced (
  record  BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (record)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
