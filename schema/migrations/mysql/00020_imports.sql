-- What was imported from elsewhere and must not be a second time.

-- +goose Up
CREATE TABLE IF NOT EXISTS imports (
  source       VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  imported_at  BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
