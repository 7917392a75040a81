-- How many bare payloads came from each address.

-- +goose Up
CREATE TABLE IF NOT EXISTS clients (
  ip     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  count  BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (ip)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
