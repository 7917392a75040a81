-- One row where the database is a replica: whose feed it follows, the last row of it that is applied here, and the link
-- up to there (docs/REPLICAS.md). Source is the epoch of the writer's feed. Epoch is that of the feed served from here
-- once rows of several feeds, or of one feed twice, are in it; NULL while it is the writer's row by row. Was is the epoch
-- before that one, whose rows up to since are the same.

-- +goose Up
CREATE TABLE IF NOT EXISTS replica (
  id          INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  env         TEXT NOT NULL CHECK (length(env) <= 64),
  role        TEXT NOT NULL CHECK (length(role) <= 64),
  source      TEXT NOT NULL CHECK (length(source) <= 64),
  seq         INTEGER NOT NULL,
  link        TEXT NOT NULL CHECK (length(link) IN (0, 64)),
  epoch       TEXT NULL CHECK (length(epoch) <= 64),
  was         TEXT NULL CHECK (length(was) <= 64),
  since       INTEGER NOT NULL DEFAULT 0,
  updated_at  INTEGER NOT NULL
) STRICT;
