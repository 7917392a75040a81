-- What operators did to this database by hand. Detail is JSON.

-- +goose Up
CREATE TABLE IF NOT EXISTS audit (
  id      BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  at      BIGINT NOT NULL,
  actor   VARCHAR(255) NOT NULL,
  action  VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  detail  MEDIUMBLOB NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
