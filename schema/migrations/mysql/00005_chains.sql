-- Where each chain stands: the canonical branch runs from root to head without a gap. Every change to a row is made under
-- the lock on feed_counter. While halted says why, nothing of the chain changes status.

-- +goose Up
CREATE TABLE IF NOT EXISTS chains (
  chain             BIGINT UNSIGNED NOT NULL,
  root_key          CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  root_number       BIGINT UNSIGNED NOT NULL,
  root_parent       CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  head_key          CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  head_number       BIGINT UNSIGNED NOT NULL,
  safe_number       BIGINT UNSIGNED NULL,
  finalized_number  BIGINT UNSIGNED NULL,
  halted            VARCHAR(255) NULL,
  PRIMARY KEY (chain)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
