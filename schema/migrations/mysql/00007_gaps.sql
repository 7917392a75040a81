-- Ranges of heights, both ends included, that an observer will not deliver.

-- +goose Up
CREATE TABLE IF NOT EXISTS gaps (
  chain        BIGINT UNSIGNED NOT NULL,
  observer     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  from_number  BIGINT UNSIGNED NOT NULL,
  to_number    BIGINT UNSIGNED NOT NULL,
  reason       VARCHAR(255) NOT NULL,
  reported_at  BIGINT NOT NULL,
  PRIMARY KEY (chain, observer, from_number, to_number)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
