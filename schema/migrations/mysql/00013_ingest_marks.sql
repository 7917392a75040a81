-- The last batch of each writer that only counted what was stored already: it tells a writer that lost the answer to its
-- COMMIT whether that held. Rows go with their writer.

-- +goose Up
CREATE TABLE IF NOT EXISTS ingest_marks (
  writer  BINARY(16) NOT NULL,
  batch   BINARY(16) NOT NULL,
  at      BIGINT NOT NULL,
  PRIMARY KEY (writer)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
