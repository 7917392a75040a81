-- What was imported from elsewhere and must not be a second time.

-- +goose Up
CREATE TABLE IF NOT EXISTS imports (
  source       TEXT NOT NULL CHECK (length(source) <= 128),
  imported_at  INTEGER NOT NULL,
  PRIMARY KEY (source)
) STRICT, WITHOUT ROWID;
