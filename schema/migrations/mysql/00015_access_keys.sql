-- Access keys. The digest is the SHA-256 of the secret in hex; the secret is kept nowhere. Observer is empty for keys that
-- are not an observer's.

-- +goose Up
CREATE TABLE IF NOT EXISTS access_keys (
  id          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  digest      CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  scope       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  observer    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  label       VARCHAR(255) NOT NULL,
  created_at  BIGINT NOT NULL,
  revoked_at  BIGINT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
