-- When retention emptied a record's payload, in microseconds; NULL while it is as it was received, which may be empty too.

-- +goose Up
ALTER TABLE records ADD COLUMN payload_pruned_at BIGINT NULL;
