-- One row where the database is a replica: whose feed it follows, the last row of it that is applied here, and the link
-- up to there (docs/REPLICAS.md). Source is the epoch of the writer's feed. Epoch is that of the feed served from here
-- once rows of several feeds, or of one feed twice, are in it; NULL while it is the writer's row by row. Was is the epoch
-- before that one, whose rows up to since are the same.

-- +goose Up
CREATE TABLE IF NOT EXISTS replica (
  id          INT NOT NULL,
  env         VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  role        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  source      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  seq         BIGINT UNSIGNED NOT NULL,
  link        CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  epoch       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  was         VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  since       BIGINT UNSIGNED NOT NULL DEFAULT 0,
  updated_at  BIGINT NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
