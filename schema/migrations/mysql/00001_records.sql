-- Times are BIGINT microseconds since 1970 UTC; hashes and addresses are lower-case hex without 0x; wei is 32 bytes
-- big-endian, so that byte order is numeric order.

-- +goose Up
CREATE TABLE records (
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

CREATE TABLE observations (
  record        BIGINT UNSIGNED NOT NULL,
  observer      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  node          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  server        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  origin        VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  observed_at   BIGINT NOT NULL,
  received_at   BIGINT NOT NULL,
  PRIMARY KEY (record, observer),
  KEY observations_observer (observer, received_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE transactions (
  id            BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  chain         BIGINT UNSIGNED NOT NULL,
  block         CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  hash          CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  number        BIGINT UNSIGNED NOT NULL,
  tx_index      INT UNSIGNED NOT NULL,
  sender        CHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  recipient     CHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  value         BINARY(32) NOT NULL,
  gas_used      BIGINT UNSIGNED NULL,
  tx_status     TINYINT UNSIGNED NULL,
  contract      CHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  UNIQUE KEY transactions_block_hash (block, hash),
  KEY transactions_hash (hash),
  KEY transactions_sender (chain, sender, number, tx_index),
  KEY transactions_recipient (chain, recipient, number, tx_index),
  KEY transactions_contract (chain, contract)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE clients (
  ip            VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  count         BIGINT UNSIGNED NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE chains (
  chain            BIGINT UNSIGNED NOT NULL PRIMARY KEY,
  root_key         CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  root_number      BIGINT UNSIGNED NOT NULL,
  head_key         CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  head_number      BIGINT UNSIGNED NOT NULL,
  safe_number      BIGINT UNSIGNED NULL,
  finalized_number BIGINT UNSIGNED NULL,
  halted           VARCHAR(255) NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE heads (
  chain         BIGINT UNSIGNED NOT NULL,
  observer      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  node          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  head_key      CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  head_number   BIGINT UNSIGNED NOT NULL,
  before_key    CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  before_number BIGINT UNSIGNED NULL,
  safe_key      CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  safe_number   BIGINT UNSIGNED NULL,
  finalized_key CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  finalized_number BIGINT UNSIGNED NULL,
  reported_at   BIGINT NOT NULL,
  PRIMARY KEY (chain, observer)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE gaps (
  chain         BIGINT UNSIGNED NOT NULL,
  observer      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  from_number   BIGINT UNSIGNED NOT NULL,
  to_number     BIGINT UNSIGNED NOT NULL,
  reason        VARCHAR(255) NOT NULL,
  reported_at   BIGINT NOT NULL,
  PRIMARY KEY (chain, observer, from_number, to_number)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE feed (
  seq           BIGINT UNSIGNED NOT NULL PRIMARY KEY,
  kind          VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  chain         BIGINT UNSIGNED NOT NULL,
  `key`         CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  number        BIGINT UNSIGNED NULL,
  to_number     BIGINT UNSIGNED NULL,
  status        VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
  was           VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
  note          VARCHAR(255) NULL,
  at            BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE feed_counter (
  id            TINYINT UNSIGNED NOT NULL PRIMARY KEY,
  last_seq      BIGINT UNSIGNED NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

INSERT INTO feed_counter (id, last_seq) VALUES (1, 0);
