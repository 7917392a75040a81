-- The latest report of each observer about each chain, and its head in the report before.

-- +goose Up
CREATE TABLE IF NOT EXISTS heads (
  chain             BIGINT UNSIGNED NOT NULL,
  observer          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  node              VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  head_key          CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  head_number       BIGINT UNSIGNED NOT NULL,
  before_key        CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  before_number     BIGINT UNSIGNED NULL,
  safe_key          CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  safe_number       BIGINT UNSIGNED NULL,
  finalized_key     CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  finalized_number  BIGINT UNSIGNED NULL,
  reported_at       BIGINT NOT NULL,
  PRIMARY KEY (chain, observer)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
