-- Transitions of nodes as observers' pools decided them, kept for a day. The unique key makes a report that is sent again
-- change nothing. At is by the observer's clock, received_at by the store's.

-- +goose Up
CREATE TABLE IF NOT EXISTS node_events (
  id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  observer     TEXT NOT NULL CHECK (length(observer) <= 64),
  node         TEXT NOT NULL CHECK (length(node) <= 64),
  chain        INTEGER NOT NULL,
  from_state   TEXT NOT NULL CHECK (length(from_state) <= 64),
  to_state     TEXT NOT NULL CHECK (length(to_state) <= 64),
  reason       TEXT NOT NULL CHECK (length(reason) <= 255),
  at           INTEGER NOT NULL,
  received_at  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS node_events_transition ON node_events (observer, node, chain, at, to_state);
CREATE INDEX IF NOT EXISTS node_events_node ON node_events (node, id);
CREATE INDEX IF NOT EXISTS node_events_received ON node_events (received_at);
