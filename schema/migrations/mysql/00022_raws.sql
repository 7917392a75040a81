-- The JSON with which its node showed a block, and its receipts, as the first observer sent it: gzip of the object that
-- docs/WIRE.md describes. Only blocks of observers that were told to send it have a row.

-- +goose Up
CREATE TABLE IF NOT EXISTS raws (
  record  BIGINT UNSIGNED NOT NULL,
  body    MEDIUMBLOB NOT NULL,
  PRIMARY KEY (record)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
