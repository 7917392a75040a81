-- Where each chain stands: the canonical branch runs from root to head without a gap. Every change to a row is made under
-- the lock on feed_counter. While halted says why, nothing of the chain changes status.

-- +goose Up
CREATE TABLE IF NOT EXISTS chains (
  chain             INTEGER NOT NULL,
  root_key          TEXT NOT NULL CHECK (length(root_key) = 64),
  root_number       INTEGER NOT NULL,
  root_parent       TEXT NOT NULL CHECK (length(root_parent) = 64),
  head_key          TEXT NOT NULL CHECK (length(head_key) = 64),
  head_number       INTEGER NOT NULL,
  safe_number       INTEGER NULL,
  finalized_number  INTEGER NULL,
  halted            TEXT NULL CHECK (length(halted) <= 255),
  PRIMARY KEY (chain)
) STRICT;
