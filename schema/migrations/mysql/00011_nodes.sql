-- Each observer's latest view of each of its nodes. Since is by the observer's clock, reported_at by the store's. Height
-- and lag are NULL while unknown; latencies are milliseconds.

-- +goose Up
CREATE TABLE IF NOT EXISTS nodes (
  observer     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  chain        BIGINT UNSIGNED NOT NULL,
  node         VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  state        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  reason       VARCHAR(255) NOT NULL,
  height       BIGINT UNSIGNED NULL,
  lag          BIGINT UNSIGNED NULL,
  latency_p50  DOUBLE NULL,
  latency_p99  DOUBLE NULL,
  since        BIGINT NOT NULL,
  cordoned     TINYINT UNSIGNED NOT NULL,
  reported_at  BIGINT NOT NULL,
  PRIMARY KEY (observer, chain, node),
  KEY nodes_node (node, observer, chain)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
