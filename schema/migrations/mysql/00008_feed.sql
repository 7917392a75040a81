-- The log of state changes, append only. Seq starts at 1 and has no gaps: it is the one cursor to follow, not an id.

-- +goose Up
CREATE TABLE IF NOT EXISTS feed (
  seq        BIGINT UNSIGNED NOT NULL,
  kind       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  chain      BIGINT UNSIGNED NOT NULL,
  `key`      CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  number     BIGINT UNSIGNED NULL,
  to_number  BIGINT UNSIGNED NULL,
  status     VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
  was        VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
  note       VARCHAR(255) NULL,
  at         BIGINT NOT NULL,
  PRIMARY KEY (seq)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
