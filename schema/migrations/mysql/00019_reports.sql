-- What observers said besides blocks, as the JSON of their S frames, until the judge has taken it in.

-- +goose Up
CREATE TABLE IF NOT EXISTS reports (
  id           BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  observer     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  report       MEDIUMBLOB NOT NULL,
  received_at  BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
