-- The last batch of each writer that only counted what was stored already: it tells a writer that lost the answer to its
-- COMMIT whether that held. Rows go with their writer.

-- +goose Up
CREATE TABLE IF NOT EXISTS ingest_marks (
  writer  BLOB NOT NULL CHECK (length(writer) = 16),
  batch   BLOB NOT NULL CHECK (length(batch) = 16),
  at      INTEGER NOT NULL,
  PRIMARY KEY (writer)
) STRICT, WITHOUT ROWID;
