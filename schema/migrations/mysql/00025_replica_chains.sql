-- What a replica that was taken back, or that changed over to another writer, knows beforehand of the feed that it follows:
-- rows of the chain up to the seq told are in already, and blocks up to the height foreign_to may be here as another
-- writer had them; NULL where none are. Chain 0 is that of bare payloads.

-- +goose Up
CREATE TABLE IF NOT EXISTS replica_chains (
  chain       BIGINT UNSIGNED NOT NULL,
  told        BIGINT UNSIGNED NOT NULL,
  foreign_to  BIGINT UNSIGNED NULL,
  PRIMARY KEY (chain)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
