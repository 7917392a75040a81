-- Who saw a record, and when: the first arrival of each observer.

-- +goose Up
CREATE TABLE IF NOT EXISTS observations (
  record       BIGINT UNSIGNED NOT NULL,
  observer     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  node         VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  server       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  origin       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  observed_at  BIGINT NOT NULL,
  received_at  BIGINT NOT NULL,
  PRIMARY KEY (record, observer),
  KEY observations_observer (observer, received_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
