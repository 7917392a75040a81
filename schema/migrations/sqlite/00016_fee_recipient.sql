-- Who is paid for a block, as its header says; NULL for the zero address, bare payloads and blocks stored before this
-- column was there.

-- +goose Up
ALTER TABLE records ADD COLUMN fee_recipient TEXT NULL CHECK (length(fee_recipient) = 40);
