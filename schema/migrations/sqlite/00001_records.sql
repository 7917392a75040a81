-- Times are INTEGER microseconds since 1970 UTC; hashes and addresses are lower-case hex without 0x; wei is 32 bytes
-- big-endian, so that byte order is numeric order.

-- +goose Up
CREATE TABLE records (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  chain         INTEGER NOT NULL,
  "key"         TEXT NOT NULL,
  number        INTEGER NULL,
  parent        TEXT NULL,
  status        TEXT NULL,
  block_time    INTEGER NULL,
  observed_at   INTEGER NULL,
  received_at   INTEGER NOT NULL,
  content_type  TEXT NOT NULL,
  payload       BLOB NOT NULL,
  observer      TEXT NULL,
  node          TEXT NULL,
  origin        TEXT NULL,
  server        TEXT NOT NULL,
  remote        TEXT NOT NULL,
  token         BLOB NOT NULL
);
CREATE UNIQUE INDEX records_chain_key ON records (chain, "key");
CREATE INDEX records_chain_number ON records (chain, number, id);
CREATE INDEX records_chain_parent ON records (chain, parent);
CREATE INDEX records_received ON records (received_at, id);

CREATE TABLE observations (
  record        INTEGER NOT NULL,
  observer      TEXT NOT NULL,
  node          TEXT NOT NULL,
  server        TEXT NOT NULL,
  origin        TEXT NOT NULL,
  observed_at   INTEGER NOT NULL,
  received_at   INTEGER NOT NULL,
  PRIMARY KEY (record, observer)
);
CREATE INDEX observations_observer ON observations (observer, received_at);

CREATE TABLE transactions (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  chain         INTEGER NOT NULL,
  block         TEXT NOT NULL,
  hash          TEXT NOT NULL,
  number        INTEGER NOT NULL,
  tx_index      INTEGER NOT NULL,
  sender        TEXT NOT NULL,
  recipient     TEXT NULL,
  value         BLOB NOT NULL,
  gas_used      INTEGER NULL,
  tx_status     INTEGER NULL,
  contract      TEXT NULL
);
CREATE UNIQUE INDEX transactions_block_hash ON transactions (block, hash);
CREATE INDEX transactions_hash ON transactions (hash);
CREATE INDEX transactions_sender ON transactions (chain, sender, number, tx_index);
CREATE INDEX transactions_recipient ON transactions (chain, recipient, number, tx_index);
CREATE INDEX transactions_contract ON transactions (chain, contract);

CREATE TABLE clients (
  ip            TEXT NOT NULL PRIMARY KEY,
  count         INTEGER NOT NULL
);

CREATE TABLE chains (
  chain            INTEGER NOT NULL PRIMARY KEY,
  root_key         TEXT NOT NULL,
  root_number      INTEGER NOT NULL,
  head_key         TEXT NOT NULL,
  head_number      INTEGER NOT NULL,
  safe_number      INTEGER NULL,
  finalized_number INTEGER NULL,
  halted           TEXT NULL
);

CREATE TABLE heads (
  chain         INTEGER NOT NULL,
  observer      TEXT NOT NULL,
  node          TEXT NOT NULL,
  head_key      TEXT NOT NULL,
  head_number   INTEGER NOT NULL,
  before_key    TEXT NULL,
  before_number INTEGER NULL,
  safe_key      TEXT NULL,
  safe_number   INTEGER NULL,
  finalized_key TEXT NULL,
  finalized_number INTEGER NULL,
  reported_at   INTEGER NOT NULL,
  PRIMARY KEY (chain, observer)
);

CREATE TABLE gaps (
  chain         INTEGER NOT NULL,
  observer      TEXT NOT NULL,
  from_number   INTEGER NOT NULL,
  to_number     INTEGER NOT NULL,
  reason        TEXT NOT NULL,
  reported_at   INTEGER NOT NULL,
  PRIMARY KEY (chain, observer, from_number, to_number)
);

CREATE TABLE feed (
  seq           INTEGER NOT NULL PRIMARY KEY,
  kind          TEXT NOT NULL,
  chain         INTEGER NOT NULL,
  "key"         TEXT NULL,
  number        INTEGER NULL,
  to_number     INTEGER NULL,
  status        TEXT NULL,
  was           TEXT NULL,
  note          TEXT NULL,
  at            INTEGER NOT NULL
);

CREATE TABLE feed_counter (
  id            INTEGER NOT NULL PRIMARY KEY,
  last_seq      INTEGER NOT NULL
);

INSERT INTO feed_counter (id, last_seq) VALUES (1, 0);
