-- Blocks whose status nobody has decided yet: a writer that leaves that to the judge adds them in the transaction that
-- stores them, as non_canonical; the judge takes them away.

-- +goose Up
CREATE TABLE IF NOT EXISTS unplaced (
  record  INTEGER NOT NULL PRIMARY KEY
) STRICT;
