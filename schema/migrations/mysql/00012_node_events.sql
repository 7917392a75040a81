-- Transitions of nodes as observers' pools decided them, kept for a day. The unique key makes a report that is sent again
-- change nothing. At is by the observer's clock, received_at by the store's.

-- +goose Up
CREATE TABLE IF NOT EXISTS node_events (
  id           BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  observer     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  node         VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  chain        BIGINT UNSIGNED NOT NULL,
  from_state   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  to_state     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  reason       VARCHAR(255) NOT NULL,
  at           BIGINT NOT NULL,
  received_at  BIGINT NOT NULL,
  UNIQUE KEY node_events_transition (observer, node, chain, at, to_state),
  KEY node_events_node (node, id),
  KEY node_events_received (received_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
