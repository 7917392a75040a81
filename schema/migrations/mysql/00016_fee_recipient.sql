-- Who is paid for a block, as its header says; NULL for the zero address, bare payloads and blocks stored before this
-- column was there.

-- +goose Up
ALTER TABLE records ADD COLUMN fee_recipient CHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL;
