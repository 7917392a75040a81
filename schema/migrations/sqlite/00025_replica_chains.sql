-- What a replica that was taken back, or that changed over to another writer, knows beforehand of the feed that it follows:
-- rows of the chain up to the seq told are in already, and blocks up to the height foreign_to may be here as another
-- writer had them; NULL where none are. Chain 0 is that of bare payloads.

-- +goose Up
CREATE TABLE IF NOT EXISTS replica_chains (
  chain       INTEGER NOT NULL,
  told        INTEGER NOT NULL,
  foreign_to  INTEGER NULL,
  PRIMARY KEY (chain)
) STRICT;
