-- One row for each thing first seen. Times are microseconds since 1970 UTC; hashes and addresses are lower-case hex
-- without 0x; a bare payload has chain 0 and its SHA-256 as key. Status is NULL for bare payloads. The token is the
-- random mark of the offer that inserted the row: it tells the writer whether it was first.

-- +goose Up
CREATE TABLE IF NOT EXISTS records (
  id            BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  chain         BIGINT UNSIGNED NOT NULL,
  `key`         CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  number        BIGINT UNSIGNED NULL,
  parent        CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  status        VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
  block_time    BIGINT NULL,
  observed_at   BIGINT NULL,
  received_at   BIGINT NOT NULL,
  content_type  VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  payload       MEDIUMBLOB NOT NULL,
  observer      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  node          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  origin        VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
  server        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  remote        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  token         BINARY(16) NOT NULL,
  UNIQUE KEY records_chain_key (chain, `key`),
  KEY records_chain_number (chain, number, id),
  KEY records_chain_parent (chain, parent),
  KEY records_received (received_at, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
