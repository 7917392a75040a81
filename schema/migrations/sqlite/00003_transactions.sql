-- Summaries of the transactions of every stored block, siblings included. Value is wei as 32 bytes big-endian, so that
-- byte order is numeric order. Gas used, status and contract are NULL when no receipt could be had.

-- +goose Up
CREATE TABLE IF NOT EXISTS transactions (
  id         INTEGER NOT NULL PRIMARY KEY,
  chain      INTEGER NOT NULL,
  block      TEXT NOT NULL CHECK (length(block) = 64),
  hash       TEXT NOT NULL CHECK (length(hash) = 64),
  number     INTEGER NOT NULL,
  tx_index   INTEGER NOT NULL,
  sender     TEXT NOT NULL CHECK (length(sender) = 40),
  recipient  TEXT NULL CHECK (length(recipient) = 40),
  value      BLOB NOT NULL CHECK (length(value) = 32),
  gas_used   INTEGER NULL,
  tx_status  INTEGER NULL,
  contract   TEXT NULL CHECK (length(contract) = 40)
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS transactions_block_hash ON transactions (block, hash);
CREATE INDEX IF NOT EXISTS transactions_hash ON transactions (hash);
CREATE INDEX IF NOT EXISTS transactions_sender ON transactions (chain, sender, number, tx_index);
CREATE INDEX IF NOT EXISTS transactions_recipient ON transactions (chain, recipient, number, tx_index);
CREATE INDEX IF NOT EXISTS transactions_contract ON transactions (chain, contract);
