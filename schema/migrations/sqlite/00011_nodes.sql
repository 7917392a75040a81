-- Each observer's latest view of each of its nodes. Since is by the observer's clock, reported_at by the store's. Height
-- and lag are NULL while unknown; latencies are milliseconds.

-- +goose Up
CREATE TABLE IF NOT EXISTS nodes (
  observer     TEXT NOT NULL CHECK (length(observer) <= 64),
  chain        INTEGER NOT NULL,
  node         TEXT NOT NULL CHECK (length(node) <= 64),
  state        TEXT NOT NULL CHECK (length(state) <= 64),
  reason       TEXT NOT NULL CHECK (length(reason) <= 255),
  height       INTEGER NULL,
  lag          INTEGER NULL,
  latency_p50  REAL NULL,
  latency_p99  REAL NULL,
  since        INTEGER NOT NULL,
  cordoned     INTEGER NOT NULL,
  reported_at  INTEGER NOT NULL,
  PRIMARY KEY (observer, chain, node)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS nodes_node ON nodes (node, observer, chain);
