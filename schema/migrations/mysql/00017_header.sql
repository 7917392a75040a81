-- A block's header as its observer sent it, in RLP: what hashes to the block's key. NULL for bare payloads and for blocks
-- stored before this column was there.

-- +goose Up
ALTER TABLE records ADD COLUMN header MEDIUMBLOB NULL;
